import { editJsonDocument, type JsonDocument, type JsonEdit } from "../../lib/json-document.ts";
import {
  commonEdits,
  limitOutput,
  operationPaths,
  type OpenAiCompatibleOptions,
  probeRequest,
  providerHeaders,
} from "../openai-compatible/openai-compatible.ts";
import { isRecord, readJson, textOf } from "../openai-compatible/vendor-answer.ts";
import { describeFault } from "../openai-compatible/vendor-fault.ts";
import type { Provider } from "../provider.ts";
import { readHeadroom } from "../rate-limit-headroom.ts";
import { missingHere, missingInEmbeddings } from "./missing-fields.ts";

/**
 * Mistral speaks OpenAI's form with differences. It refuses fields it does not know (422), so the ones that OpenAI's SDKs
 * send are mapped where it has the same under another name, and taken out where they change nothing in the answer. Usage
 * comes in a stream's last chunk without being asked for. Everything else goes out as the caller wrote it.
 */
const WITHOUT_EFFECT = [
  "stream_options",
  "user",
  "store",
  "service_tier",
  "safety_identifier",
  "prompt_cache_retention",
];
/** Without effect while they say nothing: OpenAI's SDKs and its own answers carry them so. */
const EMPTY_WITHOUT_EFFECT = ["logit_bias", "logprobs", "top_logprobs", "audio", "functions", "function_call"];
/** What there is without the field. */
const MEDIUM: ReadonlySet<unknown> = new Set([null, "medium"]);
const EMPTY_IN_MESSAGES: ReadonlySet<string> = new Set(["refusal", "audio", "annotations", "function_call"]);
/** What vendors show of a model's thoughts, and do not read when it is sent back. */
const THOUGHTS: ReadonlySet<string> = new Set(["reasoning_content", "reasoning"]);

export function createMistral(options: OpenAiCompatibleOptions): Provider {
  const base = new URL(options.baseUrl).pathname.replace(/\/$/, "");
  const paths = operationPaths(base);
  const headers = providerHeaders(options.apiKey);
  return {
    name: options.name,
    simulated: options.simulated,
    defaultModel: options.defaultModel,
    baseUrl: options.baseUrl,
    continuation: options.continuation ?? "prefix",
    prepare: (operation, document, model, maxOutputTokens) => {
      const edits = commonEdits(document, model);
      for (const field of WITHOUT_EFFECT) if (document.members.has(field)) edits.set(field, "remove");
      if (operation === "chat") {
        for (const field of EMPTY_WITHOUT_EFFECT)
          if (document.members.has(field) && saysNothing(document.value[field])) edits.set(field, "remove");
        if (document.members.has("verbosity") && MEDIUM.has(document.value["verbosity"]))
          edits.set("verbosity", "remove");
        if (isTextOnly(document.value["modalities"]) && document.members.has("modalities"))
          edits.set("modalities", "remove");
        renameField(document, edits, "seed", "random_seed");
        limitOutput(document, edits, "max_tokens", maxOutputTokens);
        translateMessages(document, edits);
      } else renameField(document, edits, "dimensions", "output_dimension");
      return { path: paths[operation], headers, body: editJsonDocument(document, edits) };
    },
    unfit: (operation, document) => {
      const missing = operation === "chat" ? missingHere(document.value) : missingInEmbeddings(document.value);
      return missing === undefined ? undefined : `${options.name} has no ${missing}`;
    },
    probe: () => probeRequest(base, headers),
    readFault: (status, responseHeaders, body) => {
      const parsed = readJson(body);
      const error = isRecord(parsed) ? parsed : {};
      const { message, param } = readMessage(error["message"] ?? error["detail"]);
      // A limit of 0 means that the account has no allowance at all; it will not come back by waiting.
      const noAllowance = status === 429 && LIMIT_HEADERS.some((name) => responseHeaders[name] === "0");
      return describeFault(options.name, status, responseHeaders, {
        message,
        type: noAllowance ? "insufficient_quota" : textOf(error["type"]),
        code: textOf(error["code"]),
        param: textOf(error["param"]) ?? param,
      });
    },
    readHeadroom: (responseHeaders) => {
      const now = readHeadroom(responseHeaders, HEADROOM_HEADERS);
      return now ?? readHeadroom(responseHeaders, OLDER_HEADROOM_HEADERS);
    },
  };
}

const HEADROOM_HEADERS = {
  requests: { limit: "x-ratelimit-limit-req-minute", remaining: "x-ratelimit-remaining-req-minute" },
  tokens: { limit: "x-ratelimit-limit-tokens-minute", remaining: "x-ratelimit-remaining-tokens-minute" },
};
const OLDER_HEADROOM_HEADERS = {
  requests: { limit: "x-ratelimitbysize-limit-req-minute", remaining: "x-ratelimitbysize-remaining-req-minute" },
  tokens: { limit: "x-ratelimitbysize-limit-minute", remaining: "x-ratelimitbysize-remaining-minute" },
};
const LIMIT_HEADERS = [
  HEADROOM_HEADERS.requests.limit,
  HEADROOM_HEADERS.tokens.limit,
  "x-ratelimit-limit-tokens-month",
  OLDER_HEADROOM_HEADERS.requests.limit,
  OLDER_HEADROOM_HEADERS.tokens.limit,
];

/** null, false, 0, "", [] or {}. */
const saysNothing = (value: unknown): boolean =>
  !value || (typeof value === "object" && Object.keys(value).length === 0);

const isTextOnly = (modalities: unknown): boolean =>
  modalities == null || (Array.isArray(modalities) && modalities.every((kind) => kind === "text"));

/** A null would be refused under the new name, and what the caller wrote under it stands. */
function renameField(document: JsonDocument, edits: Map<string, JsonEdit>, name: string, renameTo: string): void {
  if (!document.members.has(name)) return;
  const goes = document.members.has(renameTo) || document.value[name] === null;
  edits.set(name, goes ? "remove" : { renameTo });
}

/** A developer is a system here, sound is text by itself, and what other vendors' answers carry beside what was said is no field. */
function translateMessages(document: JsonDocument, edits: Map<string, JsonEdit>): void {
  const messages = document.value["messages"];
  if (!Array.isArray(messages) || !messages.some(needsTranslation)) return;
  edits.set("messages", {
    set: messages.map((message: unknown) => {
      if (!isRecord(message) || !needsTranslation(message)) return message;
      const kept = Object.fromEntries(Object.entries(message).filter(([name]) => !isNoField(message, name)));
      const { content } = kept;
      return {
        ...kept,
        ...(message["role"] === "developer" && { role: "system" }),
        ...(Array.isArray(content) && {
          content: content.map((part: unknown) =>
            isWrappedSound(part) ? { ...part, input_audio: part.input_audio.data } : part,
          ),
        }),
      };
    }),
  });
}

const needsTranslation = (message: unknown): boolean =>
  isRecord(message) &&
  (message["role"] === "developer" ||
    Object.keys(message).some((name) => isNoField(message, name)) ||
    (Array.isArray(message["content"]) && message["content"].some(isWrappedSound)));

const isNoField = (message: Readonly<Record<string, unknown>>, name: string): boolean =>
  THOUGHTS.has(name) || (EMPTY_IN_MESSAGES.has(name) && saysNothing(message[name]));

/** With its format beside it, which is told by the sound itself here. */
const isWrappedSound = (part: unknown): part is { readonly input_audio: { readonly data: string } } =>
  isRecord(part) && isRecord(part["input_audio"]) && typeof part["input_audio"]["data"] === "string";

/** `message` is a text, or for a body that did not validate an object `{detail: [{type, loc, msg}]}`. */
function readMessage(message: unknown): { message: string | undefined; param: string | undefined } {
  const details = isRecord(message) ? message["detail"] : message;
  if (!Array.isArray(details)) return { message: textOf(details), param: undefined };
  const faults = details.filter(isRecord).map((fault) => {
    const path = Array.isArray(fault["loc"]) ? fault["loc"].filter((part) => part !== "body").join(".") : "";
    return { path, text: [path, textOf(fault["msg"])].filter(Boolean).join(": ") };
  });
  return { message: textOf(faults.map((fault) => fault.text).join("; ")), param: faults[0]?.path || undefined };
}
