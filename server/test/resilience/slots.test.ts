import assert from "node:assert/strict";
import { test } from "node:test";
import { Slots } from "../../src/resilience/slots.ts";

test("who waits gets the places that a raised limit adds, and none above a lowered one", async () => {
  let most = 1;
  const slots = new Slots({ most: () => most, mostWaiting: () => 10 });
  const { signal } = new AbortController();
  assert.equal(slots.takeNow(), true);
  const waiting = [1, 2, 3, 4].map(() => slots.take(60_000, signal));
  assert.deepEqual([slots.taken, slots.waiting], [1, 4]);

  most = 3;
  slots.giveBack();
  assert.deepEqual(await Promise.all(waiting.slice(0, 3)), [true, true, true]);
  assert.deepEqual([slots.taken, slots.waiting], [3, 1]);

  most = 1;
  slots.giveBack();
  slots.giveBack();
  assert.deepEqual([slots.taken, slots.waiting], [1, 1]);
  slots.giveBack();
  assert.equal(await waiting[3], true);
  slots.giveBack();
  assert.deepEqual([slots.taken, slots.waiting], [0, 0]);
});
