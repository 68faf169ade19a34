import assert from "node:assert/strict";
import { test } from "node:test";
import { BrikkError } from "../../src/errors.ts";
import { coded, eventually } from "../ledger/ledger-fixture.ts";
import { createTestClock } from "../lib/test-clock.ts";
import {
  answerStream,
  answerWhole,
  costsOf,
  hang,
  inTurn,
  type Play,
  playedPath,
  type PlayedProvider,
  playProvider,
  refuse,
  wireUsage,
} from "./played-providers.ts";

const left = (): BrikkError => new BrikkError("client_closed_request", "The caller left.");
const counts = (...providers: readonly PlayedProvider[]): number[] => providers.map(({ bodies }) => bodies.length);
const destroy: Play = ({ response }) => response.destroy();
const useless: Play = ({ response }) =>
  response
    .writeHead(200, { "content-type": "application/json" })
    .end(JSON.stringify({ choices: [], usage: wireUsage(7, 0) }));

test("whoever fails is followed by the next candidate at once; only when all were asked another round begins", async (t) => {
  const order: string[] = [];
  const named =
    (name: string, play: Play): Play =>
    (exchange) => {
      order.push(name);
      return play(exchange);
    };
  const a = await playProvider(t, "a", named("a", refuse(503)));
  const b = await playProvider(t, "b", named("b", inTurn(refuse(500), answerWhole("Fine."))));
  const { ask } = await playedPath(t, [a, b], { maxRetries: 3 });
  const { error, row } = await ask();
  assert.equal(error, undefined);
  assert.deepEqual(order, ["a", "b", "a", "b"]);
  assert.deepEqual([row["outcome"], row["attempts"], row["fallback"]], ["completed", 4n, 1n]);
});

test("the retries are one budget over all candidates", async (t) => {
  const a = await playProvider(t, "a", refuse(503));
  const b = await playProvider(t, "b", refuse(503));
  const { ask } = await playedPath(t, [a, b], { maxRetries: 3 });
  const { error, row } = await ask();
  assert.ok(coded("provider_error")(error));
  assert.deepEqual([row["outcome"], row["attempts"], ...costsOf(row)], ["failed", 5n, 0n, 0n]);
  assert.deepEqual(counts(a, b), [3, 2]);
});

/** What a lone candidate's fault leads to: how often it is asked with one retry, and who comes after it. */
const faults: readonly [string, Play, { asked: number; next: boolean; code: string }][] = [
  ["a broken connection", destroy, { asked: 2, next: true, code: "provider_error" }],
  ["408", refuse(408), { asked: 2, next: true, code: "provider_error" }],
  ["429 without a time", refuse(429), { asked: 2, next: true, code: "provider_rate_limited" }],
  ["500", refuse(500), { asked: 2, next: true, code: "provider_error" }],
  ["529", refuse(529), { asked: 2, next: true, code: "provider_error" }],
  [
    "429 that means quota",
    refuse(429, {}, { code: "insufficient_quota", message: "no" }),
    { asked: 1, next: true, code: "provider_quota_exceeded" },
  ],
  ["credentials", refuse(401), { asked: 1, next: true, code: "provider_credentials_rejected" }],
  ["a 200 of no use", useless, { asked: 1, next: true, code: "provider_error" }],
  ["silence", hang, { asked: 1, next: true, code: "provider_timeout" }],
  ["the caller's own mistake", refuse(400), { asked: 1, next: false, code: "invalid_request" }],
  ["a request that is too long", refuse(413), { asked: 1, next: false, code: "invalid_request" }],
];
for (const [what, play, { asked, next, code }] of faults) {
  test(`${what}: ${asked === 2 ? "asked again" : "not asked again"}, and ${next ? "the next one is asked" : "nobody else"}`, async (t) => {
    const timeouts = { attemptMs: 150 };
    const alone = await playProvider(t, "alone", play, { timeouts });
    const failed = await (await playedPath(t, [alone], { maxRetries: 1 })).ask();
    assert.ok(coded(code)(failed.error), String(failed.error));
    assert.deepEqual(counts(alone), [asked]);

    const first = await playProvider(t, "first", play, { timeouts });
    const second = await playProvider(t, "second", answerWhole("Fine."));
    const served = await (await playedPath(t, [first, second], { maxRetries: 1 })).ask();
    assert.deepEqual(counts(first, second), [1, next ? 1 : 0]);
    assert.equal(served.row["outcome"], next ? "completed" : "failed");
  });
}

test("a Retry-After that is short is waited for, and the candidate is asked again no earlier", async (t) => {
  const times: number[] = [];
  const noted =
    (play: Play): Play =>
    (exchange) => {
      times.push(performance.now());
      return play(exchange);
    };
  const a = await playProvider(t, "a", noted(inTurn(refuse(429, { "retry-after-ms": "300" }), answerWhole("Fine."))));
  const { ask } = await playedPath(t, [a], { maxRetries: 2 });
  assert.equal((await ask()).error, undefined);
  assert.equal(times.length, 2);
  assert.ok(times[1]! - times[0]! >= 290, `${times[1]! - times[0]!} ms`);
});

test("a Retry-After that is too long means the next candidate at once, and the first is left alone for that time", async (t) => {
  const clock = createTestClock();
  const a = await playProvider(t, "a", inTurn(refuse(429, { "retry-after": "120" }), answerWhole("I am back.")));
  const b = await playProvider(t, "b", answerWhole("Fine."));
  const { ask, services } = await playedPath(t, [a, b], { clock, maxRetries: 3 });
  await ask();
  await ask();
  assert.deepEqual(counts(a, b), [1, 2]);
  // It is no failure either.
  assert.deepEqual(services.health.standingOf("a", "a-model").errorRate, undefined);
  clock.advance(119_999);
  await ask();
  assert.deepEqual(counts(a, b), [1, 3]);
  clock.advance(1);
  await ask();
  assert.deepEqual(counts(a, b), [2, 3]);
});

test("when the only candidate asks for a long time it is not waited for: the refusal says how long, then and afterwards", async (t) => {
  const a = await playProvider(t, "a", refuse(429, { "retry-after": "120" }));
  const { ask } = await playedPath(t, [a], { clock: createTestClock(), maxRetries: 3 });
  for (const attempts of [1n, 0n]) {
    const { error, row } = await ask();
    assert.ok(coded("provider_rate_limited")(error));
    assert.equal(error?.extras.retryAfterMs, 120_000);
    assert.deepEqual([row["attempts"], row["outcome"], ...costsOf(row)], [attempts, "failed", 0n, 0n]);
  }
  assert.deepEqual(counts(a), [1]);
});

/** As many failures in a row as open a breaker. */
async function openBreakers(ask: () => Promise<unknown>): Promise<void> {
  for (let failure = 0; failure < 5; failure += 1) await ask();
}

test("who is open is passed over without being asked", async (t) => {
  const a = await playProvider(t, "a", refuse(503));
  const b = await playProvider(t, "b", answerWhole("Fine."));
  const { ask, services } = await playedPath(t, [a, b], { clock: createTestClock() });
  await openBreakers(ask);
  assert.equal(services.health.standingOf("a", "a-model").state, "open");
  const { row } = await ask();
  assert.deepEqual([counts(a, b), row["attempts"], row["fallback"]], [[5, 6], 1n, 1n]);
});

test("a breaker that has just opened is waited for where there is nobody else", async (t) => {
  const a = await playProvider(t, "a", ({ turn, ...exchange }) =>
    (turn <= 5 ? refuse(503) : answerWhole("Back."))({ turn, ...exchange }),
  );
  const { ask, services } = await playedPath(t, [a]);
  await openBreakers(ask);
  assert.equal(services.health.standingOf("a", "a-model").state, "open");
  const { error, row } = await ask();
  assert.equal(error, undefined);
  assert.deepEqual([row["outcome"], row["attempts"]], ["completed", 1n]);
  assert.equal(services.health.standingOf("a", "a-model").state, "closed");
});

test("an outage of all is told at once, with who, why and from when on, and nobody is asked or charged", async (t) => {
  const clock = createTestClock();
  const a = await playProvider(t, "a", refuse(503));
  const b = await playProvider(t, "b", refuse(503));
  const { ask } = await playedPath(t, [a, b], { clock });
  await openBreakers(ask);
  // Probes that fail double the time until nobody waits for it.
  for (const ms of [250, 500, 1_000, 2_000]) {
    clock.advance(ms);
    for (let probe = 0; probe < 3; probe += 1) await ask();
  }
  const before = counts(a, b);
  const { error, row } = await ask();
  assert.ok(coded("no_provider_available")(error), String(error));
  assert.equal(error?.extras.retryAfterMs, 4_000);
  assert.deepEqual(error?.extras.details?.["candidates"], [
    { provider: "a", model: "a-model", why: "circuit open", available_in_ms: 4_000 },
    { provider: "b", model: "b-model", why: "circuit open", available_in_ms: 4_000 },
  ]);
  assert.deepEqual([counts(a, b), row["attempts"], ...costsOf(row)], [before, 0n, 0n, 0n]);
});

test("where a provider has as much in hand as it may the next one is asked; the last one's queue is waited in; beyond that it is overloaded", async (t) => {
  const held: (() => void)[] = [];
  const hold: Play = (exchange) => new Promise((resolve) => held.push(() => resolve(answerWhole("Late.")(exchange))));
  const a = await playProvider(t, "a", hold, { maxInFlight: 1, maxQueued: 1 });
  const b = await playProvider(t, "b", hold, { maxInFlight: 1, maxQueued: 1 });
  const { services, ...both } = await playedPath(t, [a, b]);
  const report = (name: string) => services.health.providerReport(name);
  const asking = [both.ask()];
  await eventually(() => a.bodies.length === 1);
  asking.push(both.ask());
  await eventually(() => b.bodies.length === 1);
  asking.push(both.ask());
  await eventually(() => report("b").queued === 1);
  assert.equal(report("a").queued, 0);
  held.splice(0).forEach((go) => go());
  await eventually(() => b.bodies.length === 2);
  held.splice(0).forEach((go) => go());
  for (const { row } of await Promise.all(asking)) assert.equal(row["outcome"], "completed");
});

test("with place and queue full the answer is overloaded, with Retry-After; who waits and leaves is gone from the queue and pays nothing", async (t) => {
  let go: (() => void) | undefined;
  const hold: Play = (exchange) => new Promise((resolve) => (go = () => resolve(answerWhole("Late.")(exchange))));
  const a = await playProvider(t, "a", hold, { maxInFlight: 1, maxQueued: 1 });
  const { ask, services } = await playedPath(t, [a]);
  const first = ask();
  await eventually(() => go !== undefined);
  const controller = new AbortController();
  const second = ask({ controller });
  await eventually(() => services.health.providerReport("a").queued === 1);
  const { error } = await ask();
  assert.ok(coded("overloaded")(error), String(error));
  assert.ok(error!.extras.retryAfterMs! > 0);
  controller.abort(left());
  const { row } = await second;
  assert.deepEqual([row["outcome"], row["attempts"], ...costsOf(row)], ["cancelled", 0n, 0n, 0n]);
  go!();
  assert.equal((await first).row["outcome"], "completed");
  assert.equal(a.bodies.length, 1);
});

test("who leaves during the pause before a retry pays nothing for attempts that produced nothing", async (t) => {
  const a = await playProvider(t, "a", refuse(503));
  const { ask } = await playedPath(t, [a], { maxRetries: 5, random: () => 1 });
  const controller = new AbortController();
  const asking = ask({ controller });
  await eventually(() => a.bodies.length === 1);
  setTimeout(() => controller.abort(left()), 50);
  const { row } = await asking;
  assert.deepEqual([row["outcome"], row["attempts"], ...costsOf(row)], ["cancelled", 1n, 0n, 0n]);
});

test("who leaves at the very moment an attempt fails pays what it came to: nothing for a 503", async (t) => {
  const controller = new AbortController();
  const a = await playProvider(t, "a", refuse(503));
  const b = await playProvider(t, "b", answerWhole("Fine."));
  const path = await playedPath(t, [a, b]);
  const events = { ...path.services.events, attemptFailed: () => controller.abort(left()) };
  const { ask } = await playedPath(t, [a, b], { events });
  const { row } = await ask({ controller });
  assert.deepEqual([row["outcome"], row["attempts"], ...costsOf(row)], ["cancelled", 1n, 0n, 0n]);
  assert.deepEqual(counts(a, b), [1, 0]);
});

test("when the deadline passes during the pause the caller is told so, and nothing is charged", async (t) => {
  const a = await playProvider(t, "a", refuse(503));
  const { ask } = await playedPath(t, [a], { maxRetries: 5, random: () => 1 });
  const controller = new AbortController();
  const asking = ask({ controller });
  await eventually(() => a.bodies.length === 1);
  setTimeout(() => controller.abort(new BrikkError("deadline_exceeded", "Too long.")), 50);
  const { error, row } = await asking;
  assert.ok(coded("deadline_exceeded")(error));
  assert.deepEqual([row["outcome"], row["status"], ...costsOf(row)], ["failed", 504n, 0n, 0n]);
});

test("an attempt that may be billed and one that served are both charged; one that produced nothing is not", async (t) => {
  const a = await playProvider(t, "a", useless, { perToken: 5n });
  const b = await playProvider(t, "b", refuse(503), { perToken: 100n });
  const c = await playProvider(t, "c", answerWhole("Fine.", wireUsage(20, 10)), { perToken: 2n });
  const { ask } = await playedPath(t, [a, b, c]);
  const { row } = await ask();
  assert.deepEqual([row["outcome"], ...costsOf(row)], ["completed", 5n * 7n + 2n * 30n, 5n * 7n]);
});

test("a stream's usage chunk names the cost that its row has, attempts before it included", async (t) => {
  const a = await playProvider(t, "a", ({ response }) => void response.writeHead(200).end("data: [DONE]\n\n"));
  const b = await playProvider(t, "b", answerStream(["Fine."]));
  const { ask } = await playedPath(t, [a, b]);
  const { row, sse } = await ask({ stream: true });
  const [cost, earlier] = costsOf(row) as [bigint, bigint];
  assert.ok(earlier > 0n);
  assert.equal(cost, earlier + 15n);
  assert.match(sse, new RegExp(`"cost_usd":${Number(cost) / 1e9}\\b`));
});

test("where the budget does not pay for a second attempt after one that may be billed, nobody else is asked", async (t) => {
  const a = await playProvider(t, "a", useless);
  const b = await playProvider(t, "b", answerWhole("Fine."));
  const { ask } = await playedPath(t, [a, b]);
  const { error, row } = await ask({ hardCap: 250n });
  assert.ok(coded("provider_error")(error));
  assert.deepEqual([counts(a, b), ...costsOf(row)], [[1, 0], 7n, 0n]);
});

test("retries that a provider's traffic does not pay for are not made", async (t) => {
  const a = await playProvider(t, "a", refuse(503));
  const { ask, services } = await playedPath(t, [a], { clock: createTestClock(), maxRetries: 1 });
  const target = services.health.targetOf(a.candidate.connected, "a-model");
  while (target.provider.retries.takeRetry());
  await ask();
  await ask();
  assert.deepEqual(counts(a), [2]);
});

test("a sink whose head cannot be sent ends the stream, gives the place back and is charged", async (t) => {
  const a = await playProvider(t, "a", answerStream(["Fine."]));
  const { ask } = await playedPath(t, [a]);
  const { error, row } = await ask({ stream: true, start: () => assert.fail("an odd header") });
  assert.ok(error);
  assert.equal(row["outcome"], "failed");
  assert.ok((row["cost_nano_usd"] as bigint) > 0n);
});
