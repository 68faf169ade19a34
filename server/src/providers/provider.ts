import type { JsonDocument } from "../lib/json-document.ts";
import type { UpstreamRequest } from "./transport.ts";

/**
 * What a provider is to the rest of the gateway: where a request goes, in which form, and what its refusals mean. The inner
 * form is OpenAI's chat-completions wire form; an adapter whose vendor differs converts. Adapters are pure: they make and
 * read bytes, the transport moves them.
 */
export interface Provider {
  readonly name: string;
  /** True when the simulator answers in the vendor's place. */
  readonly simulated: boolean;
  /** Serves /agents and the router. */
  readonly defaultModel: string;
  readonly baseUrl: string;
  /** With a limit, no answer may be longer, whatever the document says. */
  prepare(operation: Operation, document: JsonDocument, model: string, maxOutputTokens?: number): UpstreamRequest;
  /** Why this wire form cannot carry what the document asks for; undefined when it can. */
  unfit?(operation: Operation, document: JsonDocument): string | undefined;
  /** Reads an answer whose status is not 200; survives any body. */
  readFault(status: number, headers: ResponseHeaders, body: Buffer): ProviderError;
}

export type Operation = "chat" | "embeddings";
export type ResponseHeaders = Readonly<Record<string, string | string[] | undefined>>;

export type ProviderFault =
  /** Too many requests; another time or another provider will do. */
  | "rate-limited"
  /** The gateway's account has nothing left; waiting does not help. */
  | "quota"
  /** 5xx and kin. */
  | "overloaded"
  /** The caller's own mistake: status and message are passed on, nobody else is asked. */
  | "refused"
  | "timeout"
  | "unreachable"
  /** The stream ended before the answer did. */
  | "stream-broken"
  /** A 200 that is no answer. */
  | "unusable"
  /** The provider does not take the gateway's own credentials. */
  | "credentials";

export interface ProviderFaultInfo {
  readonly provider: string;
  /** The vendor's own status; absent when there was no answer. */
  readonly status?: number;
  /** The vendor's own words, shown to the caller only when the mistake is the caller's. */
  readonly vendorMessage?: string;
  readonly vendorCode?: string;
  readonly vendorType?: string;
  readonly param?: string;
  readonly retryAfterMs?: number;
  /** What the vendor counted for an answer that is of no use, as it stood on the wire. */
  readonly wireUsage?: unknown;
  readonly cause?: unknown;
}

/** The one error that providers and their transport throw. */
export class ProviderError extends Error {
  override readonly name = "ProviderError";
  readonly fault: ProviderFault;
  readonly info: ProviderFaultInfo;

  constructor(fault: ProviderFault, message: string, info: ProviderFaultInfo) {
    super(message, info.cause === undefined ? undefined : { cause: info.cause });
    this.fault = fault;
    this.info = info;
  }

  /** Whether the next candidate may be asked: everything but the caller's own mistake. */
  get isCallers(): boolean {
    return this.fault === "refused";
  }
}
