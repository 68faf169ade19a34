import assert from "node:assert/strict";
import { createServer, type IncomingMessage, request as httpRequest, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { type TestContext, test } from "node:test";
import type { Row } from "../../src/storage/database.ts";
import { type GatewayUnderTest, type HarnessOptions, startGateway } from "../harness/gateway-under-test.ts";

async function gatewayFor(t: TestContext, options?: HarnessOptions): Promise<GatewayUnderTest> {
  const gateway = await startGateway(options);
  t.after(() => gateway.close());
  return gateway;
}

interface Caller {
  readonly requestId: string;
  /** Resolves with the answer once its head has come. */
  readonly answer: Promise<IncomingMessage>;
  /** Closes the caller's socket, as a browser tab does. */
  leave(): void;
}

let lastRequest = 0;
function ask(gateway: GatewayUnderTest, body: object): Caller {
  const requestId = `cancel-${++lastRequest}`;
  const outgoing = httpRequest(`${gateway.url}/v1/chat/completions`, {
    method: "POST",
    agent: false,
    headers: { "content-type": "application/json", "x-request-id": requestId },
  });
  const answer = new Promise<IncomingMessage>((resolve, reject) =>
    outgoing.on("response", resolve).on("error", reject),
  );
  // A caller who has left waits for nothing.
  answer.catch(() => undefined);
  outgoing.end(JSON.stringify({ model: "gpt-4o-mini", ...body }));
  return { requestId, answer, leave: () => outgoing.destroy() };
}

/** The request's row, as soon as there is one. */
async function rowOf(gateway: GatewayUnderTest, { requestId }: Caller): Promise<Row> {
  for (;;) {
    const rows = await gateway.all(`select * from usage_events where request_id = '${requestId}'`);
    if (rows.length > 0) {
      assert.equal(rows.length, 1);
      return rows[0]!;
    }
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
}

/** Waits until so many chunks with text have come. */
async function takeChunks(answer: IncomingMessage, wanted: number): Promise<void> {
  let seen = 0;
  answer.on("error", () => undefined);
  await new Promise<void>((resolve) => {
    answer.setEncoding("utf8").on("data", (text: string) => {
      seen += text.match(/"content":"[^"]/g)?.length ?? 0;
      if (seen >= wanted) resolve();
    });
  });
}

const within = (actual: number, expected: number, share: number, what: string): void =>
  assert.ok(
    Math.abs(actual - expected) <= expected * share,
    `${what}: ${actual} is not within ${share * 100} % of ${expected}`,
  );

const prompts: readonly [string, string][] = [
  ["en", "Please write 400 words about how the tides work and why they differ from place to place."],
  ["ja", "潮の満ち引きの仕組みについて、場所によって違う理由も含めて600文字で説明してください。"],
];
for (const [language, prompt] of prompts) {
  for (const model of ["gpt-4o-mini", "mistral-small-latest"]) {
    test(`a caller who leaves mid-stream stops the provider within a second and pays for what came, within 15 %: ${language}, ${model}`, async (t) => {
      // What the provider still says before it hears of the leaving counts, and on a busy machine that takes a while.
      const gateway = await gatewayFor(t, { simulator: { firstTokenMs: 0, tokensPerSecond: 50 } });
      const caller = ask(gateway, { model, stream: true, messages: [{ role: "user", content: prompt }] });
      await takeChunks(await caller.answer, 60);
      const leftAt = performance.now();
      caller.leave();
      const served = await gateway.simulator.served.whenRecorded(() => true);
      const tookMs = performance.now() - leftAt;
      assert.ok(tookMs < 1_000, `the provider went on for ${tookMs} ms`);
      assert.equal(served.aborted, true);
      assert.equal(served.finished, false);
      const row = await rowOf(gateway, caller);
      assert.deepEqual(
        [row["outcome"], row["status"], row["usage_source"], row["stream"]],
        ["cancelled", 499n, "estimated", 1n],
      );
      assert.ok(served.usage.completionTokens >= 60);
      within(Number(row["output_tokens"]), served.usage.completionTokens, 0.15, "output");
      within(Number(row["fresh_input_tokens"]), served.usage.promptTokens, 0.15, "input");
      assert.ok((row["cost_nano_usd"] as bigint) > 0n);
    });
  }
}

test("a caller who leaves while the answer streams gives the reservation back, all but the estimate", async (t) => {
  const gateway = await gatewayFor(t, { simulator: { firstTokenMs: 0, tokensPerSecond: 150 } });
  const caller = ask(gateway, { stream: true, messages: [{ role: "user", content: prompts[0]![1] }] });
  await takeChunks(await caller.answer, 5);
  caller.leave();
  const row = await rowOf(gateway, caller);
  const answer = await fetch(`${gateway.url}/usage/me`);
  const usage = (await answer.json()) as { today: { cost_usd: number; requests: number } };
  assert.equal(BigInt(Math.round(usage.today.cost_usd * 1e9)), row["cost_nano_usd"]);
  assert.equal(usage.today.requests, 1);
});

/** A provider that the test leads by hand, and that tells when it is left. */
async function heldProvider(
  t: TestContext,
  begin: (response: ServerResponse) => void,
): Promise<{ baseUrl: string; asked: Promise<void>; gone: Promise<number>; asks: () => number }> {
  const asked = Promise.withResolvers<void>();
  const gone = Promise.withResolvers<number>();
  let asks = 0;
  const server = createServer((incoming, response) => {
    incoming.resume().on("end", () => {
      asks += 1;
      begin(response);
      asked.resolve();
    });
    response.on("close", () => gone.resolve(performance.now()));
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  t.after(
    () =>
      new Promise<void>((resolve) => {
        server.close(() => resolve());
        server.closeAllConnections();
      }),
  );
  return {
    baseUrl: `http://127.0.0.1:${(server.address() as AddressInfo).port}/v1`,
    asked: asked.promise,
    gone: gone.promise,
    asks: () => asks,
  };
}

const PROMPT = { messages: [{ role: "user", content: "How are you?" }] };
const beginnings: readonly [string, boolean, (response: ServerResponse) => void][] = [
  ["before a stream's status line", true, () => undefined],
  [
    "before a stream's first token",
    true,
    (response) =>
      response
        .writeHead(200, { "content-type": "text/event-stream" })
        .write('data: {"choices":[{"index":0,"delta":{"role":"assistant"}}]}\n\n'),
  ],
  ["while a plain answer is being made", false, () => undefined],
  [
    "in the middle of a plain answer's body",
    false,
    (response) => response.writeHead(200, { "content-length": "1000" }).write('{"id":"c",'),
  ],
];
for (const [what, stream, begin] of beginnings) {
  test(`a caller who leaves ${what} stops the provider within a second; nobody else is asked, and the input is charged`, async (t) => {
    const provider = await heldProvider(t, begin);
    const other = await heldProvider(t, () => undefined);
    const gateway = await gatewayFor(t, { providers: { openai: provider.baseUrl, mistral: other.baseUrl } });
    const caller = ask(gateway, { ...PROMPT, model: "brikk/auto", stream });
    await provider.asked;
    const leftAt = performance.now();
    caller.leave();
    const tookMs = (await provider.gone) - leftAt;
    assert.ok(tookMs < 1_000, `the provider was held for ${tookMs} ms`);
    const row = await rowOf(gateway, caller);
    assert.deepEqual(
      [row["outcome"], row["status"], row["usage_source"], row["output_tokens"], row["attempts"]],
      ["cancelled", 499n, "estimated", 0n, 1n],
    );
    assert.ok((row["fresh_input_tokens"] as bigint) > 0n);
    assert.equal(other.asks(), 0);
    assert.equal(gateway.gateway.inFlight.count, 0);
  });
}

test("a caller who closes the connection after the whole answer has not cancelled it", async (t) => {
  const gateway = await gatewayFor(t);
  for (const stream of [false, true]) {
    const caller = ask(gateway, { ...PROMPT, stream });
    const answer = await caller.answer;
    await answer.toArray();
    caller.leave();
    assert.equal((await rowOf(gateway, caller))["outcome"], "completed");
  }
});

test("many callers leaving at once leave nothing in hand and one row each", async (t) => {
  const gateway = await gatewayFor(t, { simulator: { firstTokenMs: 0, tokensPerSecond: 100 } });
  const callers = Array.from({ length: 50 }, (_, index) =>
    ask(gateway, { stream: true, messages: [{ role: "user", content: `${prompts[0]![1]} ${index}` }] }),
  );
  await Promise.all(callers.map(async (caller) => takeChunks(await caller.answer, 2)));
  for (const caller of callers) caller.leave();
  const rows = await Promise.all(callers.map((caller) => rowOf(gateway, caller)));
  assert.ok(rows.every((row) => row["outcome"] === "cancelled"));
  assert.equal(gateway.gateway.inFlight.count, 0);
  const standing = gateway.gateway.ledger.standing({
    id: String(rows[0]!["key_id"]),
    name: "",
    state: { kind: "active" },
    revision: 1,
    createdAtMs: 0,
  });
  assert.equal(standing.budgets[0]!.reserved, 0n);
  assert.equal(
    standing.budgets[0]!.spent,
    rows.reduce((sum, row) => sum + (row["cost_nano_usd"] as bigint), 0n),
  );
});
