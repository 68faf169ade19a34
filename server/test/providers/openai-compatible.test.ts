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
  [
    "a seed by its other name",
    '{"model":"m","random_seed":123456789012345678}',
    "m",
    "chat",
    '{"model":"m","seed":123456789012345678}',
  ],
  [
    "of two seeds the vendor's own stays",
    '{"model":"m","random_seed":1,"seed":2}',
    "m",
    "chat",
    '{"model":"m","seed":2}',
  ],
  [
    "what is written for another form and says nothing goes",
    '{"model":"m","safe_prompt":false,"prompt_mode":null,"guardrails":[],"random_seed":null,"a":1}',
    "m",
    "chat",
    '{"model":"m","a":1}',
  ],
  [
    "what is written for another form and changes the answer is not dropped in silence",
    '{"model":"m","safe_prompt":true}',
    "m",
    "chat",
    '{"model":"m","safe_prompt":true}',
  ],
  [
    "any tool is a required one here",
    '{"model":"m","tool_choice":"any"}',
    "m",
    "chat",
    '{"model":"m","tool_choice":"required"}',
  ],
  [
    "a picture's bare address is put into an object, and a prefix that is none goes",
    '{"model":"m","messages":[{"role":"user","content":[{"type":"image_url","image_url":"https://x/y.png"},{"type":"text","text":"?"}]},{"role":"assistant","content":"a","prefix":false}]}',
    "m",
    "chat",
    '{"model":"m","messages":[{"role":"user","content":[{"type":"image_url","image_url":{"url":"https://x/y.png"}},{"type":"text","text":"?"}]},{"role":"assistant","content":"a"}]}',
  ],
  [
    "both names of the output limit stay where both are known",
    '{"model":"m","max_tokens":5,"max_completion_tokens":6}',
    "m",
    "chat",
    '{"model":"m","max_tokens":5,"max_completion_tokens":6}',
  ],
  [
    "an embedding goes as it was written",
    '{"model":"m","random_seed":1,"input":"x"}',
    "m",
    "embeddings",
    '{"model":"m","random_seed":1,"input":"x"}',
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

const limits: readonly [
  what: string,
  request: object,
  options: { only?: "max_tokens" | "max_completion_tokens"; reasons?: boolean; limit?: number },
  expected: object,
][] = [
  ["a model that thinks knows only the newer name", { max_tokens: 5 }, { reasons: true }, { max_completion_tokens: 5 }],
  ["a null under the older name goes", { max_tokens: null }, { reasons: true }, {}],
  ["a server that obeys the older name alone", { max_completion_tokens: 5 }, { only: "max_tokens" }, { max_tokens: 5 }],
  [
    "of both, the one that is obeyed stays",
    { max_tokens: 4, max_completion_tokens: 5 },
    { only: "max_tokens" },
    { max_tokens: 4 },
  ],
  [
    "a null under the name that is obeyed is no limit",
    { max_tokens: null, max_completion_tokens: 5 },
    { only: "max_tokens" },
    { max_tokens: 5 },
  ],
  ["no limit, no name", {}, { only: "max_tokens" }, {}],
  [
    "a shorter limit is set under the name that is obeyed",
    { max_completion_tokens: 50 },
    { only: "max_tokens", limit: 5 },
    { max_tokens: 5 },
  ],
  ["a shorter limit where none was", {}, { only: "max_tokens", limit: 5 }, { max_tokens: 5 }],
  [
    "a shorter limit for a model that thinks",
    { max_tokens: 50 },
    { reasons: true, limit: 5 },
    { max_completion_tokens: 5 },
  ],
  ["a shorter limit under the caller's name where both are known", { max_tokens: 50 }, { limit: 5 }, { max_tokens: 5 }],
];
for (const [what, request, { only, reasons = false, limit }, expected] of limits) {
  test(`the output's limit: ${what}`, () => {
    const server = createOpenAiCompatible({
      name: "acme",
      baseUrl: "https://api.acme.test/v1",
      apiKey: undefined,
      defaultModel: "m",
      simulated: false,
      outputLimit: only,
    });
    const document = parseJsonDocument(Buffer.from(JSON.stringify({ model: "m", ...request })));
    const { body } = server.prepare("chat", document, { id: "m", reasons }, limit);
    assert.deepEqual(JSON.parse(body.toString("utf8")), { model: "m", ...expected });
  });
}

const keyless = createOpenAiCompatible({
  name: "own",
  baseUrl: "http://127.0.0.1:9/v1",
  apiKey: undefined,
  defaultModel: "m",
  simulated: false,
  streamUsage: false,
  continuation: "prefix",
});

test("without a key no credentials are sent", () => {
  const document = parseJsonDocument(Buffer.from('{"model":"m"}'));
  assert.ok(!("authorization" in keyless.prepare("chat", document, PLAIN).headers));
  assert.ok(!("authorization" in keyless.probe().headers));
});

test("a server that refuses to be asked for a stream's usage is not asked, whatever the caller wrote", () => {
  const asked = parseJsonDocument(Buffer.from('{"model":"m","stream":true,"stream_options":{"include_usage":true}}'));
  assert.equal(keyless.prepare("chat", asked, PLAIN).body.toString("utf8"), '{"model":"m","stream":true}');
});

test("a probe asks for the models and costs nothing", () => {
  const { method, path, headers, body } = provider.probe();
  assert.deepEqual([method, path, headers["authorization"], body.length], ["GET", "/v1/models", "Bearer sk-own", 0]);
});

const unfit: readonly [request: object, missing: RegExp | undefined][] = [
  [{ safe_prompt: true }, /acme has no safe_prompt/],
  [{ prompt_mode: "reasoning" }, /prompt_mode/],
  [{ guardrails: [{}] }, /guardrails/],
  [{ document_image_limit: 3 }, /document_image_limit/],
  [{ messages: [{ role: "assistant", content: "Once", prefix: true }] }, /prefix/],
  [{ messages: [{ role: "user", content: [{ type: "document_url", document_url: "https://x" }] }] }, /document_url/],
  [{ messages: [{ role: "user", content: [{ type: "input_audio", input_audio: "AAAA" }] }] }, /without its format/],
  [{ safe_prompt: false, prompt_mode: null, guardrails: [], random_seed: 1 }, undefined],
  [{ logit_bias: { 1: 1 }, logprobs: true, messages: [{ role: "user", content: "x" }] }, undefined],
  [{ messages: "x" }, undefined],
];
for (const [request, missing] of unfit) {
  test(`whether a request can be carried: ${JSON.stringify(request).slice(0, 70)}`, () => {
    const why = provider.unfit("chat", parseJsonDocument(Buffer.from(JSON.stringify({ model: "m", ...request }))));
    if (missing === undefined) assert.equal(why, undefined);
    else assert.match(why ?? "it can", missing);
  });
}

test("a server that continues prefixes is fit for one", () => {
  const document = parseJsonDocument(Buffer.from('{"messages":[{"role":"assistant","content":"a","prefix":true}]}'));
  assert.equal(keyless.unfit("chat", document), undefined);
  assert.equal(keyless.continuation, "prefix");
  assert.equal(provider.continuation, "instruct");
});

test("what is left of the rate limits is read from the headers, with the time until they are whole again", () => {
  const headers = (reset: string): ResponseHeaders => ({
    "x-ratelimit-limit-requests": "500",
    "x-ratelimit-remaining-requests": "499",
    "x-ratelimit-reset-requests": reset,
  });
  for (const [reset, resetMs] of [
    ["20ms", 20],
    ["1s", 1_000],
    ["6m0s", 360_000],
    ["2m59.56s", 179_560],
    ["1h0m1s", 3_601_000],
    ["1d2h", 93_600_000],
  ] as const)
    assert.deepEqual(provider.readHeadroom(headers(reset)), { requests: { limit: 500, remaining: 499, resetMs } });
  for (const reset of ["", "soon", "12", "-1s", "1s soon", "1".repeat(41)])
    assert.deepEqual(provider.readHeadroom(headers(reset)), { requests: { limit: 500, remaining: 499 } }, reset);
  assert.deepEqual(provider.readHeadroom({ "x-ratelimit-limit-tokens": "9", "x-ratelimit-remaining-tokens": "0" }), {
    tokens: { limit: 9, remaining: 0 },
  });
  for (const bad of [
    {},
    { "x-ratelimit-limit-tokens": "9" },
    { "x-ratelimit-limit-tokens": "many", "x-ratelimit-remaining-tokens": "1" },
  ])
    assert.equal(provider.readHeadroom(bad), undefined);
});

const faults: readonly [number, unknown, ProviderFault][] = [
  [
    400,
    { error: { message: "bad", type: "invalid_request_error", code: "context_length_exceeded", param: "messages" } },
    "refused",
  ],
  [401, { error: { message: "wrong key" } }, "credentials"],
  [402, {}, "quota"],
  [403, { error: { code: "unsupported_country_region_territory" } }, "credentials"],
  [404, { error: { code: "model_not_found" } }, "model-missing"],
  [404, { error: { message: "The model `x` does not exist.", type: "NotFoundError", code: 404 } }, "model-missing"],
  [404, { error: { message: "model 'x' not found", type: "not_found_error" } }, "model-missing"],
  [403, { error: { code: "model_not_found" } }, "credentials"],
  [404, "<html>not found</html>", "unusable"],
  [403, { error: { code: 403, message: "flagged", metadata: { reasons: ["violence"] } } }, "refused"],
  [402, { error: { message: "Insufficient Balance", type: "unknown_error", code: "invalid_request_error" } }, "quota"],
  [408, {}, "overloaded"],
  [409, {}, "overloaded"],
  [425, {}, "overloaded"],
  [413, {}, "refused"],
  [422, {}, "refused"],
  [429, { error: { type: "requests", code: "rate_limit_exceeded" } }, "rate-limited"],
  [429, { error: { type: "insufficient_quota", code: "insufficient_quota" } }, "quota"],
  [429, { error: { code: "billing_hard_limit_reached" } }, "quota"],
  [429, { error: { code: "credit_balance_exhausted" } }, "quota"],
  [429, { error: { code: "organization_spend_limit_exceeded" } }, "quota"],
  [429, { error: { code: "project_spend_limit_exceeded" } }, "quota"],
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

test("402 with a time to wait is a balance that is in use and comes back; without one it is empty", () => {
  assert.equal(fault(402, {}, { "retry-after": "2" }).fault, "rate-limited");
  assert.equal(fault(402, {}).fault, "quota");
});

const inside: readonly [unknown, ProviderFault, number][] = [
  [{ error: { code: 402, message: "Insufficient credits" } }, "quota", 402],
  [{ error: { code: 429, message: "slow down" } }, "rate-limited", 429],
  [{ error: { code: "400", message: "too long" } }, "refused", 400],
  [{ error: { code: 502, message: "the model is down" } }, "unusable", 200],
  [{ error: { type: "insufficient_quota" } }, "quota", 200],
  [{ error: { message: "odd" } }, "unusable", 200],
];
for (const [body, expected, status] of inside) {
  test(`an error in the place of a 200's answer is told apart: ${JSON.stringify(body)}`, () => {
    const error = fault(200, { ...(body as object), usage: { prompt_tokens: 3 } });
    assert.deepEqual([error.fault, error.info.status], [expected, status]);
    assert.deepEqual(error.info.wireUsage, { prompt_tokens: 3 });
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

test("errors without OpenAI's wrapping keep their words, as vLLM and Ollama send them", () => {
  const flat = fault(400, { object: "error", message: "too long", type: "BadRequestError", param: null, code: 400 });
  assert.deepEqual(
    [flat.fault, flat.info.vendorMessage, flat.info.vendorType],
    ["refused", "too long", "BadRequestError"],
  );
  assert.equal(fault(404, { error: "model 'm' not found" }).info.vendorMessage, "model 'm' not found");
});

test("a vendor's endless message is cut", () => {
  assert.equal(fault(400, { error: { message: "x".repeat(100_000) } }).info.vendorMessage?.length, 2_000);
});

test("Retry-After is read from the fault's headers", () => {
  assert.equal(fault(429, {}, { "retry-after": "7" }).info.retryAfterMs, 7_000);
});
