import { hexIdentifier } from "../identifier.ts";
import { RequestWindow } from "../request-window.ts";
import { openaiChatAnswer, openaiChatEvents, readOpenaiChat } from "./openai-chat.ts";
import { openaiEmbeddingsAnswer, readOpenaiEmbeddings } from "./openai-embeddings.ts";
import { openaiError } from "./openai-errors.ts";
import type { OpenaiError } from "./openai-errors.ts";
import type { HeaderFields, Protocol } from "./protocol.ts";

const MODELS = [
  "gpt-5",
  "gpt-5-mini",
  "gpt-5-nano",
  "gpt-4.1",
  "gpt-4.1-mini",
  "gpt-4.1-nano",
  "gpt-4o",
  "gpt-4o-mini",
  "o3",
  "o4-mini",
  "text-embedding-3-small",
  "text-embedding-3-large",
];
const MODELS_CREATED = 1_744_316_542;

const LIMIT_REQUESTS = 10_000;
const LIMIT_TOKENS = 30_000_000;

/** OpenAI's protocol, with rate-limit counters of its own. */
export function openaiProtocol(): Protocol {
  const window = new RequestWindow();
  return {
    vendor: "openai",
    readChat: readOpenaiChat,
    chatAnswer: openaiChatAnswer,
    chatEvents: openaiChatEvents,
    readEmbeddings: readOpenaiEmbeddings,
    embeddingsAnswer: openaiEmbeddingsAnswer,
    models: () => ({
      object: "list",
      data: MODELS.map((id) => ({ id, object: "model", created: MODELS_CREATED, owned_by: "system" })),
    }),
    headers(usage, elapsedMs) {
      const used = window.count(usage.promptTokens + usage.completionTokens);
      return {
        "x-request-id": `req_${hexIdentifier()}`,
        "openai-processing-ms": String(Math.max(1, Math.round(elapsedMs))),
        "openai-version": "2020-10-01",
        "openai-organization": "brikk-simulated",
        "x-ratelimit-limit-requests": String(LIMIT_REQUESTS),
        "x-ratelimit-limit-tokens": String(LIMIT_TOKENS),
        "x-ratelimit-remaining-requests": String(Math.max(0, LIMIT_REQUESTS - used.requests)),
        "x-ratelimit-remaining-tokens": String(Math.max(0, LIMIT_TOKENS - used.tokens)),
        "x-ratelimit-reset-requests": `${Math.ceil((used.requests * 60_000) / LIMIT_REQUESTS)}ms`,
        "x-ratelimit-reset-tokens": `${Math.ceil((used.tokens * 60_000) / LIMIT_TOKENS)}ms`,
      };
    },
    unauthorized: (key) =>
      openaiError(
        401,
        key === undefined
          ? { message: "No API key was given: send it as a bearer token in the Authorization header." }
          : { message: `Incorrect API key provided: ${maskKey(key)}.`, code: "invalid_api_key" },
      ),
    notJson: () => openaiError(400, { message: "The JSON body of the request could not be parsed." }),
    tooLarge: () => openaiError(413, { message: "The body of the request is too large." }),
    promptTooLong: (limit) =>
      openaiError(400, {
        message: `This model's maximum context length is ${limit} tokens, and the messages are longer.`,
        param: "messages",
        code: "context_length_exceeded",
      }),
    unknownPath: (method, path) => openaiError(404, { message: `Invalid URL (${method} ${path})` }),
    failure: (status) => openaiError(status, failureOf(status)),
    quotaSpent: () =>
      openaiError(429, {
        message: "The quota of this organization is spent; check its plan and billing.",
        type: "insufficient_quota",
        code: "insufficient_quota",
      }),
    noAllowance: () => ({ ...openaiError(429, failureOf(429)), headers: NO_ALLOWANCE }),
    contentRefused: () =>
      openaiError(400, {
        message: "The request was refused, because its content goes against the usage policies.",
        code: "content_policy_violation",
      }),
    streamError: () => ({
      error: {
        message: "The server had an error while producing the answer.",
        type: "server_error",
        param: null,
        code: null,
      },
    }),
  };
}

const NO_ALLOWANCE: HeaderFields = {
  "x-ratelimit-limit-requests": "0",
  "x-ratelimit-remaining-requests": "0",
  "x-ratelimit-limit-tokens": "0",
  "x-ratelimit-remaining-tokens": "0",
};

function failureOf(status: number): OpenaiError {
  switch (status) {
    case 401:
      return { message: "Incorrect API key provided.", code: "invalid_api_key" };
    case 403:
      return {
        message: "This key may not use this resource.",
        code: "unsupported_country_region_territory",
        type: "request_forbidden",
      };
    case 404:
      return { message: "The model does not exist or this key has no access to it.", code: "model_not_found" };
    case 408:
      return { message: "The request timed out.", type: "timeout" };
    case 429:
      return {
        message: "Rate limit reached for this model; try again shortly.",
        type: "requests",
        code: "rate_limit_exceeded",
      };
    case 503:
      return { message: "The model is overloaded; try again shortly.", type: "server_error", code: "overloaded" };
    default:
      return status >= 500
        ? { message: "The server had an error while processing the request.", type: "server_error" }
        : { message: "The request is not valid." };
  }
}

function maskKey(key: string): string {
  return key.length <= 12 ? "*".repeat(key.length) : `${key.slice(0, 8)}${"*".repeat(8)}${key.slice(-4)}`;
}
