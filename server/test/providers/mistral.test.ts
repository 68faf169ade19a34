import assert from "node:assert/strict";
import { test } from "node:test";
import { parseJsonDocument } from "../../src/lib/json-document.ts";
import { createMistral } from "../../src/providers/mistral/mistral.ts";
import type { Operation, ProviderFault, ResponseHeaders } from "../../src/providers/provider.ts";

const PLAIN = { id: "m", reasons: false };
const provider = createMistral({
  name: "mistral",
  baseUrl: "https://api.mistral.test/v1",
  apiKey: "own",
  defaultModel: "m",
  simulated: false,
});
const sent = (text: string, operation: Operation = "chat"): string =>
  provider.prepare(operation, parseJsonDocument(Buffer.from(text)), PLAIN).body.toString("utf8");
const fault = (status: number, body: unknown, headers: ResponseHeaders = {}) =>
  provider.readFault(status, headers, Buffer.from(typeof body === "string" ? body : JSON.stringify(body)));

test("a request goes to the operation's path with the gateway's own key", () => {
  const document = parseJsonDocument(Buffer.from('{"model":"m"}'));
  assert.equal(provider.prepare("chat", document, PLAIN).path, "/v1/chat/completions");
  assert.equal(provider.prepare("embeddings", document, PLAIN).path, "/v1/embeddings");
  assert.equal(provider.prepare("chat", document, PLAIN).headers["authorization"], "Bearer own");
});

const mappings: readonly [string, string, string][] = [
  [
    "max_completion_tokens has another name here",
    '{"model":"m","max_completion_tokens": 20}',
    '{"model":"m","max_tokens": 20}',
  ],
  [
    "of two output limits the vendor's own stays",
    '{"model":"m","max_completion_tokens":20,"max_tokens":30}',
    '{"model":"m","max_tokens":30}',
  ],
  [
    "seed has another name here, and keeps all its digits",
    '{"model":"m","seed":12345678901234567890}',
    '{"model":"m","random_seed":12345678901234567890}',
  ],
  [
    "a null that would be refused under the new name goes",
    '{"model":"m","seed":null,"max_completion_tokens":null}',
    '{"model":"m"}',
  ],
  [
    "stream_options is not known here; usage comes anyway",
    '{"model":"m","stream":true,"stream_options":{"include_usage":true}}',
    '{"model":"m","stream":true}',
  ],
  [
    "what OpenAI's SDKs send and changes nothing goes",
    '{"model":"m","user":"u","store":true,"service_tier":"auto","safety_identifier":"s","prompt_cache_retention":"24h","verbosity":"low","a":1}',
    '{"model":"m","a":1}',
  ],
  ["Brikk's own list of models stays here", '{"model":"x","models":["y"]}', '{"model":"m"}'],
  [
    "a developer is a system here",
    '{"model":"m","messages":[{"role":"developer","content":"be brief"},{"role":"user","content":"x"}]}',
    '{"model":"m","messages":[{"role":"system","content":"be brief"},{"role":"user","content":"x"}]}',
  ],
  [
    "everything else goes as it was written",
    '{"model":"m", "safe_prompt" : true,"unknown":1.0,"messages":[{"role":"user","content":"\\u00e9"}]}',
    '{"model":"m", "safe_prompt" : true,"unknown":1.0,"messages":[{"role":"user","content":"\\u00e9"}]}',
  ],
];
for (const [what, text, expected] of mappings) {
  test(`what goes out: ${what}`, () => {
    assert.equal(sent(text), expected);
  });
}

const faults: readonly [string, number, unknown, ResponseHeaders, ProviderFault][] = [
  [
    "a rate limit",
    429,
    { object: "error", message: "Requests rate limit exceeded", type: "rate_limited", param: null, code: "1300" },
    {},
    "rate-limited",
  ],
  [
    "a rate limit while the allowance is not zero",
    429,
    { message: "slow down" },
    { "x-ratelimit-limit-req-minute": "60" },
    "rate-limited",
  ],
  ["an allowance of no requests", 429, { message: "slow down" }, { "x-ratelimit-limit-req-minute": "0" }, "quota"],
  ["an allowance of no tokens", 429, { message: "slow down" }, { "x-ratelimit-limit-tokens-minute": "0" }, "quota"],
  [
    "a zero allowance says nothing about other statuses",
    400,
    { message: "bad" },
    { "x-ratelimit-limit-req-minute": "0" },
    "refused",
  ],
  ["no credit", 402, {}, {}, "quota"],
  ["a wrong key", 401, { detail: "Unauthorized" }, {}, "credentials"],
  ["an invalid body", 422, { object: "error", message: { detail: [] }, type: "invalid_request_error" }, {}, "refused"],
  ["an HTML page", 502, "<html>bad gateway</html>", {}, "overloaded"],
  ["nothing at all", 503, "", {}, "overloaded"],
  ["a list", 400, [], {}, "refused"],
];
for (const [what, status, body, headers, expected] of faults) {
  test(`a fault is told apart: ${what}`, () => {
    assert.equal(fault(status, body, headers).fault, expected);
  });
}

test("a body that did not validate is put into words: which part, and why", () => {
  const { info } = fault(422, {
    object: "error",
    message: {
      detail: [
        { type: "extra_forbidden", loc: ["body", "foo"], msg: "Extra inputs are not permitted", input: 1 },
        { type: "missing", loc: ["body", "messages", 0, "content"], msg: "Field required" },
      ],
    },
    type: "invalid_request_error",
    code: null,
  });
  assert.equal(info.vendorMessage, "foo: Extra inputs are not permitted; messages.0.content: Field required");
  assert.equal(info.param, "foo");
  assert.equal(info.vendorType, "invalid_request_error");
});

const messages: readonly [string, unknown, string | undefined][] = [
  ["a text", { message: "Invalid model: x", code: "1500" }, "Invalid model: x"],
  ["FastAPI's bare list", { detail: [{ loc: ["body"], msg: "Field required" }] }, "Field required"],
  ["FastAPI's bare text", { detail: "Not Found" }, "Not Found"],
  ["an object with a text inside", { message: { detail: "odd" } }, "odd"],
  ["a list of things that are no faults", { message: { detail: [1, null, "x"] } }, undefined],
  ["a fault without words", { message: { detail: [{ loc: "body" }] } }, undefined],
  ["nothing", {}, undefined],
];
for (const [what, body, expected] of messages) {
  test(`the vendor's message is read from ${what}`, () => {
    assert.equal(fault(400, body).info.vendorMessage, expected);
  });
}
