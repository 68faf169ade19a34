import assert from "node:assert/strict";
import { type TestContext, test } from "node:test";
import OpenAI, { APIError } from "openai";
import { request } from "undici";
import type { RescueMode } from "../../src/access/api-key.ts";
import type { PolicyConfig } from "../../src/config.ts";
import type { Row } from "../../src/storage/database.ts";
import { type GatewayUnderTest, type HarnessOptions, startGateway } from "../harness/gateway-under-test.ts";
import { billOf } from "../harness/provider-bill.ts";
import { eventually } from "../ledger/ledger-fixture.ts";

/** What a caller sees of keep-alive, rescue and hedging, over HTTP and through the OpenAI SDK. */
const MESSAGES = [{ role: "user" as const, content: "Why is the sky blue, and the sea too?" }];
const BOTH = { model: "gpt-4o-mini", models: ["mistral-small-latest"] };

async function started(t: TestContext, options: HarnessOptions = {}): Promise<GatewayUnderTest> {
  const brikk = await startGateway(options);
  t.after(() => brikk.close());
  return brikk;
}

const post = (brikk: GatewayUnderTest, body: object, headers: Record<string, string> = {}) =>
  request(`${brikk.url}/v1/chat/completions`, {
    method: "POST",
    headers: { "content-type": "application/json", ...headers },
    body: JSON.stringify({ messages: MESSAGES, max_tokens: 60, ...body }),
  });

interface Told {
  readonly status: number;
  readonly headers: Record<string, string | string[] | undefined>;
  readonly text: string;
}

async function streamOf(
  brikk: GatewayUnderTest,
  body: object = {},
  headers: Record<string, string> = {},
): Promise<Told> {
  const answer = await post(
    brikk,
    { ...BOTH, stream: true, stream_options: { include_usage: true }, ...body },
    headers,
  );
  return { status: answer.statusCode, headers: answer.headers, text: await answer.body.text() };
}

interface Chunk {
  readonly id: string;
  readonly choices: readonly { readonly delta: { readonly content?: string }; readonly finish_reason: string | null }[];
  readonly usage?: { readonly cost_usd: number; readonly completion_tokens: number } | null;
  readonly brikk?: { readonly rescue: RescueMode; readonly served_by: readonly string[] };
}

const chunksOf = ({ text }: Told): Chunk[] =>
  text
    .split("\n\n")
    .filter((event) => event.startsWith("data: {"))
    .map((event) => JSON.parse(event.slice("data: ".length)) as Chunk);
const wordsOf = (chunks: readonly Chunk[]): string =>
  chunks.map(({ choices }) => choices[0]?.delta.content ?? "").join("");
const errorIn = ({ text }: Told): { code: string } | undefined => {
  const data = text.split("event: error\ndata: ")[1];
  return data === undefined ? undefined : (JSON.parse(data) as { error: { code: string } }).error;
};

async function lastRow(brikk: GatewayUnderTest): Promise<Row> {
  const row = (await brikk.events()).at(-1);
  assert.ok(row);
  return row;
}

/** The whole of a counter or gauge as `/metrics` shows it; 0 where it does not. */
async function metric(brikk: GatewayUnderTest, name: string): Promise<number> {
  const { body } = await request(`${brikk.url}/metrics`);
  const line = (await body.text()).split("\n").find((text) => text.startsWith(`${name} `));
  return line === undefined ? 0 : Number(line.slice(name.length));
}

const clientOf = async (brikk: GatewayUnderTest, rescue?: RescueMode): Promise<OpenAI> => {
  const { secret } = await brikk.createKey(rescue && { rescue });
  return new OpenAI({ baseURL: `${brikk.url}/v1`, apiKey: secret, maxRetries: 0 });
};

async function readWithSdk(
  client: OpenAI,
  headers: Record<string, string> = {},
): Promise<{ text: string; finish: string | null | undefined }> {
  const stream = await client.chat.completions.create(
    { ...BOTH, messages: MESSAGES, max_tokens: 60, stream: true } as OpenAI.ChatCompletionCreateParamsStreaming,
    { headers },
  );
  let text = "";
  let finish: string | null | undefined;
  for await (const { choices } of stream) {
    text += choices[0]?.delta.content ?? "";
    finish = choices[0]?.finish_reason ?? finish;
  }
  return { text, finish };
}

/** What the second says by itself, to the question or behind a beginning that it is given. */
async function wholeAnswer({ simulator }: GatewayUnderTest, prefix?: string): Promise<string> {
  const given = prefix === undefined ? [] : [{ role: "assistant", content: prefix, prefix: true }];
  const { body } = await request(`${simulator.mistralBaseUrl}/chat/completions`, {
    method: "POST",
    headers: { authorization: "Bearer any", "content-type": "application/json" },
    body: JSON.stringify({ model: "mistral-small-latest", max_tokens: 60, messages: [...MESSAGES, ...given] }),
  });
  return ((await body.json()) as { choices: [{ message: { content: string } }] }).choices[0].message.content;
}

const KEEP_ALIVE = { BRIKK_KEEP_ALIVE_SECONDS: "0.1" };
const CUT = { kind: "cut", afterTokens: 8 } as const;

test("while a model is silent comments keep the stream alive, and then its answer comes whole", async (t) => {
  const brikk = await started(t, { environment: KEEP_ALIVE });
  brikk.simulator.faults.set({ vendor: "openai", fault: { kind: "slow-first-token", ms: 600 } });
  const told = await streamOf(brikk);
  assert.equal(told.status, 200);
  const comments = told.text.match(/^(?:: .*\n\n)+/)?.[0].match(/\n\n/g)?.length ?? 0;
  assert.ok(comments >= 3, `${comments} comments in 600 ms`);
  assert.match(told.text, /data: \[DONE\]\n\n$/);
  assert.equal(chunksOf(told).findLast(({ choices }) => choices.length > 0)?.choices[0]?.finish_reason, "length");
  const row = await lastRow(brikk);
  assert.deepEqual([row["outcome"], row["status"], row["attempts"]], ["completed", 200n, 1n]);
  assert.deepEqual(await readWithSdk(await clientOf(brikk)), { text: wordsOf(chunksOf(told)), finish: "length" });
});

test("a failure after the keep-alive took the status line is an error event, and the row says 200 and failed", async (t) => {
  const brikk = await started(t, {
    environment: { ...KEEP_ALIVE, PROVIDER_FIRST_TOKEN_TIMEOUT_SECONDS: "0.4", PROVIDER_MAX_RETRIES: "0" },
  });
  brikk.simulator.faults.set({ vendor: "*", fault: { kind: "hang" } });
  const told = await streamOf(brikk);
  assert.equal(told.status, 200);
  assert.equal(errorIn(told)?.code, "provider_timeout");
  assert.doesNotMatch(told.text, /\[DONE\]/);
  const row = await lastRow(brikk);
  assert.deepEqual(
    [row["outcome"], row["status"], row["error_code"], row["attempts"]],
    ["failed", 200n, "provider_timeout", 2n],
  );
  await assert.rejects(readWithSdk(await clientOf(brikk)), APIError);
});

test("rescue by continuation: the caller sees one answer under one id, its first part as it was, and both parts' cost", async (t) => {
  const brikk = await started(t);
  brikk.simulator.faults.set({ vendor: "openai", count: 1, fault: CUT });
  const cut = chunksOf(await streamOf(brikk, {}, { "x-brikk-rescue": "off" }));
  brikk.simulator.faults.set({ vendor: "openai", count: 1, fault: CUT });
  const told = await streamOf(brikk, {}, { "x-brikk-rescue": "continue" });
  const chunks = chunksOf(told);
  assert.equal(errorIn(told), undefined);
  assert.equal(told.text.match(/\[DONE\]/g)?.length, 1);
  assert.match(told.text, /data: \[DONE\]\n\n$/);
  const first = wordsOf(cut);
  assert.ok(first.length > 0 && wordsOf(chunks).startsWith(first) && wordsOf(chunks).length > first.length);
  assert.equal(new Set(chunks.map(({ id }) => id)).size, 1);
  assert.equal(chunks.filter(({ choices }) => choices[0]?.finish_reason).length, 1);
  const mark = { rescue: "continue", served_by: ["openai/gpt-4o-mini", "mistral/mistral-small-latest"] };
  const last = chunks.findLast(({ choices }) => choices[0]?.finish_reason);
  assert.deepEqual(last?.brikk, mark);
  const row = await lastRow(brikk);
  assert.deepEqual(
    [row["outcome"], row["rescue"], row["provider"], row["attempts"], row["usage_source"]],
    ["completed", "continue", "mistral", 2n, "exact"],
  );
  const served = brikk.simulator.served.list(1)[0]!;
  // The vendor sends the beginning that it was given once more, and it is not shown twice.
  assert.ok((await wholeAnswer(brikk, first)).startsWith(wordsOf(chunks)));
  assert.equal(
    (row["cost_nano_usd"] as bigint) - (row["earlier_cost_nano_usd"] as bigint),
    billOf(served.model, served.usage),
  );
  assert.ok((row["earlier_cost_nano_usd"] as bigint) > 0n);
  const toldUsd = chunks.findLast(({ usage }) => usage)?.usage?.cost_usd ?? 0;
  assert.equal(BigInt(Math.round(toldUsd * 1e9)), row["cost_nano_usd"]);
  assert.equal(await metric(brikk, 'brikk_rescues_total{mode="continue",outcome="completed"}'), 1);
});

test("rescue by restart: a chunk without choices voids what came, and then the second's answer comes whole", async (t) => {
  const brikk = await started(t);
  const whole = await wholeAnswer(brikk);
  brikk.simulator.faults.set({ vendor: "openai", count: 1, fault: CUT });
  const told = await streamOf(brikk, {}, { "x-brikk-rescue": "restart" });
  const chunks = chunksOf(told);
  const notice = chunks.findIndex(({ choices, brikk: mark }) => choices.length === 0 && mark !== undefined);
  assert.ok(notice > 0);
  assert.deepEqual(chunks[notice]?.brikk, {
    rescue: "restart",
    served_by: ["openai/gpt-4o-mini", "mistral/mistral-small-latest"],
  });
  assert.equal(wordsOf(chunks.slice(notice)), whole);
  assert.match(told.text, /data: \[DONE\]\n\n$/);
  assert.deepEqual([(await lastRow(brikk))["rescue"], (await lastRow(brikk))["outcome"]], ["restart", "completed"]);
});

test("a rescue that breaks as well ends as what it is, within the attempts there are", async (t) => {
  const brikk = await started(t, { environment: { PROVIDER_MAX_RETRIES: "1" } });
  brikk.simulator.faults.set({ vendor: "*", fault: CUT });
  for (const mode of ["continue", "restart"] as const) {
    const told = await streamOf(brikk, {}, { "x-brikk-rescue": mode });
    assert.equal(errorIn(told)?.code, "provider_error", mode);
    assert.doesNotMatch(told.text, /\[DONE\]/);
    const row = await lastRow(brikk);
    assert.deepEqual([row["outcome"], row["attempts"], row["usage_source"]], ["truncated", 3n, "estimated"]);
    brikk.gateway.health.reset();
  }
});

test("the OpenAI SDK reads a rescued stream to its end, by header or by key, and raises for one that is cut", async (t) => {
  const brikk = await started(t);
  const strike = (): void => {
    brikk.gateway.health.reset();
    brikk.simulator.faults.set({ vendor: "openai", count: 1, fault: CUT });
  };
  const plain = await clientOf(brikk);
  for (const mode of ["continue", "restart"] as const) {
    strike();
    assert.equal((await readWithSdk(plain, { "X-Brikk-Rescue": mode })).finish, "length", mode);
    strike();
    assert.equal((await readWithSdk(await clientOf(brikk, mode))).finish, "length", `${mode} by key`);
    assert.equal((await lastRow(brikk))["rescue"], mode);
  }
  strike();
  await assert.rejects(readWithSdk(plain), (error) => error instanceof APIError && error.code === "provider_error");
  strike();
  const keyed = await clientOf(brikk, "continue");
  await assert.rejects(readWithSdk(keyed, { "X-Brikk-Rescue": "off" }), APIError);
  assert.deepEqual([(await lastRow(brikk))["rescue"], (await lastRow(brikk))["outcome"]], [null, "truncated"]);
});

test("X-Brikk-Rescue with another word is refused before anybody is asked", async (t) => {
  const brikk = await started(t);
  const { statusCode, body } = await post(brikk, { ...BOTH, stream: true }, { "x-brikk-rescue": "always" });
  const { error } = (await body.json()) as { error: { code: string; param: string } };
  assert.deepEqual([statusCode, error.code, error.param], [400, "invalid_request", "X-Brikk-Rescue"]);
  assert.equal(brikk.simulator.served.list().length, 0);
});

const hedged = (maxExtraSpend: number): PolicyConfig => ({
  name: "quick",
  candidates: [
    { model: "openai/gpt-4o-mini", weight: 1 },
    { model: "mistral/mistral-small-latest", weight: 1 },
  ],
  strategy: "order",
  maxPrice: undefined,
  appliesTo: [],
  hedge: { afterMs: 100, maxExtraSpend },
});

test("hedging: who is slow to begin is joined by the second, the first token wins, the loser is let go and its cost is charged", async (t) => {
  const brikk = await started(t, { policies: [hedged(1)] });
  const quick = { model: "brikk/quick", models: undefined };
  // What may be lost is a share of what was spent.
  for (let turn = 0; turn < 3; turn++) await streamOf(brikk, quick);
  assert.deepEqual([...new Set((await brikk.events()).map(({ attempts }) => attempts))], [1n]);
  brikk.simulator.faults.set({ vendor: "openai", fault: { kind: "slow-first-token", ms: 5_000 } });
  const sentAt = performance.now();
  const told = await streamOf(brikk, quick);
  assert.ok(performance.now() - sentAt < 3_000);
  assert.match(told.text, /data: \[DONE\]\n\n$/);
  assert.equal(told.headers["x-brikk-provider"], "mistral");
  const loser = await brikk.simulator.served.whenRecorded(({ aborted }) => aborted);
  assert.ok(loser.vendor === "openai" && (loser.abortedAtMs ?? 0) < 3_000);
  const row = await lastRow(brikk);
  assert.deepEqual(
    [row["provider"], row["attempts"], row["fallback"], row["outcome"], row["usage_source"]],
    ["mistral", 2n, 1n, "completed", "exact"],
  );
  const winner = brikk.simulator.served.list().findLast(({ vendor }) => vendor === "mistral")!;
  const earlier = row["earlier_cost_nano_usd"] as bigint;
  assert.equal((row["cost_nano_usd"] as bigint) - earlier, billOf(winner.model, winner.usage));
  const bill = Number(billOf(loser.model, loser.usage));
  assert.ok(Math.abs(Number(earlier) - bill) <= bill * 0.15, `${earlier} nano-USD were charged, ${bill} billed`);
  assert.equal(
    await metric(brikk, 'brikk_hedges_total{provider="mistral",model="mistral-small-latest",outcome="won"}'),
    1,
  );
  await eventually(() => brikk.gateway.health.providerReport("openai").inFlight === 0);
});

test("hedging stays within its share of the spending: where nothing may be lost nobody is asked beside", async (t) => {
  const brikk = await started(t, { policies: [hedged(0)] });
  const quick = { model: "brikk/quick", models: undefined };
  await streamOf(brikk, quick);
  brikk.simulator.faults.set({ vendor: "openai", fault: { kind: "slow-first-token", ms: 400 } });
  const told = await streamOf(brikk, quick);
  assert.equal(told.headers["x-brikk-provider"], "openai");
  const row = await lastRow(brikk);
  assert.deepEqual([row["attempts"], row["earlier_cost_nano_usd"]], [1n, 0n]);
  assert.equal(brikk.simulator.served.totals().mistral.requests, 0);
  assert.equal(
    await metric(brikk, 'brikk_hedges_total{provider="mistral",model="mistral-small-latest",outcome="skipped"}'),
    1,
  );
});
