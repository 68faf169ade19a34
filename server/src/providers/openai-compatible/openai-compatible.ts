import { editJsonDocument, type JsonDocument, type JsonEdit } from "../../lib/json-document.ts";
import { type Operation, type Provider, ProviderError, type ProviderFault, type ResponseHeaders } from "../provider.ts";
import { readRetryAfter } from "../retry-after.ts";

/**
 * A provider that speaks OpenAI's wire form: the caller's bytes go out as they came, but for the model's name, Brikk's own
 * fields, and the usage that is always asked for in streams.
 */
export interface OpenAiCompatibleOptions {
  readonly name: string;
  readonly baseUrl: string;
  readonly apiKey: string;
  readonly defaultModel: string;
  readonly simulated: boolean;
}

export function createOpenAiCompatible(options: OpenAiCompatibleOptions): Provider {
  const base = new URL(options.baseUrl).pathname.replace(/\/$/, "");
  const paths: Record<Operation, string> = { chat: `${base}/chat/completions`, embeddings: `${base}/embeddings` };
  const headers = providerHeaders(options.apiKey);
  return {
    name: options.name,
    simulated: options.simulated,
    defaultModel: options.defaultModel,
    baseUrl: options.baseUrl,
    continuation: "instruct",
    prepare: (operation, document, model, maxOutputTokens) => {
      const edits = commonEdits(document, model);
      if (maxOutputTokens !== undefined) limitOutput(document, edits, maxOutputTokens);
      if (operation === "chat" && document.value["stream"] === true) {
        const asked = document.value["stream_options"];
        const before = typeof asked === "object" && asked !== null ? asked : {};
        if (!("include_usage" in before && before.include_usage === true))
          edits.set("stream_options", { set: { ...before, include_usage: true } });
      }
      return { path: paths[operation], headers, body: editJsonDocument(document, edits) };
    },
    readFault: (status, responseHeaders, body) => readOpenAiFault(options.name, status, responseHeaders, body),
  };
}

export const providerHeaders = (apiKey: string): Readonly<Record<string, string>> => ({
  authorization: `Bearer ${apiKey}`,
  "content-type": "application/json",
  accept: "application/json, text/event-stream",
  "user-agent": "brikk",
});

/** What is Brikk's own in a request and no vendor's. */
export function commonEdits(document: JsonDocument, model: string): Map<string, JsonEdit> {
  const edits = new Map<string, JsonEdit>();
  if (document.value["model"] !== model) edits.set("model", { set: model });
  if (document.members.has("models")) edits.set("models", "remove");
  return edits;
}

/** Under the names that the caller used; else under the one that every chat model takes today. */
function limitOutput(document: JsonDocument, edits: Map<string, JsonEdit>, maxOutputTokens: number): void {
  const used = ["max_completion_tokens", "max_tokens"].filter((name) => typeof document.value[name] === "number");
  for (const name of used.length > 0 ? used : ["max_completion_tokens"]) edits.set(name, { set: maxOutputTokens });
}

/** `{"error": {message, type, code, param}}`, or whatever came in its place. */
function readOpenAiFault(provider: string, status: number, headers: ResponseHeaders, body: Buffer): ProviderError {
  const parsed = readJson(body);
  const error = isRecord(parsed) && isRecord(parsed["error"]) ? parsed["error"] : {};
  return describeFault(provider, status, headers, {
    message: textOf(error["message"]),
    type: textOf(error["type"]),
    code: textOf(error["code"]),
    param: textOf(error["param"]),
  });
}

export interface VendorFault {
  readonly message: string | undefined;
  readonly type: string | undefined;
  readonly code: string | undefined;
  readonly param: string | undefined;
}

const QUOTA = /insufficient_quota|credit_balance|spend_limit|billing/;

/** Status and code -> what it means for the request. One table for every vendor whose statuses mean what HTTP says. */
export function describeFault(
  provider: string,
  status: number,
  headers: ResponseHeaders,
  vendor: VendorFault,
): ProviderError {
  const retryAfterMs = readRetryAfter(headers);
  const info = {
    provider,
    status,
    ...(vendor.message === undefined ? {} : { vendorMessage: vendor.message }),
    ...(vendor.type === undefined ? {} : { vendorType: vendor.type }),
    ...(vendor.code === undefined ? {} : { vendorCode: vendor.code }),
    ...(vendor.param === undefined ? {} : { param: vendor.param }),
    ...(retryAfterMs === undefined ? {} : { retryAfterMs }),
  };
  const fault = faultOf(status, `${vendor.type ?? ""} ${vendor.code ?? ""}`);
  return new ProviderError(fault, `The provider answered with status ${status}.`, info);
}

function faultOf(status: number, vendorWords: string): ProviderFault {
  if (status === 401 || status === 403) return "credentials";
  if (status === 402) return "quota";
  if (status === 429) return QUOTA.test(vendorWords) ? "quota" : "rate-limited";
  if (status === 408 || status >= 500) return "overloaded";
  if (status >= 400) return "refused";
  return "unusable";
}

export function readJson(body: Buffer): unknown {
  try {
    return JSON.parse(body.toString("utf8"));
  } catch {
    // A body that is not what was promised is told by what is missing from it.
    return undefined;
  }
}

export const isRecord = (value: unknown): value is Record<string, unknown> =>
  typeof value === "object" && value !== null && !Array.isArray(value);
export const textOf = (value: unknown): string | undefined =>
  typeof value === "string" && value !== ""
    ? value.slice(0, 2_000)
    : typeof value === "number"
      ? String(value)
      : undefined;
