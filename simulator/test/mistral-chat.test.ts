import assert from "node:assert/strict";
import { test } from "node:test";
import { countTokens } from "../src/tokens.ts";
import { chat, contentOf, eventsOf, post, simulatorForTests } from "./client.ts";

const simulator = await simulatorForTests();
const base = simulator.mistralBaseUrl;

test("a plain answer has Mistral's fields and none of OpenAI's", async () => {
  const { status, headers, json } = await chat(base, {});
  assert.equal(status, 200);
  assert.match(json.id, /^[0-9a-f]{32}$/u);
  assert.deepEqual(Object.keys(json.choices[0]).sort(), ["finish_reason", "index", "message"]);
  assert.deepEqual(Object.keys(json.usage).sort(), ["completion_tokens", "prompt_tokens", "total_tokens"]);
  assert.ok(!("system_fingerprint" in json));
  assert.equal(json.usage.completion_tokens, countTokens(json.choices[0].message.content));
  assert.equal(headers.get("x-ratelimit-tokens-query-cost"), String(json.usage.total_tokens));
  for (const name of [
    "mistral-correlation-id",
    "x-ratelimit-limit-req-minute",
    "x-ratelimit-remaining-req-minute",
    "x-ratelimit-limit-tokens-minute",
    "x-ratelimit-remaining-tokens-minute",
  ])
    assert.ok(headers.has(name), name);
});

test("a stream carries usage with its last content and finish_reason, and nothing after but the end mark", async () => {
  const plain = await chat(base, {});
  const events = eventsOf((await chat(base, { stream: true })).text);
  assert.equal(events.at(-1), "[DONE]");
  const last = events.at(-2);
  assert.equal(last.choices[0].finish_reason, "stop");
  assert.notEqual(last.choices[0].delta.content, "");
  assert.deepEqual(last.usage, plain.json.usage);
  assert.ok(events.slice(0, -2).every((event) => !("usage" in event) && event.choices[0].finish_reason === null));
  assert.equal(contentOf(events), plain.json.choices[0].message.content);
});

test("unknown fields and the role developer are refused with 422 and an object as message", async () => {
  const extra = await chat(base, { max_completion_tokens: 5, stream_options: {} });
  assert.equal(extra.status, 422);
  assert.deepEqual(extra.json, {
    object: "error",
    message: {
      detail: [
        {
          type: "extra_forbidden",
          loc: ["body", "max_completion_tokens"],
          msg: "Extra inputs are not permitted",
          input: 5,
        },
        { type: "extra_forbidden", loc: ["body", "stream_options"], msg: "Extra inputs are not permitted", input: {} },
      ],
    },
    type: "invalid_request_error",
    param: null,
    code: null,
  });
  const developer = await chat(base, {
    messages: [
      { role: "developer", content: "Be brief" },
      { role: "user", content: "Hi" },
    ],
  });
  assert.equal(developer.status, 422);
  assert.deepEqual(developer.json.message.detail[0].loc, ["body", "messages", 0, "role"]);
});

test("other refusals have Mistral's shapes", async () => {
  const model = await chat(base, { model: "gpt-4o" });
  assert.deepEqual(
    [model.status, model.json],
    [400, { object: "error", message: "Invalid model: gpt-4o", type: "invalid_model", param: null, code: "1500" }],
  );
  const missing = await chat(base, { messages: undefined });
  assert.deepEqual([missing.status, missing.json.message.detail[0].type], [422, "missing"]);
  const order = await chat(base, {
    messages: [
      { role: "user", content: "Hi" },
      { role: "assistant", content: "Hello" },
    ],
  });
  assert.deepEqual([order.status, order.json.code], [400, "3230"]);
  const key = await post(`${base}/chat/completions`, {}, { headers: {} });
  assert.deepEqual([key.status, key.json], [401, { detail: "Unauthorized" }]);
  assert.equal((await post(`${base}/chat/completions`, "nonsense")).status, 400);
});

test("limits, seeds and tools follow Mistral's names", async () => {
  const cut = await chat(base, { max_tokens: 4, random_seed: 3 });
  assert.deepEqual([cut.json.choices[0].finish_reason, cut.json.usage.completion_tokens], ["length", 4]);
  const tools = [
    {
      type: "function",
      function: {
        name: "find_flight",
        description: "",
        parameters: { type: "object", properties: { to: { type: "string" } }, required: ["to"] },
      },
    },
  ];
  const called = await chat(base, { tools, tool_choice: "any" });
  assert.match(called.json.choices[0].message.tool_calls[0].id, /^[A-Za-z0-9]{9}$/u);
  assert.equal(called.json.choices[0].finish_reason, "tool_calls");
  const last = eventsOf((await chat(base, { tools, tool_choice: "any", stream: true })).text).at(-2);
  assert.equal(
    last.choices[0].delta.tool_calls[0].function.arguments,
    called.json.choices[0].message.tool_calls[0].function.arguments,
  );
  assert.deepEqual(last.usage, called.json.usage);
});

test("an answer begins with the assistant's prefix, which is no output of its own", async () => {
  const question = { role: "user", content: "Why is the sky blue?" };
  const prefix = { role: "assistant", content: "The sky is blue because", prefix: true };
  const { json } = await chat(base, { messages: [question, prefix] });
  const { content } = json.choices[0].message;
  assert.ok(content.startsWith("The sky is blue because "));
  assert.equal(json.usage.completion_tokens, countTokens(content.slice("The sky is blue because ".length)));
  const events = eventsOf((await chat(base, { messages: [question, prefix], stream: true })).text);
  assert.equal(contentOf(events), content);
});
