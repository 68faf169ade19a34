import { editJsonDocument, type JsonDocument, type JsonEdit } from "../../lib/json-document.ts";
import type { Operation, Provider, ProviderError, ResponseHeaders, TargetModel } from "../provider.ts";
import { type HeadroomHeaders, readHeadroom } from "../rate-limit-headroom.ts";
import { foreignField, translateForeignFields } from "./foreign-fields.ts";
import { isRecord, readJson, textOf } from "./vendor-answer.ts";
import { describeFault, describeFaultInside } from "./vendor-fault.ts";

/**
 * A provider that speaks OpenAI's wire form: the caller's bytes go out as they came, but for the model's name, Brikk's own
 * fields, what was written for another wire form, and the usage that is always asked for in streams.
 */
export interface OpenAiCompatibleOptions {
  readonly name: string;
  readonly baseUrl: string;
  /** Undefined: no credentials are sent. */
  readonly apiKey: string | undefined;
  readonly defaultModel: string;
  readonly simulated: boolean;
  /** The vendor's own when absent. */
  readonly continuation?: "prefix" | "instruct";
  /** False for a server that refuses `stream_options`; true when absent. */
  readonly streamUsage?: boolean;
  /** The one name under which the server knows an answer's limit; undefined: OpenAI's own rule. */
  readonly outputLimit?: OutputLimitName | undefined;
}

export type OutputLimitName = "max_tokens" | "max_completion_tokens";

export function createOpenAiCompatible(options: OpenAiCompatibleOptions): Provider {
  const base = new URL(options.baseUrl).pathname.replace(/\/$/, "");
  const paths = operationPaths(base);
  const headers = providerHeaders(options.apiKey);
  const { continuation = "instruct", streamUsage = true, outputLimit } = options;
  return {
    name: options.name,
    simulated: options.simulated,
    defaultModel: options.defaultModel,
    baseUrl: options.baseUrl,
    continuation,
    prepare: (operation, document, model, maxOutputTokens) => {
      const edits = commonEdits(document, model);
      if (operation === "chat") {
        translateForeignFields(document, edits);
        limitOutput(document, edits, limitNameFor(outputLimit, model), maxOutputTokens);
        if (streamUsage) askForUsage(document, edits);
        else if (document.members.has("stream_options")) edits.set("stream_options", "remove");
      }
      return { path: paths[operation], headers, body: editJsonDocument(document, edits) };
    },
    unfit: (operation, document) => {
      const field = operation === "chat" ? foreignField(document, continuation === "prefix") : undefined;
      return field === undefined ? undefined : `${options.name} has no ${field}`;
    },
    probe: () => probeRequest(base, headers),
    readFault: (status, responseHeaders, body) => readOpenAiFault(options.name, status, responseHeaders, body),
    readHeadroom: (responseHeaders) => readHeadroom(responseHeaders, HEADROOM_HEADERS),
  };
}

export const operationPaths = (base: string): Readonly<Record<Operation, string>> => ({
  chat: `${base}/chat/completions`,
  embeddings: `${base}/embeddings`,
});

export const providerHeaders = (apiKey: string | undefined): Readonly<Record<string, string>> => ({
  ...(apiKey !== undefined && { authorization: `Bearer ${apiKey}` }),
  "content-type": "application/json",
  accept: "application/json, text/event-stream",
  "user-agent": "brikk",
});

const NO_BODY = Buffer.alloc(0);

export function probeRequest(base: string, headers: Readonly<Record<string, string>>) {
  return { method: "GET", path: `${base}/models`, headers, body: NO_BODY } as const;
}

const headroomHeaders = (of: string): HeadroomHeaders => ({
  limit: `x-ratelimit-limit-${of}`,
  remaining: `x-ratelimit-remaining-${of}`,
  reset: `x-ratelimit-reset-${of}`,
});
const HEADROOM_HEADERS = { requests: headroomHeaders("requests"), tokens: headroomHeaders("tokens") };

/** What is Brikk's own in a request and no vendor's. */
export function commonEdits(document: JsonDocument, model: TargetModel): Map<string, JsonEdit> {
  const edits = new Map<string, JsonEdit>();
  if (document.value["model"] !== model.id) edits.set("model", { set: model.id });
  if (document.members.has("models")) edits.set("models", "remove");
  return edits;
}

/** OpenAI's models that think refuse the older name; its others take both. */
const limitNameFor = (only: OutputLimitName | undefined, model: TargetModel): OutputLimitName | undefined =>
  only ?? (model.reasons ? "max_completion_tokens" : undefined);

const LIMIT_NAMES = ["max_completion_tokens", "max_tokens"] as const;

/**
 * The answer's limit under the name that is obeyed: `only`, or where both are, those that the caller used. A limit that the
 * provider does not obey would let it bill more than was reserved.
 */
export function limitOutput(
  document: JsonDocument,
  edits: Map<string, JsonEdit>,
  only: OutputLimitName | undefined,
  maxOutputTokens: number | undefined,
): void {
  const used: readonly OutputLimitName[] = LIMIT_NAMES.filter((name) => typeof document.value[name] === "number");
  if (only === undefined) {
    if (maxOutputTokens === undefined) return;
    for (const name of used.length > 0 ? used : [LIMIT_NAMES[0]]) edits.set(name, { set: maxOutputTokens });
    return;
  }
  for (const other of LIMIT_NAMES) {
    if (other === only || !document.members.has(other)) continue;
    // A null limits nothing, and would be refused under the other name.
    const moves = used.includes(other) && !used.includes(only);
    edits.set(other, moves && !document.members.has(only) ? { renameTo: only } : "remove");
    if (moves && document.members.has(only)) edits.set(only, { set: document.value[other] });
  }
  if (maxOutputTokens === undefined) return;
  for (const name of LIMIT_NAMES)
    if (name === only) edits.set(name, { set: maxOutputTokens });
    else if (document.members.has(name)) edits.set(name, "remove");
}

function askForUsage(document: JsonDocument, edits: Map<string, JsonEdit>): void {
  if (document.value["stream"] !== true) return;
  const asked = document.value["stream_options"];
  const before = isRecord(asked) ? asked : {};
  if (before["include_usage"] !== true) edits.set("stream_options", { set: { ...before, include_usage: true } });
}

/**
 * `{"error": {message, type, code, param}}`, or whatever came in its place. Resellers that have begun to work answer 200 and
 * say in the error's `code` what the status would have been.
 */
function readOpenAiFault(provider: string, status: number, headers: ResponseHeaders, body: Buffer): ProviderError {
  const parsed = readJson(body);
  const answer = isRecord(parsed) ? parsed : {};
  const error = errorIn(answer);
  const vendor = {
    message: textOf(error["message"]),
    type: textOf(error["type"]),
    code: textOf(error["code"]),
    param: textOf(error["param"]),
    moderated: isRecord(error["metadata"]) && Array.isArray(error["metadata"]["reasons"]),
  };
  return status === 200
    ? describeFaultInside(provider, headers, vendor, answer["usage"])
    : describeFault(provider, status, headers, vendor);
}

/** OpenAI's own form, or one of those that other servers answer with: the error without a wrapping, or its text alone. */
function errorIn(answer: Readonly<Record<string, unknown>>): Readonly<Record<string, unknown>> {
  const { error } = answer;
  if (isRecord(error)) return error;
  return answer["object"] === "error" ? answer : { message: error };
}
