import assert from "node:assert/strict";
import { getEventListeners } from "node:events";
import { test } from "node:test";
import fc from "fast-check";
import { backoffMs, wait } from "../../src/resilience/backoff.ts";

test("the pause is anything from 0 to a step that doubles each round, up to a bound", () => {
  const steps = [250, 500, 1_000, 2_000, 4_000, 4_000];
  for (const [index, most] of steps.entries()) {
    assert.equal(
      backoffMs(index + 1, () => 1),
      most,
    );
    assert.equal(
      backoffMs(index + 1, () => 0),
      0,
    );
  }
  fc.assert(
    fc.property(fc.integer({ min: 1, max: 2_000 }), fc.double({ min: 0, max: 1, noNaN: true }), (round, random) => {
      const ms = backoffMs(round, () => random);
      assert.ok(Number.isInteger(ms) && ms >= 0 && ms <= 4_000);
    }),
  );
});

test("a wait ends when its time is over, and leaves no listener on the signal", async (t) => {
  t.mock.timers.enable({ apis: ["setTimeout"] });
  const { signal } = new AbortController();
  let over = false;
  const waiting = wait(1_000, signal).then(() => (over = true));
  t.mock.timers.tick(999);
  await Promise.resolve();
  assert.equal(over, false);
  t.mock.timers.tick(1);
  await waiting;
  assert.equal(getEventListeners(signal, "abort").length, 0);
});

test("a wait is over with the signal's reason as soon as that is aborted, and leaves no listener and no timer", async () => {
  const timers = (): number => process.getActiveResourcesInfo().filter((name) => name === "Timeout").length;
  const before = timers();
  const controller = new AbortController();
  const reason = new Error("the caller left");
  const waiting = wait(600_000, controller.signal);
  assert.equal(timers(), before + 1);
  controller.abort(reason);
  await assert.rejects(waiting, reason);
  assert.deepEqual([getEventListeners(controller.signal, "abort").length, timers()], [0, before]);
  // And where it was aborted before, nothing is begun.
  await assert.rejects(wait(600_000, controller.signal), reason);
  assert.deepEqual([getEventListeners(controller.signal, "abort").length, timers()], [0, before]);
});
