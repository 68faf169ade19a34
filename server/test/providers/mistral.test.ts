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
    '{"model":"m","user":"u","store":true,"service_tier":"auto","safety_identifier":"s","prompt_cache_retention":"24h","verbosity":"medium","a":1}',
    '{"model":"m","a":1}',
  ],
  [
    "a limit beside a null under the vendor's name limits all the same",
    '{"model":"m","max_tokens":null,"max_completion_tokens":20}',
    '{"model":"m","max_tokens":20}',
  ],
  [
    "what OpenAI's SDKs carry without saying anything goes",
    '{"model":"m","logit_bias":{},"logprobs":false,"top_logprobs":0,"modalities":["text"],"audio":null,"functions":[],"a":1}',
    '{"model":"m","a":1}',
  ],
  [
    "an answer of OpenAI's that is sent back loses its empty fields",
    '{"model":"m","messages":[{"role":"assistant","content":"x","refusal":null,"annotations":[],"tool_calls":[]},{"role":"user","content":"y"}]}',
    '{"model":"m","messages":[{"role":"assistant","content":"x","tool_calls":[]},{"role":"user","content":"y"}]}',
  ],
  [
    "thoughts that another vendor has shown are not sent back",
    '{"model":"m","messages":[{"role":"assistant","content":"x","reasoning_content":"hm","reasoning":"hm"},{"role":"user","content":"y"}]}',
    '{"model":"m","messages":[{"role":"assistant","content":"x"},{"role":"user","content":"y"}]}',
  ],
  [
    "sound is text by itself here",
    '{"model":"m","messages":[{"role":"user","content":[{"type":"input_audio","input_audio":{"data":"AAAA","format":"wav"}}]}]}',
    '{"model":"m","messages":[{"role":"user","content":[{"type":"input_audio","input_audio":"AAAA"}]}]}',
  ],
  [
    "what changes the answer is not dropped in silence",
    '{"model":"m","logit_bias":{"1":-100},"logprobs":true,"verbosity":"low"}',
    '{"model":"m","logit_bias":{"1":-100},"logprobs":true,"verbosity":"low"}',
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

test("a model that is not there is told from what is wrong with the request", () => {
  assert.equal(fault(400, { message: "Invalid model: x", type: "invalid_model", code: "1500" }).fault, "model-missing");
  assert.equal(fault(400, { message: "Bad", type: "invalid_request_error", code: "3001" }).fault, "refused");
});

test("what goes out for embeddings: their length has another name here", () => {
  for (const [text, expected] of [
    ['{"model":"m","input":"x","dimensions":256}', '{"model":"m","input":"x","output_dimension":256}'],
    ['{"model":"m","input":"x","dimensions":null}', '{"model":"m","input":"x"}'],
    ['{"model":"m","dimensions":9,"output_dimension":256}', '{"model":"m","output_dimension":256}'],
  ] as const)
    assert.equal(sent(text, "embeddings"), expected);
});

test("embeddings of tokens are nothing that this form has", () => {
  const unfitFor = (input: unknown) =>
    provider.unfit("embeddings", parseJsonDocument(Buffer.from(JSON.stringify({ model: "m", input }))));
  assert.match(unfitFor([1, 2]) ?? "", /has no input of tokens/);
  assert.match(unfitFor([[1, 2]]) ?? "", /has no input of tokens/);
  assert.equal(unfitFor(["a", "b"]), undefined);
});

test("a limit on the output goes out under the vendor's name alone", () => {
  for (const text of ['{"model":"m"}', '{"model":"m","max_completion_tokens":9}', '{"model":"m","max_tokens":9}']) {
    const { body } = provider.prepare("chat", parseJsonDocument(Buffer.from(text)), PLAIN, 5);
    assert.deepEqual(JSON.parse(body.toString("utf8")), { model: "m", max_tokens: 5 });
  }
});

const unfit: readonly [request: object, missing: RegExp | undefined][] = [
  [{ logit_bias: { 50256: -100 } }, /has no logit_bias/],
  [{ logprobs: true }, /logprobs/],
  [{ top_logprobs: 2 }, /logprobs/],
  [{ modalities: ["text", "audio"], audio: { voice: "alloy" } }, /output but text/],
  [{ functions: [{ name: "f" }] }, /functions/],
  [{ function_call: "auto" }, /function_call/],
  [{ web_search_options: {} }, /web_search_options/],
  [{ temperature: 1.6 }, /temperature above 1\.5/],
  [{ reasoning_effort: "minimal" }, /reasoning_effort/],
  [{ verbosity: "low" }, /verbosity but medium/],
  [{ messages: [{ role: "user", name: "ann", content: "x" }] }, /name in messages but a tool's/],
  [{ messages: [{ role: "tool", name: "f", tool_call_id: "c", content: "x" }], verbosity: "medium" }, undefined],
  [{ tools: [{ type: "custom", custom: { name: "c" } }] }, /tools but functions/],
  [{ messages: [{ role: "function", name: "f", content: "x" }] }, /role function/],
  [{ messages: [{ role: "user", content: [{ type: "file", file: { file_id: "f" } }] }] }, /files/],
  [{}, undefined],
  [
    {
      logit_bias: {},
      logprobs: false,
      top_logprobs: 0,
      modalities: ["text"],
      audio: null,
      functions: [],
      function_call: null,
    },
    undefined,
  ],
  [
    {
      n: 2,
      temperature: 1.5,
      seed: 1,
      max_completion_tokens: 5,
      reasoning_effort: "high",
      response_format: { type: "json_object" },
      tools: [{ type: "function", function: { name: "f" } }],
      messages: [{ role: "developer", content: [{ type: "text", text: "x" }] }],
    },
    undefined,
  ],
];
for (const [request, missing] of unfit) {
  test(`whether a request can be carried: ${JSON.stringify(request).slice(0, 70)}`, () => {
    const why = provider.unfit("chat", parseJsonDocument(Buffer.from(JSON.stringify({ model: "m", ...request }))));
    if (missing === undefined) assert.equal(why, undefined);
    else assert.match(why ?? "it can", missing);
  });
}

test("an embedding request is never unfit", () => {
  assert.equal(provider.unfit("embeddings", parseJsonDocument(Buffer.from('{"logit_bias":{"1":1}}'))), undefined);
});

test("what is left of the rate limits is read from the headers, the older names too", () => {
  assert.deepEqual(
    provider.readHeadroom({
      "x-ratelimit-limit-req-minute": "60",
      "x-ratelimit-remaining-req-minute": "59",
      "x-ratelimit-limit-tokens-minute": "500000",
      "x-ratelimit-remaining-tokens-minute": "499000",
    }),
    { requests: { limit: 60, remaining: 59 }, tokens: { limit: 500_000, remaining: 499_000 } },
  );
  assert.deepEqual(
    provider.readHeadroom({ "x-ratelimitbysize-limit-minute": "500000", "x-ratelimitbysize-remaining-minute": "1" }),
    { tokens: { limit: 500_000, remaining: 1 } },
  );
  assert.equal(provider.readHeadroom({ "x-ratelimit-limit-req-minute": "60" }), undefined);
});

test("an answer that was begun elsewhere is continued as a prefix", () => {
  assert.equal(provider.continuation, "prefix");
});

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
    "an allowance of no requests, under the older name",
    429,
    {},
    { "x-ratelimitbysize-limit-req-minute": "0" },
    "quota",
  ],
  ["an allowance of no tokens this month", 429, {}, { "x-ratelimit-limit-tokens-month": "0" }, "quota"],
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
