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
  /** How an answer that was begun elsewhere is continued here: the beginning as the answer's prefix, or in words. */
  readonly continuation: "prefix" | "instruct";
  /**
   * The request in this provider's form: what it calls otherwise is renamed, what changes nothing in the answer and would be
   * refused is taken out, and all else stays. With a limit, no answer may be longer, whatever the document says.
   */
  prepare(operation: Operation, document: JsonDocument, model: TargetModel, maxOutputTokens?: number): UpstreamRequest;
  /**
   * Why this wire form cannot carry the request, such as "Mistral has no logit_bias"; undefined when it can. Only what would
   * change the answer counts. Such a request is for other candidates; asked all the same, the vendor will say so itself.
   */
  unfit(operation: Operation, document: JsonDocument): string | undefined;
  /** A request that costs nothing and shows whether the provider answers and takes our credentials: the list of models. */
  probe(): UpstreamRequest;
  /** Reads an answer whose status is not 200, or that holds an error in an answer's place all the same; survives any body. */
  readFault(status: number, headers: ResponseHeaders, body: Buffer): ProviderError;
  /** What is left of the account's rate limits, by the headers of any answer; undefined when they do not say. */
  readHeadroom(headers: ResponseHeaders): RateLimitHeadroom | undefined;
}

/** What an adapter must know of the model that is asked. */
export interface TargetModel {
  /** The vendor's name for it. */
  readonly id: string;
  /** It thinks before it speaks. */
  readonly reasons: boolean;
}

export interface RateLimitHeadroom {
  readonly requests?: Headroom;
  readonly tokens?: Headroom;
}

export interface Headroom {
  readonly limit: number;
  readonly remaining: number;
  /** Until the limit is whole again; absent when the vendor does not say. */
  readonly resetMs?: number;
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
  /** The vendor does not have the model (any more, or for this account): another candidate may serve; the only one's words are passed on. */
  | "model-missing"
  /** No connection came about in time. */
  | "connect-timeout"
  /** A stream said nothing for too long before its first output; heartbeats are not output. */
  | "first-token-timeout"
  /** A stream said nothing for too long after it had begun. */
  | "idle-timeout"
  /** An answer that does not stream was not whole in time. */
  | "attempt-timeout"
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

  /** The caller's own mistake: no other candidate is asked. */
  get isCallers(): boolean {
    return this.fault === "refused";
  }

  /** The provider is well all the same: it has read the request and said why it does not serve it. */
  get isAnswer(): boolean {
    return this.fault === "refused" || this.fault === "model-missing";
  }
}
