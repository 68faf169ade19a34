import assert from "node:assert/strict";
import { test } from "node:test";
import OpenAI from "openai";
import { countTokens } from "../src/tokens.ts";
import { chat, contentOf, eventsOf, post, simulatorForTests } from "./client.ts";
import type { Json } from "./client.ts";

const simulator = await simulatorForTests();
const base = simulator.openaiBaseUrl;
const TOOLS = [
  {
    type: "function",
    function: {
      name: "send_mail",
      description: "Sends a mail",
      parameters: { type: "object", properties: { to: { type: "string", format: "email" } }, required: ["to"] },
    },
  },
  {
    type: "function",
    function: {
      name: "get_weather",
      description: "Weather of a city",
      parameters: {
        type: "object",
        properties: {
          city: { type: "string" },
          unit: { enum: ["celsius", "fahrenheit"] },
          days: { type: "integer", minimum: 1, maximum: 7 },
        },
        required: ["city", "unit", "days"],
      },
    },
  },
];

test("a plain answer has the vendor's fields and counts its tokens truly", async () => {
  const { status, headers, json } = await chat(base, {});
  assert.equal(status, 200);
  assert.match(json.id, /^chatcmpl-\w{29}$/u);
  assert.equal(json.object, "chat.completion");
  assert.equal(json.model, "gpt-4o-mini");
  const [choice] = json.choices;
  assert.deepEqual(
    [choice.message.role, choice.message.refusal, choice.message.annotations, choice.logprobs, choice.finish_reason],
    ["assistant", null, [], null, "stop"],
  );
  assert.equal(json.usage.completion_tokens, countTokens(choice.message.content));
  assert.equal(json.usage.prompt_tokens, 3 + 3 + 1 + countTokens("What is a gateway?"));
  assert.equal(json.usage.total_tokens, json.usage.prompt_tokens + json.usage.completion_tokens);
  assert.deepEqual(json.usage.prompt_tokens_details, { cached_tokens: 0, audio_tokens: 0 });
  assert.equal(json.usage.completion_tokens_details.reasoning_tokens, 0);
  assert.equal(headers.get("x-brikk-simulated"), "true");
  assert.equal(headers.get("openai-version"), "2020-10-01");
  assert.match(headers.get("x-request-id") ?? "", /^req_/u);
  assert.match(headers.get("x-ratelimit-reset-requests") ?? "", /^\d+ms$/u);
});

test("a stream opens with the role, ends with usage only when asked, and says the same as the plain answer", async () => {
  const plain = await chat(base, {});
  const events = eventsOf((await chat(base, { stream: true, stream_options: { include_usage: true } })).text);
  assert.deepEqual(events[0].choices[0].delta, { role: "assistant", content: "", refusal: null });
  assert.equal(events.at(-1), "[DONE]");
  const usage = events.at(-2);
  assert.deepEqual(usage.choices, []);
  assert.deepEqual(usage.usage, plain.json.usage);
  assert.deepEqual(events.at(-3).choices[0].delta, {});
  assert.equal(events.at(-3).choices[0].finish_reason, "stop");
  assert.ok(events.slice(0, -2).every((event) => event.usage === null && event.object === "chat.completion.chunk"));
  assert.equal(contentOf(events), plain.json.choices[0].message.content);
  const without = eventsOf((await chat(base, { stream: true })).text);
  assert.ok(without.every((event) => event === "[DONE]" || (!("usage" in event) && event.choices.length === 1)));
});

test("n choices differ, interleave and are billed together", async () => {
  const { json } = await chat(base, { n: 3 });
  assert.equal(new Set(json.choices.map((choice: Json) => choice.message.content)).size, 3);
  assert.equal(
    json.usage.completion_tokens,
    json.choices.reduce((sum: number, choice: Json) => sum + countTokens(choice.message.content), 0),
  );
  const events = eventsOf((await chat(base, { n: 3, stream: true })).text);
  assert.deepEqual(
    events.slice(0, 6).map((event) => event.choices[0].index),
    [0, 1, 2, 0, 1, 2],
  );
  assert.equal(contentOf(events, 2), json.choices[2].message.content);
});

test("an answer stops at a stop sequence and at the token limit", async () => {
  const whole = (await chat(base, {})).json.choices[0].message.content as string;
  const stop = whole.slice(30, 36);
  const stopped = (await chat(base, { stop: [stop] })).json;
  assert.equal(stopped.choices[0].message.content, whole.slice(0, whole.indexOf(stop)));
  assert.equal(stopped.choices[0].finish_reason, "stop");
  for (const limit of ["max_tokens", "max_completion_tokens"]) {
    const cut = (await chat(base, { [limit]: 5 })).json;
    assert.equal(cut.choices[0].finish_reason, "length");
    assert.equal(cut.usage.completion_tokens, 5);
    assert.ok(whole.startsWith(cut.choices[0].message.content));
  }
});

test("the best matching tool is called with arguments of its schema, and the same pieces stream", async () => {
  const ask = {
    tools: TOOLS,
    messages: [{ role: "user", content: "How is the weather in Buenos Aires for 3 days, in celsius?" }],
  };
  const { json } = await chat(base, ask);
  const [call] = json.choices[0].message.tool_calls;
  assert.equal(json.choices[0].finish_reason, "tool_calls");
  assert.equal(json.choices[0].message.content, null);
  assert.equal(call.function.name, "get_weather");
  assert.deepEqual(JSON.parse(call.function.arguments), { city: "Buenos Aires", unit: "celsius", days: 3 });
  const events = eventsOf((await chat(base, { ...ask, stream: true })).text);
  const deltas = events.flatMap((event) => event.choices?.[0]?.delta.tool_calls ?? []);
  assert.match(deltas[0].id, /^call_\w{24}$/u);
  assert.deepEqual([deltas[0].index, deltas[0].type, deltas[0].function.name], [0, "function", "get_weather"]);
  assert.equal(deltas.map((delta: Json) => delta.function.arguments).join(""), call.function.arguments);
  assert.ok(deltas.length > 3);
});

test("tool_choice is honoured, and a tool's result is answered in text", async () => {
  const named = await chat(base, { tools: TOOLS, tool_choice: { type: "function", function: { name: "send_mail" } } });
  assert.equal(named.json.choices[0].message.tool_calls[0].function.name, "send_mail");
  const none = await chat(base, { tools: TOOLS, tool_choice: "none" });
  assert.equal(none.json.choices[0].finish_reason, "stop");
  const call = { id: "call_1", type: "function", function: { name: "get_weather", arguments: "{}" } };
  const answered = await chat(base, {
    tools: TOOLS,
    messages: [
      { role: "user", content: "Weather in Oslo?" },
      { role: "assistant", content: null, tool_calls: [call] },
      { role: "tool", tool_call_id: "call_1", content: '{"degrees":7}' },
    ],
  });
  assert.match(answered.json.choices[0].message.content, /degrees/u);
});

test("json modes give JSON, by the schema when there is one", async () => {
  const object = await chat(base, {
    response_format: { type: "json_object" },
    messages: [{ role: "user", content: "Describe tea as JSON" }],
  });
  assert.equal(typeof JSON.parse(object.json.choices[0].message.content).answer, "string");
  const schema = {
    type: "object",
    properties: {
      name: { type: "string" },
      tags: { type: "array", items: { type: "string" } },
      size: { $ref: "#/$defs/size" },
      ok: { type: ["boolean", "null"] },
    },
    required: ["name", "tags", "size", "ok"],
    $defs: { size: { type: "integer", minimum: 5 } },
  };
  const shaped = await chat(base, {
    response_format: { type: "json_schema", json_schema: { name: "thing", schema, strict: true } },
  });
  const value = JSON.parse(shaped.json.choices[0].message.content);
  assert.deepEqual(
    [typeof value.name, Array.isArray(value.tags), value.size >= 5, value.ok],
    ["string", true, true, true],
  );
});

test("log probabilities come per token", async () => {
  const { json } = await chat(base, { logprobs: true, top_logprobs: 3 });
  const { content } = json.choices[0].logprobs;
  assert.equal(content.map((token: Json) => token.token).join(""), json.choices[0].message.content);
  assert.ok(content.every((token: Json) => token.logprob <= 0 && token.top_logprobs.length === 3));
});

test("reasoning models think inside completion_tokens, refuse max_tokens, and can spend the whole limit thinking", async () => {
  const { json } = await chat(base, { model: "o3" });
  const reasoning = json.usage.completion_tokens_details.reasoning_tokens;
  assert.ok(reasoning > 0);
  assert.equal(json.usage.completion_tokens, reasoning + countTokens(json.choices[0].message.content));
  const refused = await chat(base, { model: "gpt-5", max_tokens: 10 });
  assert.deepEqual(
    [refused.status, refused.json.error.code, refused.json.error.param],
    [400, "unsupported_parameter", "max_tokens"],
  );
  const spent = await chat(base, { model: "gpt-5", max_completion_tokens: 20 });
  assert.deepEqual(
    [spent.json.choices[0].message.content, spent.json.choices[0].finish_reason, spent.json.usage.completion_tokens],
    ["", "length", 20],
  );
});

test("a long prompt is cached from its second use on", async () => {
  const messages = [
    { role: "system", content: "The rules of the house are many. ".repeat(400) },
    { role: "user", content: "Go on" },
  ];
  const cached = [];
  for (let turn = 0; turn < 2; turn += 1) cached.push((await chat(base, { messages })).json.usage);
  assert.equal(cached[0].prompt_tokens_details.cached_tokens, 0);
  const { cached_tokens: tokens } = cached[1].prompt_tokens_details;
  assert.ok(tokens >= 1024 && tokens % 128 === 0 && tokens <= cached[1].prompt_tokens);
  const other = [messages[0], { role: "user", content: "Something else" }];
  assert.ok((await chat(base, { messages: other })).json.usage.prompt_tokens_details.cached_tokens >= 1024);
});

test("pictures count 85 tokens and are spoken of", async () => {
  const text = { type: "text", text: "What is on this picture?" };
  const image = { type: "image_url", image_url: { url: "data:image/png;base64,AAAA" } };
  const [without, withImage] = await Promise.all(
    [[text], [text, image]].map((content) => chat(base, { messages: [{ role: "user", content }] })),
  );
  assert.equal((withImage?.json.usage.prompt_tokens ?? 0) - (without?.json.usage.prompt_tokens ?? 0), 85);
  assert.match(withImage?.json.choices[0].message.content, /image/u);
});

test("the same request gets the same answer in another simulator, and another seed another answer", async () => {
  const [again, other] = await Promise.all([simulatorForTests(), simulatorForTests({ seed: 2 })]);
  const content = async (url: string, body = {}): Promise<string> =>
    (await chat(url, body)).json.choices[0].message.content;
  const first = await content(base);
  assert.equal(await content(again.openaiBaseUrl), first);
  assert.notEqual(await content(other.openaiBaseUrl), first);
  assert.notEqual(await content(base, { seed: 7 }), first);
  assert.equal(await content(base, { seed: 7 }), await content(again.openaiBaseUrl, { seed: 7 }));
});

test("refusals have the vendor's status, code and shape", async () => {
  const cases: [object, number, string | null, string | null][] = [
    [{ model: "llama-3" }, 404, "model_not_found", null],
    [{ messages: undefined }, 400, "missing_required_parameter", "messages"],
    [{ messages: [{ role: "user", content: 5 }] }, 400, "invalid_type", "messages[0].content"],
    [{ temperature: "hot" }, 400, "invalid_type", "temperature"],
    [{ temperature: 3 }, 400, "integer_above_max_value", "temperature"],
    [{ colour: "red" }, 400, "unknown_parameter", "colour"],
    [{ stream_options: { include_usage: true } }, 400, null, "stream_options"],
    [
      { messages: [{ role: "user", content: "many words ".repeat(130_000) }] },
      400,
      "context_length_exceeded",
      "messages",
    ],
  ];
  for (const [body, status, code, param] of cases) {
    const { status: actual, json } = await chat(base, body);
    assert.deepEqual(
      [actual, json.error.code, json.error.param, json.error.type],
      [status, code, param, "invalid_request_error"],
    );
  }
  assert.equal((await post(`${base}/chat/completions`, '{"model":')).status, 400);
  for (const [authorization, code] of [
    ["", null],
    ["Bearer invalid", "invalid_api_key"],
    ["Bearer sk-invalid-1", "invalid_api_key"],
  ] as const) {
    const { status, json } = await post(
      `${base}/chat/completions`,
      {},
      { headers: authorization === "" ? {} : { authorization } },
    );
    assert.deepEqual([status, json.error.code], [401, code]);
  }
  assert.equal((await post(`${base}/images`, {})).status, 404);
});

test("the vendor's own client understands chat, stream, tools, models and embeddings", async () => {
  const client = new OpenAI({ apiKey: "sk-test", baseURL: base, maxRetries: 0 });
  const messages = [{ role: "user" as const, content: "Hello there" }];
  const plain = await client.chat.completions.create({ model: "gpt-4o", messages });
  const runner = client.chat.completions.stream({ model: "gpt-4o", messages, stream_options: { include_usage: true } });
  assert.equal(await runner.finalContent(), plain.choices[0]?.message.content);
  assert.deepEqual(await runner.totalUsage(), plain.usage);
  assert.ok((await client.models.list()).data.some((model) => model.id === "gpt-4o"));
  const { data } = await client.embeddings.create({ model: "text-embedding-3-small", input: "tea" });
  assert.equal(data[0]?.embedding.length, 1536);
});
