import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { OutcomeWindow } from "../../src/resilience/outcome-window.ts";
import { createTestClock } from "../lib/test-clock.ts";

test("without a request there is no rate, and after the window is over there is none again", () => {
  const clock = createTestClock();
  const outcomes = new OutcomeWindow(clock, 10_000);
  assert.deepEqual([outcomes.requests, outcomes.failureRate], [0, undefined]);
  outcomes.addFailure();
  outcomes.addSuccess();
  assert.deepEqual([outcomes.requests, outcomes.failureRate], [2, 0.5]);
  clock.advance(10_000);
  assert.deepEqual([outcomes.requests, outcomes.failureRate], [0, undefined]);
});

test("the past is forgotten slice by slice", () => {
  const clock = createTestClock();
  const outcomes = new OutcomeWindow(clock, 10_000);
  for (let second = 0; second < 10; second += 1) {
    if (second > 0) clock.advance(1_000);
    outcomes.addSuccess();
  }
  for (let left = 10; left >= 0; left -= 1) {
    assert.equal(outcomes.requests, left);
    clock.advance(1_000);
  }
});

test("what is cleared is gone, and what comes then counts", () => {
  const outcomes = new OutcomeWindow(createTestClock(), 10_000);
  outcomes.addFailure();
  outcomes.clear();
  outcomes.addSuccess();
  assert.deepEqual([outcomes.requests, outcomes.failureRate], [1, 0]);
});

test("it counts what happened in the last nine slices and the one that runs, whatever the times", () => {
  const happening = fc.record({ afterMs: fc.integer({ min: 0, max: 4_000 }), failed: fc.boolean() });
  fc.assert(
    fc.property(fc.array(happening, { maxLength: 60, size: "max" }), (happenings) => {
      const clock = createTestClock();
      const outcomes = new OutcomeWindow(clock, 10_000);
      const seen: { readonly slice: number; readonly failed: boolean }[] = [];
      for (const { afterMs, failed } of happenings) {
        clock.advance(afterMs);
        const slice = Math.floor(clock.monotonicMs() / 1_000);
        seen.push({ slice, failed });
        if (failed) outcomes.addFailure();
        else outcomes.addSuccess();
        const recent = seen.filter((one) => one.slice > slice - 10);
        assert.equal(outcomes.requests, recent.length);
        assert.equal(outcomes.failureRate, recent.filter((one) => one.failed).length / recent.length);
      }
    }),
  );
});
