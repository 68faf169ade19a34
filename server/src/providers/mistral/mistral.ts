import { editJsonDocument } from "../../lib/json-document.ts";
import {
  commonEdits,
  describeFault,
  isRecord,
  providerHeaders,
  readJson,
  textOf,
  type OpenAiCompatibleOptions,
} from "../openai-compatible/openai-compatible.ts";
import type { Operation, Provider } from "../provider.ts";

/**
 * Mistral speaks OpenAI's form with differences. It refuses fields it does not know (422), so the ones that OpenAI's SDKs
 * send are mapped where it has the same under another name, and taken out where they change nothing in the answer. Usage
 * comes in a stream's last chunk without being asked for. Everything else goes out as the caller wrote it.
 */
const RENAMED: readonly (readonly [string, string])[] = [
  ["max_completion_tokens", "max_tokens"],
  ["seed", "random_seed"],
];
const WITHOUT_EFFECT = [
  "stream_options",
  "user",
  "store",
  "service_tier",
  "safety_identifier",
  "prompt_cache_retention",
  "verbosity",
];

export function createMistral(options: OpenAiCompatibleOptions): Provider {
  const base = new URL(options.baseUrl).pathname.replace(/\/$/, "");
  const paths: Record<Operation, string> = { chat: `${base}/chat/completions`, embeddings: `${base}/embeddings` };
  const headers = providerHeaders(options.apiKey);
  return {
    name: options.name,
    simulated: options.simulated,
    defaultModel: options.defaultModel,
    baseUrl: options.baseUrl,
    continuation: "prefix",
    prepare: (operation, document, model, maxOutputTokens) => {
      const edits = commonEdits(document, model);
      for (const field of WITHOUT_EFFECT) if (document.members.has(field)) edits.set(field, "remove");
      for (const [theirs, ours] of RENAMED) {
        if (!document.members.has(theirs)) continue;
        edits.set(
          theirs,
          document.members.has(ours) || document.value[theirs] === null ? "remove" : { renameTo: ours },
        );
      }
      if (maxOutputTokens !== undefined) {
        edits.set("max_tokens", { set: maxOutputTokens });
        if (document.members.has("max_completion_tokens")) edits.set("max_completion_tokens", "remove");
      }
      const messages = document.value["messages"];
      if (
        operation === "chat" &&
        Array.isArray(messages) &&
        messages.some((message) => isRecord(message) && message["role"] === "developer")
      ) {
        edits.set("messages", {
          set: messages.map((message: unknown) =>
            isRecord(message) && message["role"] === "developer" ? { ...message, role: "system" } : message,
          ),
        });
      }
      return { path: paths[operation], headers, body: editJsonDocument(document, edits) };
    },
    readFault: (status, responseHeaders, body) => {
      const parsed = readJson(body);
      const error = isRecord(parsed) ? parsed : {};
      const { message, param } = readMessage(error["message"] ?? error["detail"]);
      // A limit of 0 means that the account has no allowance at all; it will not come back by waiting.
      const noAllowance =
        status === 429 &&
        (responseHeaders["x-ratelimit-limit-req-minute"] === "0" ||
          responseHeaders["x-ratelimit-limit-tokens-minute"] === "0");
      return describeFault(options.name, status, responseHeaders, {
        message,
        type: noAllowance ? "insufficient_quota" : textOf(error["type"]),
        code: textOf(error["code"]),
        param: textOf(error["param"]) ?? param,
      });
    },
  };
}

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
