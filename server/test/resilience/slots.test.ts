import assert from "node:assert/strict";
import { getEventListeners } from "node:events";
import { test } from "node:test";
import fc from "fast-check";
import { Slots } from "../../src/resilience/slots.ts";

const LONG_MS = 10_000;
const NEVER = new AbortController().signal;
const timers = (): number => process.getActiveResourcesInfo().filter((name) => name === "Timeout").length;
/** Whoever was let in knows of it one turn later. */
const turn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

const slotsOf = (most: number, mostWaiting: number) => {
  const limits = { most, mostWaiting };
  return { limits, slots: new Slots({ most: () => limits.most, mostWaiting: () => limits.mostWaiting }) };
};

test("so many at a time, so many wait, first come first served; the rest is turned away at once", async () => {
  const { slots } = slotsOf(2, 2);
  assert.deepEqual([slots.takeNow(), slots.takeNow(), slots.takeNow()], [true, true, false]);
  const order: string[] = [];
  const first = slots.take(LONG_MS, NEVER).then((got) => order.push(`first ${got}`));
  const second = slots.take(LONG_MS, NEVER).then((got) => order.push(`second ${got}`));
  assert.equal(await slots.take(LONG_MS, NEVER), false);
  assert.deepEqual([slots.taken, slots.waiting], [2, 2]);
  slots.giveBack();
  // Who comes now does not pass those who wait.
  assert.equal(slots.takeNow(), false);
  await first;
  slots.giveBack();
  await second;
  assert.deepEqual(order, ["first true", "second true"]);
  assert.deepEqual([slots.taken, slots.waiting], [2, 0]);
  slots.giveBack();
  slots.giveBack();
  assert.equal(slots.taken, 0);
});

test("who waits leaves when the time is over, with no listener left, and a place that comes later is not lost on it", async (t) => {
  t.mock.timers.enable({ apis: ["setTimeout"] });
  const { slots } = slotsOf(1, 5);
  const { signal } = new AbortController();
  slots.takeNow();
  const waiting = slots.take(5_000, signal);
  t.mock.timers.tick(4_999);
  assert.equal(slots.waiting, 1);
  t.mock.timers.tick(1);
  assert.equal(await waiting, false);
  assert.deepEqual([slots.waiting, getEventListeners(signal, "abort").length], [0, 0]);
  slots.giveBack();
  assert.deepEqual([slots.taken, slots.takeNow()], [0, true]);
});

test("who waits leaves with the signal's reason when that is aborted, with no listener and no timer left", async () => {
  const { slots } = slotsOf(1, 5);
  const before = timers();
  const controller = new AbortController();
  slots.takeNow();
  const leaving = slots.take(LONG_MS, controller.signal);
  const staying = slots.take(LONG_MS, NEVER);
  assert.equal(timers(), before + 2);
  const reason = new Error("the caller left");
  controller.abort(reason);
  await assert.rejects(leaving, reason);
  assert.deepEqual([slots.waiting, getEventListeners(controller.signal, "abort").length], [1, 0]);
  await assert.rejects(slots.take(LONG_MS, controller.signal), reason);
  slots.giveBack();
  assert.equal(await staying, true);
  assert.equal(getEventListeners(NEVER, "abort").length, 0);
  assert.equal(timers(), before);
});

test("a limit that is lowered holds for those who come, and for the places that are given back", async () => {
  const { slots, limits } = slotsOf(3, 5);
  for (let place = 0; place < 3; place += 1) slots.takeNow();
  limits.most = 1;
  let got = false;
  const waiting = slots.take(LONG_MS, NEVER).then((place) => (got = place));
  slots.giveBack();
  slots.giveBack();
  await turn();
  assert.deepEqual([slots.taken, got], [1, false]);
  slots.giveBack();
  await waiting;
  assert.deepEqual([slots.taken, got], [1, true]);
});

test("a limit that is raised lets in those who wait as soon as anybody comes or goes", async () => {
  const { slots, limits } = slotsOf(1, 10);
  slots.takeNow();
  const waiting = Array.from({ length: 4 }, () => slots.take(LONG_MS, NEVER));
  limits.most = 10;
  slots.giveBack();
  assert.deepEqual(await Promise.all(waiting), [true, true, true, true]);
  assert.deepEqual([slots.taken, slots.waiting, slots.takeNow()], [4, 0, true]);
  limits.most = 5;
  const another = slots.take(LONG_MS, NEVER);
  limits.most = 7;
  assert.equal(slots.takeNow(), true);
  assert.equal(await another, true);
  assert.equal(slots.taken, 7);
});

type Step =
  | { readonly do: "takeNow" | "take" | "giveBack" }
  | { readonly do: "leave"; readonly which: number }
  | { readonly do: "limit"; readonly most: number };

test("in any interleaving nobody is let in beyond the limit, nobody is passed over, and no place is lost", async () => {
  const step: fc.Arbitrary<Step> = fc.oneof(
    { weight: 3, arbitrary: fc.record({ do: fc.constantFrom("takeNow", "take") }) },
    { weight: 3, arbitrary: fc.record({ do: fc.constant("giveBack" as const) }) },
    { weight: 1, arbitrary: fc.record({ do: fc.constant("leave" as const), which: fc.nat({ max: 5 }) }) },
    { weight: 1, arbitrary: fc.record({ do: fc.constant("limit" as const), most: fc.integer({ min: 0, max: 4 }) }) },
  );
  await fc.assert(
    fc.asyncProperty(fc.array(step, { maxLength: 60, size: "max" }), async (steps) => {
      const { slots, limits } = slotsOf(2, 3);
      const waiting: { readonly controller: AbortController; readonly number: number }[] = [];
      const letIn: number[] = [];
      let held = 0;
      let comers = 0;
      for (const next of steps) {
        const before = held;
        switch (next.do) {
          case "takeNow":
            if (slots.takeNow()) held += 1;
            break;
          case "take": {
            const number = comers++;
            const controller = new AbortController();
            const one = { controller, number };
            waiting.push(one);
            const gone = (): void => void (waiting.includes(one) && waiting.splice(waiting.indexOf(one), 1));
            slots.take(LONG_MS, controller.signal).then((got) => {
              gone();
              if (!got) return;
              held += 1;
              letIn.push(number);
            }, gone);
            break;
          }
          case "giveBack":
            if (held === 0) break;
            held -= 1;
            slots.giveBack();
            break;
          case "leave":
            waiting[next.which]?.controller.abort();
            break;
          case "limit":
            limits.most = next.most;
            break;
          default:
            next satisfies never;
        }
        await turn();
        assert.deepEqual([slots.taken, slots.waiting], [held, waiting.length]);
        if (held > before) assert.ok(held <= limits.most, `${held} of ${limits.most}`);
      }
      assert.deepEqual(
        letIn,
        letIn.toSorted((a, b) => a - b),
      );
      for (const { controller } of waiting.splice(0)) controller.abort();
      await turn();
      while (held > 0) {
        held -= 1;
        slots.giveBack();
      }
      assert.deepEqual([slots.taken, slots.waiting], [0, 0]);
    }),
    { numRuns: 200 },
  );
});
