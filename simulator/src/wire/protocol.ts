import type { ChatRequest } from "../chat-request.ts";
import type { ModelAnswer } from "../model-answers.ts";
import type { ServedUsage } from "../served-log.ts";
import type { StreamEvent } from "../stream-plan.ts";
import type { Vendor } from "../vendor.ts";

export type HeaderFields = Record<string, string>;

export interface Reply {
  readonly status: number;
  /** Sent as JSON. */
  readonly body: unknown;
  readonly headers?: HeaderFields;
}

/** Thrown by a protocol for a request that its vendor would refuse. */
export class Refusal extends Error {
  readonly reply: Reply;

  constructor(reply: Reply) {
    super(`refused with ${reply.status}`);
    this.name = "Refusal";
    this.reply = reply;
  }
}

export interface EmbeddingsRequest {
  readonly model: string;
  readonly inputs: readonly EmbeddingsInput[];
  readonly dimensions: number;
  readonly format: "float" | "base64";
}

export interface EmbeddingsInput {
  readonly text: string;
  readonly tokens: number;
}

/** One vendor's way of speaking. Readers throw a Refusal; everything else is a pure function of its arguments. */
export interface Protocol {
  readonly vendor: Vendor;
  readChat(body: unknown): ChatRequest;
  chatAnswer(request: ChatRequest, answer: ModelAnswer): unknown;
  chatEvents(request: ChatRequest, answer: ModelAnswer): StreamEvent[];
  readEmbeddings(body: unknown): EmbeddingsRequest;
  embeddingsAnswer(request: EmbeddingsRequest, data: readonly unknown[], tokens: number): unknown;
  models(): unknown;
  /** Headers of every answered request. */
  headers(usage: ServedUsage, elapsedMs: number): HeaderFields;
  unauthorized(key: string | undefined): Reply;
  notJson(): Reply;
  tooLarge(): Reply;
  promptTooLong(limit: number): Reply;
  unknownPath(method: string, path: string): Reply;
  /** The vendor's body for a status that a fault asks for. */
  failure(status: number): Reply;
  quotaSpent(): Reply;
  /** A rate limit of 0, which waiting does not mend either. */
  noAllowance(): Reply;
  contentRefused(): Reply;
  /** JSON that the vendor puts into a stream which has failed. */
  streamError(): unknown;
}
