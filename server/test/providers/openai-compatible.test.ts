import assert from "node:assert/strict";
import { test } from "node:test";
import { parseJsonDocument } from "../../src/lib/json-document.ts";
import { createOpenAiCompatible } from "../../src/providers/openai-compatible/openai-compatible.ts";
import type { Operation, ProviderFault, ResponseHeaders } from "../../src/providers/provider.ts";

const PLAIN = { id: "m", reasons: false };
const provider = createOpenAiCompatible({
  name: "acme",
  baseUrl: "https://api.acme.test/v1/",
  apiKey: "sk-own",
  defaultModel: "m",
  simulated: false,
});
const sent = (text: string, model = "m", operation: Operation = "chat"): string =>
  provider
    .prepare(operation, parseJsonDocument(Buffer.from(text)), { id: model, reasons: false })
    .body.toString("utf8");
const fault = (status: number, body: unknown, headers: ResponseHeaders = {}) =>
  provider.readFault(status, headers, Buffer.from(typeof body === "string" ? body : JSON.stringify(body)));

test("a request goes to the operation's path under the base address, with the gateway's own key", () => {
  const document = parseJsonDocument(Buffer.from('{"model":"m"}'));
  const chat = provider.prepare("chat", document, PLAIN);
  assert.equal(chat.path, "/v1/chat/completions");
  assert.equal(chat.headers["authorization"], "Bearer sk-own");
  assert.equal(chat.headers["content-type"], "application/json");
  assert.equal(provider.prepare("embeddings", document, PLAIN).path, "/v1/embeddings");
});

test("a base address without a path puts the operation at the root", () => {
  const bare = createOpenAiCompatible({
    name: "acme",
    baseUrl: "http://127.0.0.1:9",
    apiKey: "k",
    defaultModel: "m",
    simulated: true,
  });
  assert.equal(bare.prepare("chat", parseJsonDocument(Buffer.from("{}")), PLAIN).path, "/chat/completions");
});

test("a plain request whose model is named as the provider names it goes out as the very same bytes", () => {
  const text =
    ' {"model" : "m" , "x_unknown": 12345678901234567890, "messages":[{"role":"user","content":"\\u00e9 日"}]}\n';
  const bytes = Buffer.from(text);
  assert.equal(provider.prepare("chat", parseJsonDocument(bytes), PLAIN).body, bytes);
});

const edits: readonly [string, string, string, Operation, string][] = [
  ["the model is named as the provider names it", '{"model":"acme/m","a":1}', "m", "chat", '{"model":"m","a":1}'],
  ["Brikk's own list of models stays here", '{"model":"m","models":["x"],"a":1}', "m", "chat", '{"model":"m","a":1}'],
  [
    "usage is always asked for in a stream",
    '{"model":"m","stream":true}',
    "m",
    "chat",
    '{"model":"m","stream":true,"stream_options":{"include_usage":true}}',
  ],
  [
    "usage is asked for beside other stream options",
    '{"model":"m","stream":true,"stream_options":{"include_obfuscation":false}}',
    "m",
    "chat",
    '{"model":"m","stream":true,"stream_options":{"include_obfuscation":false,"include_usage":true}}',
  ],
  [
    "a caller's refusal of usage is overridden",
    '{"model":"m","stream":true,"stream_options":{"include_usage":false}}',
    "m",
    "chat",
    '{"model":"m","stream":true,"stream_options":{"include_usage":true}}',
  ],
  [
    "stream options of null",
    '{"model":"m","stream":true,"stream_options":null}',
    "m",
    "chat",
    '{"model":"m","stream":true,"stream_options":{"include_usage":true}}',
  ],
  [
    "a stream that asks for usage itself is left alone",
    '{"model":"m", "stream":true,"stream_options":{ "include_usage":true }}',
    "m",
    "chat",
    '{"model":"m", "stream":true,"stream_options":{ "include_usage":true }}',
  ],
  ["no stream, no stream options", '{"model":"m","stream":false}', "m", "chat", '{"model":"m","stream":false}'],
  [
    "an embedding has no usage to ask for",
    '{"model":"m","input":"x","stream":true}',
    "m",
    "embeddings",
    '{"model":"m","input":"x","stream":true}',
  ],
];
for (const [what, text, model, operation, expected] of edits) {
  test(`what goes out: ${what}`, () => {
    assert.equal(sent(text, model, operation), expected);
  });
}

const faults: readonly [number, unknown, ProviderFault][] = [
  [
    400,
    { error: { message: "bad", type: "invalid_request_error", code: "context_length_exceeded", param: "messages" } },
    "refused",
  ],
  [401, { error: { message: "wrong key" } }, "credentials"],
  [402, {}, "quota"],
  [403, { error: { code: "unsupported_country_region_territory" } }, "credentials"],
  [404, { error: { code: "model_not_found" } }, "refused"],
  [408, {}, "timeout"],
  [413, {}, "refused"],
  [422, {}, "refused"],
  [429, { error: { type: "requests", code: "rate_limit_exceeded" } }, "rate-limited"],
  [429, { error: { type: "insufficient_quota", code: "insufficient_quota" } }, "quota"],
  [429, { error: { code: "billing_hard_limit_reached" } }, "quota"],
  [429, "<html>slow down</html>", "rate-limited"],
  [500, "", "overloaded"],
  [502, "<html>bad gateway</html>", "overloaded"],
  [503, "null", "overloaded"],
  [529, { error: null }, "overloaded"],
  [201, {}, "unusable"],
  [302, "", "unusable"],
];
for (const [status, body, expected] of faults) {
  test(`status ${status} with ${JSON.stringify(body).slice(0, 60)} is ${expected}`, () => {
    const error = fault(status, body);
    assert.equal(error.fault, expected);
    assert.equal(error.info.status, status);
    assert.equal(error.info.provider, "acme");
  });
}

test("the vendor's words are kept apart from the error's own message", () => {
  const error = fault(400, {
    error: { message: "n is too large", type: "invalid_request_error", code: 1234, param: "n" },
  });
  assert.deepEqual(error.info, {
    provider: "acme",
    status: 400,
    vendorMessage: "n is too large",
    vendorType: "invalid_request_error",
    vendorCode: "1234",
    param: "n",
  });
  assert.doesNotMatch(error.message, /too large/);
});

test("a body that is not what was promised is survived", () => {
  for (const body of [
    "",
    "null",
    "[]",
    '"text"',
    "{",
    '{"error":"a text"}',
    '{"error":[1]}',
    '{"error":{"message":{"a":1}}}',
    "\u0000\uffff",
  ]) {
    const error = fault(400, body);
    assert.equal(error.fault, "refused");
    assert.equal(error.info.vendorMessage, undefined);
  }
  assert.equal(provider.readFault(400, {}, Buffer.from([0xff, 0xfe])).fault, "refused");
});

test("a vendor's endless message is cut", () => {
  assert.equal(fault(400, { error: { message: "x".repeat(100_000) } }).info.vendorMessage?.length, 2_000);
});

test("Retry-After is read from the fault's headers", () => {
  assert.equal(fault(429, {}, { "retry-after": "7" }).info.retryAfterMs, 7_000);
});
