import assert from "node:assert/strict";
import { after, beforeEach, test } from "node:test";
import { Mistral } from "@mistralai/mistralai";
import { MistralError } from "@mistralai/mistralai/models/errors";
import { nanoUsd } from "../../src/lib/money.ts";
import { startGateway } from "../harness/gateway-under-test.ts";

/** The `@mistralai/mistralai` package as it is published, with nothing changed but its server URL and its key. */
// Faults are to be seen, so nobody is asked twice, and what one test broke is not to be kept away from in the next.
const brikk = await startGateway({ environment: { PROVIDER_MAX_RETRIES: "0" } });
after(() => brikk.close());
beforeEach(() => void brikk.gateway.health.reset());
const key = await brikk.createKey();
const clientWith = (secret: string, url = brikk.url): Mistral => new Mistral({ serverURL: url, apiKey: secret });
const client = clientWith(key.secret);
/** The same package straight at the simulator. */
const vendor = new Mistral({ serverURL: brikk.simulator.mistralBaseUrl.replace(/\/v1$/, ""), apiKey: "any" });

const question = {
  model: "mistral-small-latest",
  messages: [{ role: "user" as const, content: "¿Por qué el cielo es azul?" }],
  randomSeed: 5,
};
const weatherTool = {
  type: "function" as const,
  function: {
    name: "get_weather",
    description: "The weather in a city",
    parameters: { type: "object", properties: { city: { type: "string" } }, required: ["city"] },
  },
};

interface Failure {
  readonly status: number;
  readonly headers: Headers;
  readonly error: {
    readonly message: string;
    readonly type: string;
    readonly code: string;
    readonly param: string | null;
    readonly request_id: string;
    readonly details: unknown;
  };
}

/** The error a call ends with, as the SDK gives it. */
async function failureOf(call: () => Promise<unknown>): Promise<Failure> {
  try {
    await call();
  } catch (error) {
    assert.ok(error instanceof MistralError, `an error of the SDK's own, not ${String(error)}`);
    const { error: body } = JSON.parse(error.body) as { error: Failure["error"] };
    assert.equal(body.request_id, error.headers.get("x-request-id"));
    return { status: error.statusCode, headers: error.headers, error: body };
  }
  return assert.fail("the call ended well");
}

test("chat.complete gives the provider's answer and leaves a row", async () => {
  const answer = await client.chat.complete(question);
  const expected = await vendor.chat.complete(question);
  assert.equal(answer.choices[0]?.message?.content, expected.choices[0]?.message?.content);
  assert.equal(answer.choices[0]?.finishReason, "stop");
  assert.equal(answer.usage.completionTokens, expected.usage.completionTokens);
  const row = (await brikk.events()).at(-1);
  assert.equal(row?.["provider"], "mistral");
  assert.equal(row?.["key_id"], key.id);
  assert.equal(Number(row?.["output_tokens"]), answer.usage.completionTokens);
});

test("chat.stream gives the provider's text, with the usage that Mistral sends unasked", async () => {
  const expected = await vendor.chat.complete(question);
  let text = "";
  let usage: { completionTokens?: number | undefined } | undefined;
  let finish: unknown;
  for await (const { data } of await client.chat.stream(question)) {
    const { content } = data.choices[0]!.delta;
    if (typeof content === "string") text += content;
    usage = data.usage ?? usage;
    finish = data.choices[0]?.finishReason ?? finish;
  }
  assert.equal(text, expected.choices[0]?.message?.content);
  assert.equal(finish, "stop");
  assert.equal(usage?.completionTokens, expected.usage.completionTokens);
  assert.equal((await brikk.events()).at(-1)?.["usage_source"], "exact");
});

test("a tool is called, streamed and not, and its result understood", async () => {
  const asked = {
    model: "mistral-small-latest",
    messages: [{ role: "user" as const, content: "What is the weather in Paris?" }],
    tools: [weatherTool],
    toolChoice: "any" as const,
  };
  const answer = await client.chat.complete(asked);
  const message = answer.choices[0]!.message!;
  const call = message.toolCalls![0]!;
  assert.equal(answer.choices[0]?.finishReason, "tool_calls");
  assert.equal(call.function.name, "get_weather");
  const input: unknown =
    typeof call.function.arguments === "string" ? JSON.parse(call.function.arguments) : call.function.arguments;
  assert.equal(typeof (input as { city: unknown }).city, "string");

  const streamed: string[] = [];
  for await (const { data } of await client.chat.stream(asked))
    for (const part of data.choices[0]?.delta.toolCalls ?? []) streamed.push(part.function.name);
  assert.deepEqual(streamed, ["get_weather"]);

  const answered = await client.chat.complete({
    ...asked,
    toolChoice: "auto",
    messages: [
      ...asked.messages,
      { ...message, role: "assistant" },
      { role: "tool", toolCallId: call.id!, name: "get_weather", content: "21 degrees" },
    ],
  });
  assert.equal(answered.choices[0]?.finishReason, "stop");
});

test("embeddings are the provider's", async () => {
  const asked = { model: "mistral-embed", inputs: ["The quick brown fox", "der schnelle braune Fuchs"] };
  const answer = await client.embeddings.create(asked);
  const expected = await vendor.embeddings.create(asked);
  assert.deepEqual(answer.data, expected.data);
  assert.equal(answer.data[0]?.embedding?.length, 1_024);
  assert.equal((await brikk.events()).at(-1)?.["operation"], "embeddings");
});

test("models.list names Mistral's models as the SDK knows them", async () => {
  const { data = [] } = await client.models.list();
  const model = data.find((card) => "id" in card && card.id === "mistral-small-latest");
  assert.ok(model && model.type === "base", "the SDK recognises the entry");
  assert.equal(model.ownedBy, "mistral");
  assert.equal(model.capabilities.completionChat, true);
  assert.ok(model.maxContextLength > 32_768, "the model's own, not the SDK's fallback");
  const embedding = data.find((card) => "id" in card && card.id === "mistral-embed");
  assert.ok(embedding && embedding.type === "base" && !embedding.capabilities.completionChat);
});

test("401: an unknown key, and none where one is required", async () => {
  const wrong = await failureOf(() =>
    clientWith(`${key.secret.slice(0, -1)}${key.secret.endsWith("0") ? "1" : "0"}`).chat.complete(question),
  );
  assert.equal(wrong.status, 401);
  assert.equal(wrong.error.code, "invalid_api_key");
  const strict = await startGateway({ environment: { BRIKK_REQUIRE_AUTH: "true" } });
  try {
    const none = await failureOf(() => new Mistral({ serverURL: strict.url }).chat.complete(question));
    assert.equal(none.status, 401);
    assert.equal(none.error.code, "missing_api_key");
  } finally {
    await strict.close();
  }
});

test("404: a model that nobody offers", async () => {
  const failure = await failureOf(() => client.chat.complete({ ...question, model: "no-such-model" }));
  assert.equal(failure.status, 404);
  assert.equal(failure.error.code, "model_not_found");
});

test("400: a model without a price, and an order of messages that Mistral refuses", async () => {
  const unpriced = await failureOf(() => client.chat.complete({ ...question, model: "mistral/mistral-of-tomorrow" }));
  assert.equal(unpriced.status, 400);
  assert.equal(unpriced.error.code, "model_price_unknown");
  const order = await failureOf(() =>
    client.chat.complete({ ...question, messages: [...question.messages, { role: "assistant", content: "Porque" }] }),
  );
  assert.equal(order.status, 400);
  assert.match(order.error.message, /last message must come from a user/);
});

test("422: a message that Mistral sends as an object becomes a sentence that names the field", async () => {
  const failure = await failureOf(() => client.chat.complete({ ...question, temperature: 9 }));
  assert.equal(failure.status, 422);
  assert.equal(failure.error.param, "temperature");
  assert.match(failure.error.message, /^temperature: /);
  assert.ok(!failure.error.message.includes("[object Object]"));
  assert.equal(failure.headers.get("x-should-retry"), "false");

  // A field that the SDK would never send, as another client does.
  const raw = await fetch(`${brikk.url}/v1/chat/completions`, {
    method: "POST",
    headers: { authorization: `Bearer ${key.secret}`, "content-type": "application/json" },
    body: JSON.stringify({ model: "mistral-small-latest", messages: question.messages, frobnicate: 1 }),
  });
  assert.equal(raw.status, 422);
  const { error } = (await raw.json()) as { error: Failure["error"] };
  assert.equal(error.param, "frobnicate");
  assert.equal(error.message, "frobnicate: Extra inputs are not permitted");
});

test("402: a request that does not fit in the hard cap", async () => {
  const poor = await brikk.createKey({ softCap: nanoUsd(1n), hardCap: nanoUsd(1n) });
  const failure = await failureOf(() => clientWith(poor.secret).chat.complete(question));
  assert.equal(failure.status, 402);
  assert.equal(failure.error.code, "hard_cap_exceeded");
});

test("402 is not tried again by the SDK's own retries, plain or streamed", async () => {
  const poor = await brikk.createKey({ softCap: nanoUsd(1n), hardCap: nanoUsd(1n) });
  const backoff = { initialInterval: 1, maxInterval: 5, exponent: 1, maxElapsedTime: 1_000 };
  const retrying = new Mistral({
    serverURL: brikk.url,
    apiKey: poor.secret,
    retryConfig: { strategy: "backoff", backoff, retryConnectionErrors: true },
  });
  for (const ask of [() => retrying.chat.complete(question), () => retrying.chat.stream(question)])
    assert.equal((await failureOf(ask)).error.code, "hard_cap_exceeded");
  assert.equal((await brikk.events()).filter((row) => row["key_id"] === poor.id).length, 2);
});

test("429: the key's own limit, and the provider's", async () => {
  const slow = clientWith((await brikk.createKey({ rateLimitPerMin: 1 })).secret);
  await slow.chat.complete(question);
  const own = await failureOf(() => slow.chat.complete(question));
  assert.equal(own.status, 429);
  assert.equal(own.error.code, "rate_limit_exceeded");
  assert.ok(Number(own.headers.get("retry-after")) >= 1);
  brikk.simulator.faults.set({ vendor: "mistral", count: 1, fault: { kind: "status", status: 429, retryAfter: 9 } });
  const vendors = await failureOf(() => client.chat.complete(question));
  assert.equal(vendors.status, 429);
  assert.equal(vendors.error.code, "provider_rate_limited");
  assert.equal(vendors.headers.get("retry-after"), "9");
});

test("a limit of 0 at the provider is no allowance at all: the caller is told not to try again", async () => {
  brikk.simulator.faults.set({ vendor: "mistral", count: 1, fault: { kind: "quota" } });
  const failure = await failureOf(() => client.chat.complete(question));
  assert.equal(failure.status, 502);
  assert.equal(failure.error.code, "provider_quota_exceeded");
  assert.equal(failure.headers.get("x-should-retry"), "false");
});

test("5xx: a provider's failure is the gateway's 502", async () => {
  brikk.simulator.faults.set({ vendor: "mistral", count: 1, fault: { kind: "status", status: 503 } });
  const failure = await failureOf(() => client.chat.complete(question));
  assert.equal(failure.status, 502);
  assert.equal(failure.error.code, "provider_error");
});

test("a stream that is cut never ends as if finished", async () => {
  const whole = (await vendor.chat.complete(question)).choices[0]!.message!.content as string;
  brikk.simulator.faults.set({ vendor: "mistral", count: 1, fault: { kind: "cut", afterTokens: 6 } });
  const stream = await client.chat.stream(question);
  let text = "";
  let finish: unknown;
  await assert.rejects(async () => {
    for await (const { data } of stream) {
      const { content } = data.choices[0]!.delta;
      if (typeof content === "string") text += content;
      finish = data.choices[0]?.finishReason ?? finish;
    }
  });
  assert.ok(text !== "" && whole.startsWith(text) && text.length < whole.length);
  assert.equal(finish, undefined);
  assert.equal((await brikk.events()).at(-1)?.["outcome"], "truncated");
});
