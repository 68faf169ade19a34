import { type Agent, type Dispatcher, errors, request } from "undici";
import { billOf } from "./provider-bill.ts";

export const MODELS = ["gpt-4o-mini", "mistral-small-latest"] as const;

export interface Question {
  readonly model: (typeof MODELS)[number];
  readonly stream: boolean;
  readonly content: string;
  readonly maxTokens?: number;
}

/** What became of a question, as the caller can tell. */
export type Reply =
  /** All of it came, up to the body's end or `[DONE]`; `cost` is what the vendor's count in it comes to. */
  | { readonly kind: "whole"; readonly requestId: string; readonly stream: boolean; readonly cost: bigint }
  /** The stream ended with an error event. */
  | { readonly kind: "cut"; readonly code: string }
  | {
      readonly kind: "refused";
      readonly status: number;
      readonly headers: Dispatcher.ResponseData["headers"];
      readonly error: Refusal;
    }
  /** The connection broke, or there was none. */
  | { readonly kind: "gone" };

export interface Refusal {
  readonly message: string;
  readonly type: string;
  readonly code: string;
  readonly details?: Readonly<Record<string, unknown>>;
}

interface WireUsage {
  readonly prompt_tokens: number;
  readonly completion_tokens: number;
  readonly prompt_tokens_details?: { readonly cached_tokens?: number } | null;
}

/** Asks a gateway one question, with the secret of a key, and tells what became of it. Throws for an answer that may not be. */
export async function ask(agent: Agent, url: string, secret: string, question: Question): Promise<Reply> {
  const { model, stream, content, maxTokens } = question;
  let answer: Dispatcher.ResponseData;
  let text: string;
  try {
    answer = await request(`${url}/v1/chat/completions`, {
      method: "POST",
      dispatcher: agent,
      headers: { "content-type": "application/json", authorization: `Bearer ${secret}` },
      body: JSON.stringify({
        model,
        messages: [{ role: "user", content }],
        ...(maxTokens !== undefined && { max_tokens: maxTokens }),
        ...(stream && { stream, stream_options: { include_usage: true } }),
      }),
    });
    text = await answer.body.text();
  } catch (error) {
    if (isBroken(error)) return { kind: "gone" };
    throw error;
  }
  const { headers } = answer;
  if (answer.statusCode !== 200)
    return {
      kind: "refused",
      status: answer.statusCode,
      headers,
      error: (JSON.parse(text) as { error: Refusal }).error,
    };
  const requestId = String(headers["x-request-id"]);
  if (!stream) return { kind: "whole", requestId, stream, cost: costIn(model, JSON.parse(text)) };
  // Comments keep a connection alive and say nothing.
  const events = text.split("\n\n").filter((event) => event !== "" && !event.startsWith(":"));
  const last = events.pop();
  const fault = last?.startsWith("event: error\ndata: ") ? last.slice("event: error\ndata: ".length) : undefined;
  if (fault !== undefined) return { kind: "cut", code: (JSON.parse(fault) as { error: Refusal }).error.code };
  // A connection that closes without a word is a cut too, and undici would have thrown; so this is a stream's end that says nothing.
  if (last !== "data: [DONE]") throw new Error(`A stream ended without [DONE] and without an error: ${last}`);
  return { kind: "whole", requestId, stream, cost: costIn(model, JSON.parse(events.at(-1)!.slice("data: ".length))) };
}

function costIn(model: string, answer: unknown): bigint {
  const { usage } = answer as { usage?: WireUsage };
  if (usage === undefined) throw new Error("An answer without usage.");
  return billOf(model, {
    promptTokens: usage.prompt_tokens,
    cachedTokens: usage.prompt_tokens_details?.cached_tokens ?? 0,
    completionTokens: usage.completion_tokens,
  });
}

const BROKEN_CODES = new Set([
  "ECONNREFUSED",
  "ECONNRESET",
  "EPIPE",
  "UND_ERR_SOCKET",
  "UND_ERR_CLOSED",
  "UND_ERR_DESTROYED",
]);

/** The server's process ended; anything else that a client throws is a finding. */
function isBroken(error: unknown): boolean {
  if (error instanceof errors.SocketError) return true;
  const code = error instanceof Error && "code" in error ? error.code : undefined;
  return typeof code === "string" && BROKEN_CODES.has(code);
}
