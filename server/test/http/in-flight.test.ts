import assert from "node:assert/strict";
import { type TestContext, test } from "node:test";
import { request } from "undici";
import { createInFlight } from "../../src/http/in-flight.ts";
import { startGateway } from "../harness/gateway-under-test.ts";
import { coded } from "../ledger/ledger-fixture.ts";

function opened({ most = 10, maxLoopDelayMs = 100 }: { most?: number; maxLoopDelayMs?: number } = {}) {
  const loop = { delayMs: 0 };
  const refused: string[] = [];
  const inFlight = createInFlight({
    most,
    maxLoopDelayMs,
    loopDelayMs: () => loop.delayMs,
    onCount: () => undefined,
    onRefused: (reason) => refused.push(reason),
  });
  return { inFlight, loop, refused };
}

test("while the event loop is later than allowed new requests are refused as overloaded, with how late it is and when to come back", () => {
  const { inFlight, loop, refused } = opened();
  loop.delayMs = 100;
  assert.equal(inFlight.refusal(), undefined);
  loop.delayMs = 250.4;
  const refusal = inFlight.refusal();
  assert.deepEqual(
    [refusal?.code, refusal?.extras.details, refusal?.extras.retryAfterMs],
    ["overloaded", { event_loop_delay_ms: 250, limit_ms: 100 }, 2_000],
  );
  assert.deepEqual(refused, ["event_loop"]);
  loop.delayMs = 0;
  assert.equal(inFlight.refusal(), undefined);
});

test("an event loop without a limit may be as late as it likes", () => {
  const { inFlight, loop } = opened({ maxLoopDelayMs: 0 });
  loop.delayMs = 60_000;
  assert.equal(inFlight.refusal(), undefined);
});

test("a request that was let in before a drain which found nothing in hand does not begin in a process that closes", async () => {
  const { inFlight } = opened();
  assert.equal(inFlight.refusal(), undefined);
  await inFlight.drain(1_000);
  assert.throws(() => inFlight.begin(), coded("draining"));
  assert.equal(inFlight.count, 0);
});

test("a request that was let in before a drain begins while the drain waits for others, and is waited for", async () => {
  const { inFlight } = opened();
  const first = inFlight.begin();
  let drained = false;
  const draining = inFlight.drain(30_000).then(() => (drained = true));
  const second = inFlight.begin();
  first.end();
  await new Promise(setImmediate);
  assert.equal(drained, false);
  second.end();
  await draining;
  assert.throws(() => inFlight.begin(), coded("draining"));
});

test("those who were let in together do not become more than may be in hand", () => {
  const { inFlight, refused } = opened({ most: 1 });
  inFlight.begin();
  assert.throws(() => inFlight.begin(), coded("overloaded"));
  assert.deepEqual(refused, ["process"]);
});

/** Turns of the event loop that each take so long, until the test stops them. */
function blockLoop(t: TestContext, ms: number): () => void {
  let blocking = true;
  const turn = (): void => {
    const until = performance.now() + ms;
    while (performance.now() < until);
    if (blocking) setTimeout(turn, 1);
  };
  turn();
  const stop = (): void => void (blocking = false);
  t.after(stop);
  return stop;
}

test("a gateway whose event loop is late says 503 overloaded to new requests and counts them, and serves again when it is not", async (t) => {
  const brikk = await startGateway({ environment: { BRIKK_MAX_EVENT_LOOP_DELAY_MS: "30" } });
  t.after(() => brikk.close());
  const ask = async () => {
    const { statusCode, headers, body } = await request(`${brikk.url}/v1/chat/completions`, {
      method: "POST",
      headers: { "content-type": "application/json" },
      body: JSON.stringify({ model: "gpt-4o-mini", max_tokens: 5, messages: [{ role: "user", content: "Why?" }] }),
    });
    return { status: statusCode, headers, body: (await body.json()) as { error?: { code: string; details: object } } };
  };
  const askedUntil = async (status: number) => {
    const until = performance.now() + 20_000;
    for (;;) {
      const answer = await ask();
      if (answer.status === status) return answer;
      assert.ok(performance.now() < until, `still ${answer.status}`);
    }
  };
  assert.equal((await askedUntil(200)).status, 200);
  const stop = blockLoop(t, 150);
  const { headers, body } = await askedUntil(503);
  assert.equal(body.error?.code, "overloaded");
  const { event_loop_delay_ms: late, limit_ms: limit } = body.error.details as Record<string, number>;
  assert.ok(late! > 30 && limit === 30, `${late} ms of ${limit} ms`);
  assert.equal(headers["retry-after"], "2");
  const metrics = await (await request(`${brikk.url}/metrics`)).body.text();
  assert.match(metrics, /^brikk_overload_refusals_total\{reason="event_loop"\} [1-9]/m);
  stop();
  await askedUntil(200);
});
