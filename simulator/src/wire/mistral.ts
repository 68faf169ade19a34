import { randomUUID } from "node:crypto";
import { RequestWindow } from "../request-window.ts";
import { mistralChatAnswer, mistralChatEvents, readMistralChat } from "./mistral-chat.ts";
import { mistralEmbeddingsAnswer, readMistralEmbeddings } from "./mistral-embeddings.ts";
import { mistralError } from "./mistral-errors.ts";
import type { HeaderFields, Protocol, Reply } from "./protocol.ts";

const MODELS = [
  "mistral-large-latest",
  "mistral-medium-latest",
  "mistral-small-latest",
  "magistral-medium-latest",
  "codestral-latest",
  "devstral-small-latest",
  "ministral-8b-latest",
  "ministral-3b-latest",
  "pixtral-large-latest",
  "open-mistral-nemo",
  "mistral-embed",
];
const MODELS_CREATED = 1_744_316_542;

const LIMIT_REQUESTS = 6000;
const LIMIT_TOKENS = 20_000_000;

/** Mistral's protocol, with rate-limit counters of its own. */
export function mistralProtocol(): Protocol {
  const window = new RequestWindow();
  return {
    vendor: "mistral",
    readChat: readMistralChat,
    chatAnswer: mistralChatAnswer,
    chatEvents: mistralChatEvents,
    readEmbeddings: readMistralEmbeddings,
    embeddingsAnswer: mistralEmbeddingsAnswer,
    models: () => ({ object: "list", data: MODELS.map(modelCard) }),
    headers(usage) {
      const cost = usage.promptTokens + usage.completionTokens;
      const used = window.count(cost);
      return {
        "mistral-correlation-id": randomUUID(),
        "x-ratelimit-limit-req-minute": String(LIMIT_REQUESTS),
        "x-ratelimit-remaining-req-minute": String(Math.max(0, LIMIT_REQUESTS - used.requests)),
        "x-ratelimit-limit-tokens-minute": String(LIMIT_TOKENS),
        "x-ratelimit-remaining-tokens-minute": String(Math.max(0, LIMIT_TOKENS - used.tokens)),
        "x-ratelimit-tokens-query-cost": String(cost),
      };
    },
    unauthorized: () => ({ status: 401, body: { detail: "Unauthorized" } }),
    notJson: () =>
      mistralError(400, "The JSON body of the request could not be parsed.", "invalid_request_error", null),
    tooLarge: () => mistralError(413, "The body of the request is too large.", "invalid_request_error", null),
    promptTooLong: (limit) =>
      mistralError(
        400,
        `The prompt is too large for a model with ${limit} maximum context length.`,
        "invalid_request_error",
        "3051",
      ),
    unknownPath: () => ({ status: 404, body: { detail: "Not Found" } }),
    failure: failureOf,
    // A plan that is used up and one that never allowed anything are told in the same words here.
    quotaSpent: noAllowance,
    noAllowance,
    contentRefused: () =>
      mistralError(400, "The request was refused by the content policy.", "content_policy_violation", null),
    streamError: () => ({
      object: "error",
      error: { message: "Service unavailable.", type: "internal_server_error", param: null, code: "3000" },
    }),
  };
}

/** A limit of 0 says that the plan allows nothing, so that waiting does not help. */
const NO_ALLOWANCE: HeaderFields = {
  "x-ratelimit-limit-req-minute": "0",
  "x-ratelimit-remaining-req-minute": "0",
  "x-ratelimit-limit-tokens-minute": "0",
  "x-ratelimit-remaining-tokens-minute": "0",
};

function noAllowance(): Reply {
  return { ...rateLimited(), headers: NO_ALLOWANCE };
}

function rateLimited(): Reply {
  return mistralError(429, "Rate limit exceeded", "rate_limited", "1300");
}

function failureOf(status: number): Reply {
  switch (status) {
    case 401:
      return { status, body: { detail: "Unauthorized" } };
    case 429:
      return rateLimited();
    default:
      return status >= 500
        ? mistralError(
            status,
            status === 503 ? "Service unavailable." : "Internal server error.",
            "internal_server_error",
            "3000",
          )
        : mistralError(status, "The request is not valid.", "invalid_request_error", null);
  }
}

function modelCard(id: string): unknown {
  const chats = id !== "mistral-embed";
  return {
    id,
    object: "model",
    created: MODELS_CREATED,
    owned_by: "mistralai",
    capabilities: {
      completion_chat: chats,
      completion_fim: id.startsWith("codestral"),
      function_calling: chats,
      fine_tuning: false,
      vision: id.startsWith("pixtral"),
    },
    name: id,
    description: chats ? "A simulated chat model." : "A simulated embedding model.",
    max_context_length: chats ? 128_000 : 8192,
    aliases: [],
    deprecation: null,
    type: "base",
  };
}
