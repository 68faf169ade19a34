import assert from "node:assert/strict";
import { after, beforeEach, test } from "node:test";
import OpenAI, {
  APIError,
  AuthenticationError,
  BadRequestError,
  InternalServerError,
  NotFoundError,
  RateLimitError,
} from "openai";
import { nanoUsd } from "../../src/lib/money.ts";
import { startGateway } from "../harness/gateway-under-test.ts";

/** The `openai` package as it is published, with nothing changed but its base URL and its key. */
// Faults are to be seen, so nobody is asked twice, and what one test broke is not to be kept away from in the next.
const brikk = await startGateway({ environment: { PROVIDER_MAX_RETRIES: "0" } });
after(() => brikk.close());
beforeEach(() => void brikk.gateway.health.reset());
const key = await brikk.createKey();
const clientWith = (secret: string, url = brikk.url): OpenAI =>
  new OpenAI({ baseURL: `${url}/v1`, apiKey: secret, maxRetries: 0 });
const client = clientWith(key.secret);
/** The same package straight at the simulator: what the caller must see through the gateway. */
const vendor = new OpenAI({ baseURL: brikk.simulator.openaiBaseUrl, apiKey: "sk-test", maxRetries: 0 });

const question = {
  model: "gpt-4o-mini",
  messages: [{ role: "user" as const, content: "Why is the sky blue, and the sea too?" }],
  seed: 7,
};
const weatherTool = {
  type: "function" as const,
  function: {
    name: "get_weather",
    description: "The weather in a city",
    parameters: { type: "object", properties: { city: { type: "string" } }, required: ["city"] },
  },
};
const weatherQuestion = {
  model: "gpt-4o-mini",
  messages: [{ role: "user" as const, content: "What is the weather in Paris?" }],
  tools: [weatherTool],
};
const PIXEL =
  "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg==";

/** The error a call ends with; a call that ends well is the test's failure. */
async function errorOf(call: () => PromiseLike<unknown>): Promise<APIError> {
  try {
    await call();
  } catch (error) {
    assert.ok(error instanceof APIError, `an error of the SDK's own, not ${String(error)}`);
    return error;
  }
  return assert.fail("the call ended well");
}

/** The error object of the body, as Brikk sent it. */
const sent = (error: APIError): Record<string, unknown> => error.error as Record<string, unknown>;

test("a plain answer is the provider's, and its cost and usage stand in the headers and the ledger", async () => {
  const { data, response } = await client.chat.completions.create(question).withResponse();
  const expected = await vendor.chat.completions.create(question);
  assert.equal(data.choices[0]?.message.content, expected.choices[0]?.message.content);
  assert.equal(data.choices[0]?.finish_reason, "stop");
  assert.equal(data.usage?.completion_tokens, expected.usage?.completion_tokens);
  const row = (await brikk.events()).at(-1);
  assert.equal(row?.["key_id"], key.id);
  assert.equal(row?.["request_id"], response.headers.get("x-request-id"));
  assert.equal(row?.["outcome"], "completed");
  assert.equal(Number(row?.["output_tokens"]), data.usage?.completion_tokens);
  assert.equal(Math.round(Number(response.headers.get("x-brikk-cost-usd")) * 1e9), Number(row?.["cost_nano_usd"]));
});

test("a streamed answer's text is the provider's; without include_usage no chunk has empty choices or usage", async () => {
  const expected = await vendor.chat.completions.create(question);
  let text = "";
  let finish: string | null = null;
  for await (const chunk of await client.chat.completions.create({ ...question, stream: true })) {
    assert.equal(chunk.choices.length, 1);
    assert.equal(chunk.usage ?? null, null);
    text += chunk.choices[0]?.delta.content ?? "";
    finish = chunk.choices[0]?.finish_reason ?? finish;
  }
  assert.equal(text, expected.choices[0]?.message.content);
  assert.equal(finish, "stop");
  assert.equal((await brikk.events()).at(-1)?.["usage_source"], "exact");
});

test("with include_usage the last chunk carries the provider's usage and the cost that the ledger holds", async () => {
  const chunks = [];
  for await (const chunk of await client.chat.completions.create({
    ...question,
    stream: true,
    stream_options: { include_usage: true },
  }))
    chunks.push(chunk);
  const last = chunks.pop();
  assert.deepEqual(last?.choices, []);
  const expected = await vendor.chat.completions.create(question);
  assert.equal(last?.usage?.completion_tokens, expected.usage?.completion_tokens);
  const row = (await brikk.events()).at(-1);
  const costUsd = (last?.usage as { cost_usd?: number } | undefined)?.cost_usd ?? 0;
  assert.equal(Math.round(costUsd * 1e9), Number(row?.["cost_nano_usd"]));
  assert.ok(costUsd > 0);
  for (const chunk of chunks) assert.equal(chunk.choices.length, 1);
});

test("a tool is called and its result understood", async () => {
  const asked = await client.chat.completions.create(weatherQuestion);
  const message = asked.choices[0]!.message;
  const call = message.tool_calls?.[0];
  assert.equal(asked.choices[0]?.finish_reason, "tool_calls");
  assert.ok(call?.type === "function");
  assert.equal(call.function.name, "get_weather");
  assert.equal(typeof (JSON.parse(call.function.arguments) as { city: unknown }).city, "string");
  const answered = await client.chat.completions.create({
    ...weatherQuestion,
    messages: [
      ...weatherQuestion.messages,
      message,
      { role: "tool", tool_call_id: call.id, content: "21 degrees and sunny" },
    ],
  });
  assert.equal(answered.choices[0]?.finish_reason, "stop");
  assert.ok(answered.choices[0]?.message.content);
});

test("a streamed tool call arrives in pieces that make up the provider's arguments", async () => {
  const expected = await vendor.chat.completions.create(weatherQuestion);
  const stream = client.chat.completions.stream(weatherQuestion);
  const { message, finish_reason: finish } = (await stream.finalChatCompletion()).choices[0]!;
  const call = message.tool_calls?.[0];
  const expectedCall = expected.choices[0]?.message.tool_calls?.[0];
  assert.ok(call?.type === "function" && expectedCall?.type === "function");
  assert.equal(call.function.name, "get_weather");
  assert.equal(call.function.arguments, expectedCall.function.arguments);
  assert.equal(finish, "tool_calls");
});

test("an answer in the form of a JSON schema has that form", async () => {
  const schema = {
    type: "object",
    properties: { title: { type: "string" }, score: { type: "integer" } },
    required: ["title", "score"],
    additionalProperties: false,
  };
  const answer = await client.chat.completions.create({
    ...question,
    response_format: { type: "json_schema", json_schema: { name: "review", strict: true, schema } },
  });
  const value = JSON.parse(answer.choices[0]?.message.content ?? "") as Record<string, unknown>;
  assert.deepEqual(Object.keys(value).sort(), ["score", "title"]);
  assert.ok(Number.isInteger(value["score"]));
});

test("n=2 gives two answers, streamed and not, and both are charged", async () => {
  const plain = await client.chat.completions.create({ ...question, n: 2 });
  assert.deepEqual(
    plain.choices.map(({ index }) => index),
    [0, 1],
  );
  const texts = ["", ""];
  for await (const { choices } of await client.chat.completions.create({ ...question, n: 2, stream: true })) {
    for (const choice of choices) texts[choice.index] += choice.delta.content ?? "";
  }
  assert.deepEqual(
    texts,
    plain.choices.map(({ message }) => message.content),
  );
  const [first, second] = (await brikk.events()).slice(-2);
  assert.equal(Number(first?.["output_tokens"]), plain.usage?.completion_tokens);
  assert.equal(Number(second?.["output_tokens"]), plain.usage?.completion_tokens);
});

test("stop, logprobs and max_tokens reach the provider", async () => {
  const answer = await client.chat.completions.create({ ...question, max_tokens: 5, logprobs: true, top_logprobs: 2 });
  assert.equal(answer.choices[0]?.finish_reason, "length");
  assert.equal(answer.usage?.completion_tokens, 5);
  assert.equal(answer.choices[0]?.logprobs?.content?.[0]?.top_logprobs.length, 2);
  const whole = await client.chat.completions.create(question);
  const word = whole.choices[0]!.message.content!.split(" ")[4]!;
  const stopped = await client.chat.completions.create({ ...question, stop: [word] });
  assert.ok(!stopped.choices[0]?.message.content?.includes(word));
});

test("a picture in a message is taken along", async () => {
  const answer = await client.chat.completions.create({
    model: "gpt-4o-mini",
    messages: [
      {
        role: "user",
        content: [
          { type: "text", text: "What is in this picture?" },
          { type: "image_url", image_url: { url: PIXEL } },
        ],
      },
    ],
  });
  assert.ok(answer.choices[0]?.message.content);
  assert.ok((answer.usage?.prompt_tokens ?? 0) > 50, "the provider counted the picture");
});

test("embeddings come as numbers, whether the SDK asks for base64 by itself or for floats", async () => {
  const input = ["The quick brown fox", "jumps over the lazy dog"];
  const packed = await client.embeddings.create({ model: "text-embedding-3-small", input });
  const plain = await client.embeddings.create({ model: "text-embedding-3-small", input, encoding_format: "float" });
  const expected = await vendor.embeddings.create({ model: "text-embedding-3-small", input, encoding_format: "float" });
  assert.equal(packed.data.length, 2);
  for (const [index, { embedding }] of packed.data.entries()) {
    assert.equal(embedding.length, 1_536);
    embedding.forEach((value, place) => assert.ok(Math.abs(value - plain.data[index]!.embedding[place]!) < 1e-6));
  }
  assert.deepEqual(plain.data, expected.data);
  const row = (await brikk.events()).at(-1);
  assert.equal(row?.["operation"], "embeddings");
  assert.equal(Number(row?.["fresh_input_tokens"]), plain.usage.prompt_tokens);
});

test("the list of models names price and context length of each", async () => {
  const { data } = await client.models.list();
  const model = data.find(({ id }) => id === "gpt-4o-mini") as unknown as Record<string, unknown>;
  assert.equal(model["owned_by"], "openai");
  assert.equal(model["context_length"], 128_000);
  assert.deepEqual(
    { ...(model["price"] as object), version: "" },
    { input_usd_per_million: 0.15, cached_input_usd_per_million: 0.075, output_usd_per_million: 0.6, version: "" },
  );
  assert.ok(data.some(({ owned_by: owner }) => owner === "mistral"));
});

test("brikk/cheap is served by the cheaper of the default models, and the answer says which", async () => {
  const { data: models } = await client.models.list();
  const priceOf = (id: string): number => {
    const { price } = models.find((model) => model.id === id) as unknown as {
      price: { input_usd_per_million: number; output_usd_per_million: number };
    };
    return price.input_usd_per_million + price.output_usd_per_million;
  };
  const cheaper = priceOf("gpt-4o-mini") <= priceOf("mistral-small-latest") ? "openai" : "mistral";
  const { data, response } = await client.chat.completions.create({ ...question, model: "brikk/cheap" }).withResponse();
  assert.equal(response.headers.get("x-brikk-provider"), cheaper);
  assert.equal(response.headers.get("x-brikk-model"), data.model);
  assert.ok(data.choices[0]?.message.content);
});

test("Mistral's model answers OpenAI's SDK: seed and max_completion_tokens mean there what they mean here", async () => {
  const asked = { ...question, seed: 11, max_completion_tokens: 9 };
  const plain = await client.chat.completions.create({ ...asked, model: "mistral/mistral-small-latest" });
  assert.equal(plain.choices[0]?.finish_reason, "length");
  assert.equal(plain.usage?.completion_tokens, 9);
  const direct = await fetch(`${brikk.simulator.mistralBaseUrl}/chat/completions`, {
    method: "POST",
    headers: { authorization: "Bearer any", "content-type": "application/json" },
    body: JSON.stringify({
      model: "mistral-small-latest",
      messages: question.messages,
      random_seed: 11,
      max_tokens: 9,
    }),
  });
  const expected = (await direct.json()) as OpenAI.ChatCompletion;
  assert.equal(plain.choices[0]?.message.content, expected.choices[0]?.message.content);
  let text = "";
  let usage: unknown;
  for await (const chunk of await client.chat.completions.create({
    ...asked,
    model: "mistral/mistral-small-latest",
    stream: true,
    stream_options: { include_usage: true },
  })) {
    text += chunk.choices[0]?.delta.content ?? "";
    usage = chunk.usage ?? usage;
  }
  assert.equal(text, plain.choices[0]?.message.content);
  assert.equal((usage as { completion_tokens: number }).completion_tokens, 9);
});

test("400: what the provider refuses is a BadRequestError with the provider's words; so is what the gateway refuses", async () => {
  const vendors = await errorOf(() => client.chat.completions.create({ ...question, temperature: 3 }));
  assert.ok(vendors instanceof BadRequestError);
  assert.equal(vendors.param, "temperature");
  assert.match(vendors.message, /maximum of 2/);
  assert.equal(sent(vendors)["request_id"], vendors.requestID);
  const own = await errorOf(() => client.chat.completions.create({ ...question, messages: [] }));
  assert.ok(own instanceof BadRequestError);
  assert.equal(own.code, "invalid_request");
  assert.equal(own.param, "messages");
});

test("401: an unknown key is an AuthenticationError, and so is none where one is required", async () => {
  const unknown = await errorOf(() =>
    clientWith(`${key.secret.slice(0, -1)}${key.secret.endsWith("0") ? "1" : "0"}`).chat.completions.create(question),
  );
  assert.ok(unknown instanceof AuthenticationError);
  assert.equal(unknown.code, "invalid_api_key");
  assert.equal(unknown.headers.get("x-should-retry"), "false");

  const strict = await startGateway({ environment: { BRIKK_REQUIRE_AUTH: "true" } });
  try {
    const none = new OpenAI({
      baseURL: `${strict.url}/v1`,
      apiKey: "unused",
      maxRetries: 0,
      defaultHeaders: { Authorization: null },
    });
    const missing = await errorOf(() => none.chat.completions.create(question));
    assert.ok(missing instanceof AuthenticationError);
    assert.equal(missing.code, "missing_api_key");
    const foreign = await errorOf(() =>
      clientWith("sk-proj-of-another-service", strict.url).chat.completions.create(question),
    );
    assert.ok(foreign instanceof AuthenticationError);
    assert.equal(foreign.code, "invalid_api_key");
  } finally {
    await strict.close();
  }
});

test("402: a request that does not fit in the hard cap is refused with the rule and its numbers, and nobody is asked", async () => {
  const poor = await brikk.createKey({ softCap: nanoUsd(1_000n), hardCap: nanoUsd(1_000n) });
  const before = brikk.simulator.served.totals().openai.requests;
  const error = await errorOf(() => clientWith(poor.secret).chat.completions.create(question));
  assert.equal(error.status, 402);
  assert.equal(error.code, "hard_cap_exceeded");
  assert.equal(error.type, "insufficient_quota");
  assert.equal(error.headers?.get("x-should-retry"), "false");
  const details = sent(error)["details"] as Record<string, unknown>;
  assert.equal(details["scope"], "key");
  assert.equal(details["window"], "day");
  assert.equal(details["limit_usd"], 0.000001);
  assert.equal(details["spent_usd"], 0);
  assert.equal(details["reserved_usd"], 0);
  assert.match(String(details["resets_at"]), /T00:00:00.000Z$/);
  assert.equal(brikk.simulator.served.totals().openai.requests, before);
});

test("402 is not tried again by the SDK's own retries, plain or streamed", async () => {
  const poor = await brikk.createKey({ softCap: nanoUsd(1_000n), hardCap: nanoUsd(1_000n) });
  const retrying = new OpenAI({ baseURL: `${brikk.url}/v1`, apiKey: poor.secret });
  for (const stream of [false, true]) {
    const error = await errorOf(() => retrying.chat.completions.create({ ...question, stream }));
    assert.deepEqual([error.status, error.code], [402, "hard_cap_exceeded"]);
  }
  const rows = (await brikk.events()).filter((row) => row["key_id"] === poor.id);
  assert.deepEqual(
    rows.map((row) => [row["outcome"], row["status"]]),
    [
      ["refused", 402n],
      ["refused", 402n],
    ],
  );
});

test("404: a model that nobody offers is a NotFoundError", async () => {
  const error = await errorOf(() => client.chat.completions.create({ ...question, model: "no-such-model" }));
  assert.ok(error instanceof NotFoundError);
  assert.equal(error.code, "model_not_found");
  assert.equal(error.param, "model");
  assert.ok(
    (await errorOf(() => client.embeddings.create({ model: "no-such-model", input: "x" }))) instanceof NotFoundError,
  );
});

test("429: the request over the key's limit is a RateLimitError that says when to come back", async () => {
  const slow = clientWith((await brikk.createKey({ rateLimitPerMin: 1 })).secret);
  await slow.chat.completions.create(question);
  const error = await errorOf(() => slow.chat.completions.create(question));
  assert.ok(error instanceof RateLimitError);
  assert.equal(error.code, "rate_limit_exceeded");
  const seconds = Number(error.headers.get("retry-after"));
  assert.ok(seconds >= 1 && seconds <= 60, `Retry-After is ${seconds}`);
  assert.equal(error.headers.get("x-should-retry"), "true");
  assert.equal(Math.ceil(Number(error.headers.get("retry-after-ms")) / 1_000), seconds);
  assert.equal(error.headers.get("x-ratelimit-remaining"), "0");
  assert.equal(error.headers.get("x-ratelimit-remaining-requests"), "0");
});

test("429: a provider's own limit is a RateLimitError with the provider's Retry-After", async () => {
  brikk.simulator.faults.set({ vendor: "openai", count: 1, fault: { kind: "status", status: 429, retryAfter: 17 } });
  const error = await errorOf(() => client.chat.completions.create(question));
  assert.ok(error instanceof RateLimitError);
  assert.equal(error.code, "provider_rate_limited");
  assert.equal(error.headers.get("retry-after"), "17");
});

test("5xx: a provider's failure is an InternalServerError, before a plain answer and before a stream", async () => {
  for (const stream of [false, true]) {
    brikk.simulator.faults.set({
      vendor: "openai",
      count: 1,
      fault: {
        kind: "status",
        status: 500,
        body: { error: { message: "internal words of the vendor", type: "server_error" } },
      },
    });
    const error = await errorOf(() => client.chat.completions.create({ ...question, stream }));
    assert.ok(error instanceof InternalServerError);
    assert.equal(error.status, 502);
    assert.equal(error.code, "provider_error");
    assert.ok(!JSON.stringify(error.error).includes("internal words"), "the vendor's words stay with the operator");
    const row = (await brikk.events()).at(-1);
    assert.equal(row?.["outcome"], "failed");
    assert.equal(Number(row?.["cost_nano_usd"]), 0);
  }
});

test("a refusal of the gateway's own credentials never looks like the caller's", async () => {
  brikk.simulator.faults.set({ vendor: "openai", count: 1, fault: { kind: "status", status: 401 } });
  const error = await errorOf(() => client.chat.completions.create(question));
  assert.ok(error instanceof InternalServerError);
  assert.equal(error.code, "provider_credentials_rejected");
  assert.equal(error.headers.get("x-should-retry"), "false");
});

for (const kind of ["cut", "malformed-chunk", "error-event"] as const) {
  test(`a stream that breaks off (${kind}) raises an APIError after the text so far; it never ends as if finished`, async () => {
    // A pace, so that the first words are on their way before the fault comes.
    const paced = await startGateway({ simulator: { tokensPerSecond: 100 } });
    try {
      const whole = (await vendor.chat.completions.create(question)).choices[0]!.message.content!;
      paced.simulator.faults.set({ vendor: "openai", fault: { kind, afterTokens: 10 } });
      const stream = await clientWith((await paced.createKey()).secret, paced.url).chat.completions.create({
        ...question,
        stream: true,
      });
      let text = "";
      const error = await errorOf(async () => {
        for await (const chunk of stream) {
          text += chunk.choices[0]?.delta.content ?? "";
          assert.equal(chunk.choices[0]?.finish_reason ?? null, null);
        }
      });
      assert.equal(error.code, "provider_error");
      assert.ok(text !== "" && whole.startsWith(text) && text.length < whole.length, `the text so far: ${text}`);
      const row = (await paced.events()).at(-1);
      assert.equal(row?.["outcome"], "truncated");
      assert.equal(row?.["usage_source"], "estimated");
    } finally {
      await paced.close();
    }
  });

  test(`a stream that breaks off at once (${kind}) raises an APIError`, async () => {
    brikk.simulator.faults.set({ vendor: "openai", count: 1, fault: { kind, afterTokens: 2 } });
    const error = await errorOf(async () => {
      for await (const chunk of await client.chat.completions.create({ ...question, stream: true }))
        assert.equal(chunk.choices[0]?.finish_reason ?? null, null);
    });
    assert.equal(error.code, "provider_error");
    assert.notEqual((await brikk.events()).at(-1)?.["outcome"], "completed");
  });
}

test("a stream whose provider forgot [DONE] after its usage is whole all the same", async () => {
  brikk.simulator.faults.set({ vendor: "openai", count: 1, fault: { kind: "missing-done" } });
  const whole = (await vendor.chat.completions.create(question)).choices[0]!.message.content;
  const final = await client.chat.completions.stream(question).finalChatCompletion();
  assert.equal(final.choices[0]?.message.content, whole);
  assert.equal((await brikk.events()).at(-1)?.["outcome"], "completed");
});
