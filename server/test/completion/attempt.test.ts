import assert from "node:assert/strict";
import { getEventListeners } from "node:events";
import { type TestContext, test } from "node:test";
import { setTimeout as pause } from "node:timers/promises";
import { type Answer, attempt } from "../../src/completion/attempt.ts";
import { parseJsonDocument } from "../../src/lib/json-document.ts";
import { ProviderError } from "../../src/providers/provider.ts";
import { eventually } from "../ledger/ledger-fixture.ts";
import {
  answerStream,
  answerWhole,
  DONE,
  delta,
  hang,
  openSse,
  type Play,
  playProvider,
  type ProviderTraits,
  refuse,
} from "./played-providers.ts";

const faulty = (fault: string) => (error: unknown) => error instanceof ProviderError && error.fault === fault;

async function attemptAt(t: TestContext, play: Play, timeouts: ProviderTraits["timeouts"], { stream = true } = {}) {
  const provider = await playProvider(t, "p", play, timeouts ? { timeouts } : {});
  const controller = new AbortController();
  const document = parseJsonDocument(
    Buffer.from(JSON.stringify({ model: "m", messages: [], ...(stream && { stream }) })),
  );
  const go = (): Promise<Answer> =>
    attempt(
      provider.candidate,
      { operation: "chat", document, stream, maxOutputTokens: undefined },
      controller.signal,
      () => undefined,
    );
  const listeners = (): number => getEventListeners(controller.signal, "abort").length;
  return { provider, controller, go, listeners };
}

const timers = (): number => process.getActiveResourcesInfo().filter((name) => name === "Timeout").length;

async function restOf(answer: Answer): Promise<number> {
  assert.ok(answer.kind === "stream");
  let events = 0;
  for await (const pieces of answer.rest) events += pieces.length;
  return events;
}

/** Writes again and again until the connection is closed. */
const every =
  (ms: number, first: readonly string[], then: string): Play =>
  async ({ response }) => {
    openSse(response);
    for (const text of first) response.write(text);
    while (!response.destroyed) {
      await pause(ms);
      response.write(then);
    }
  };

const heartbeats: readonly [string, string][] = [
  ["comments", ": ping\n\n"],
  ["deltas of a role alone", delta(undefined)],
  ["deltas of nothing", delta("")],
];
for (const [what, heartbeat] of heartbeats) {
  test(`${what} are no output: the first token's time runs out in spite of them`, async (t) => {
    const { provider, go, listeners } = await attemptAt(t, every(20, [], heartbeat), { firstTokenMs: 150 });
    await assert.rejects(go(), faulty("first-token-timeout"));
    assert.equal(listeners(), 0);
    await eventually(() => provider.hungUp === 1);
  });

  test(`${what} after the first output do not keep a silent stream alive`, async (t) => {
    const { provider, go, listeners } = await attemptAt(t, every(20, [delta("Hi")], heartbeat), {
      firstTokenMs: 5_000,
      idleMs: 150,
    });
    const answer = await go();
    await assert.rejects(restOf(answer), faulty("idle-timeout"));
    assert.equal(listeners(), 0);
    await eventually(() => provider.hungUp === 1);
  });
}

test("output winds the idle time up: a stream may take longer in all than any of its silences may", async (t) => {
  const slowly: Play = async ({ response }) => {
    openSse(response);
    for (let part = 0; part < 12; part += 1) {
      response.write(delta("."));
      await pause(50);
    }
    response.end(delta("", "chat-1", "stop") + DONE);
  };
  const { go } = await attemptAt(t, slowly, { firstTokenMs: 300, idleMs: 300 });
  assert.ok((await restOf(await go())) >= 12);
});

test("a reader who takes longer than the idle time is not the provider's silence", async (t) => {
  const long = "x".repeat(4_000);
  const { go, listeners } = await attemptAt(t, answerStream(Array.from({ length: 100 }, () => long)), { idleMs: 100 });
  const answer = await go();
  assert.ok(answer.kind === "stream");
  await pause(400);
  let reads = 0;
  for await (const pieces of answer.rest) {
    assert.ok(pieces.length > 0);
    if (++reads <= 2) await pause(300);
  }
  assert.equal(listeners(), 0);
});

test("after a slow reader the provider has its idle time anew, and no more than that", async (t) => {
  const { go, listeners } = await attemptAt(
    t,
    ({ response }) => {
      openSse(response);
      response.write(delta("Hi"));
    },
    { idleMs: 200 },
  );
  const answer = await go();
  await pause(700);
  const startedAt = performance.now();
  await assert.rejects(restOf(answer), faulty("idle-timeout"));
  assert.ok(performance.now() - startedAt > 100);
  assert.equal(listeners(), 0);
});

test("a whole answer that drips is timed to its end, not to its headers", async (t) => {
  const drip: Play = async ({ response }) => {
    response.writeHead(200, { "content-type": "application/json" });
    while (!response.destroyed) {
      response.write(" ");
      await pause(20);
    }
  };
  const { provider, go, listeners } = await attemptAt(t, drip, { attemptMs: 200 }, { stream: false });
  await assert.rejects(go(), faulty("attempt-timeout"));
  assert.equal(listeners(), 0);
  await eventually(() => provider.hungUp === 1);
});

test("a refusal whose body never ends is told by its status when the time is over", async (t) => {
  const { go } = await attemptAt(
    t,
    ({ response }) => void response.writeHead(503, { "content-type": "application/json" }).write("{"),
    { attemptMs: 100 },
    { stream: false },
  );
  await assert.rejects(go(), faulty("overloaded"));
});

const MINUTES = { firstTokenMs: 60_000, attemptMs: 60_000 };
const moments: readonly [string, Play, { stream: boolean }][] = [
  ["before any answer", hang, { stream: true }],
  ["after the headers", ({ response }) => openSse(response), { stream: true }],
  ["during heartbeats", every(10, [], ": ping\n\n"), { stream: true }],
  ["in a whole answer's body", ({ response }) => void response.writeHead(200).write("{"), { stream: false }],
  ["in a refusal's body", ({ response }) => void response.writeHead(500).write("{"), { stream: false }],
];
for (const [when, play, { stream }] of moments) {
  test(`an abort ${when} ends the attempt with its reason, closes the connection and leaves no listener and no timer`, async (t) => {
    const { provider, controller, go, listeners } = await attemptAt(t, play, MINUTES, { stream });
    const going = go();
    await eventually(() => provider.bodies.length === 1);
    await pause(30);
    assert.ok(timers() > 0);
    const reason = new Error("the caller left");
    controller.abort(reason);
    await assert.rejects(going, reason);
    assert.equal(listeners(), 0);
    await eventually(() => provider.hungUp === 1);
    // The provider's own pulse ends by itself; a timer of a minute does not.
    await eventually(() => timers() === 0);
    // And where it was aborted before, nothing is begun.
    await assert.rejects(go(), reason);
    assert.deepEqual([listeners(), timers(), provider.bodies.length], [0, 0, 1]);
  });
}

test("an abort while a stream is read ends it with the reason, also when nobody reads just then", async (t) => {
  for (const reading of [true, false]) {
    const { provider, controller, go, listeners } = await attemptAt(
      t,
      ({ response }) => {
        openSse(response);
        response.write(delta("Hi"));
      },
      {},
    );
    const answer = await go();
    const reason = new Error("the caller left");
    if (reading) setTimeout(() => controller.abort(reason), 20);
    else controller.abort(reason);
    await assert.rejects(restOf(answer), reason);
    assert.equal(listeners(), 0);
    await eventually(() => provider.hungUp === 1);
  }
});

test("an answer that came in full leaves no listener: whole, refused, streamed, and streamed but not read", async (t) => {
  const whole = await attemptAt(t, answerWhole("Fine."), {}, { stream: false });
  assert.equal((await whole.go()).kind, "whole");
  const refused = await attemptAt(t, refuse(400), {});
  await assert.rejects(refused.go(), faulty("refused"));
  const read = await attemptAt(t, answerStream(["a", "b"]), {});
  await restOf(await read.go());
  const unread = await attemptAt(t, every(10, [delta("Hi")], delta("x")), {});
  const answer = await unread.go();
  assert.ok(answer.kind === "stream");
  await answer.rest.return();
  await eventually(() => unread.provider.hungUp === 1);
  for (const { listeners } of [whole, refused, read, unread]) assert.equal(listeners(), 0);
});
