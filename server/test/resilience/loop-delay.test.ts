import assert from "node:assert/strict";
import { test } from "node:test";
import { setTimeout as pause } from "node:timers/promises";
import { watchLoopDelay } from "../../src/resilience/loop-delay.ts";

const block = (ms: number): void => {
  const until = performance.now() + ms;
  while (performance.now() < until);
};

test("a loop whose turns are all long is told as late, and stopping leaves no timer", async () => {
  const timers = (): number => process.getActiveResourcesInfo().filter((name) => name === "Timeout").length;
  const before = timers();
  const delay = watchLoopDelay();
  const deadline = performance.now() + 5_000;
  while (delay.ms < 40 && performance.now() < deadline) {
    block(100);
    await pause(1);
  }
  assert.ok(delay.ms >= 40, `${delay.ms} ms`);
  delay.stop();
  assert.equal(timers(), before);
});

test("a single long turn is no late loop", async () => {
  const delay = watchLoopDelay();
  try {
    const until = performance.now() + 700;
    block(150);
    while (performance.now() < until) await pause(5);
    assert.ok(delay.ms < 100, `${delay.ms} ms`);
  } finally {
    delay.stop();
  }
});

test("a process that stood still is not late once it goes on", async () => {
  const delay = watchLoopDelay();
  try {
    await pause(520);
    block(1_500);
    const until = performance.now() + 1_300;
    let latestMs = 0;
    while (performance.now() < until) {
      await pause(5);
      latestMs = Math.max(latestMs, delay.ms);
    }
    assert.ok(latestMs < 500, `${latestMs} ms`);
  } finally {
    delay.stop();
  }
});
