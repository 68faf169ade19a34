import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { type BreakerChange, CircuitBreaker, type Permit } from "../../src/resilience/circuit-breaker.ts";
import { createTestClock } from "../lib/test-clock.ts";

const OPTIONS = {
  consecutiveFailures: 3,
  failureRate: 0.5,
  minimumCalls: 20,
  windowMs: 30_000,
  openMs: 1_000,
  longestOpenMs: 8_000,
  probes: 2,
} as const;
/** No rate is that high: only failures in a row open it. */
const IN_A_ROW_ONLY = { failureRate: 2 };

function openBreaker(more: { failureRate?: number } = {}) {
  const clock = createTestClock();
  const changes: BreakerChange[] = [];
  const breaker = new CircuitBreaker({ ...OPTIONS, ...more, clock, onChange: (change) => changes.push(change) });
  const admit = (): Permit => breaker.admit() ?? assert.fail(`it is ${breaker.state}`);
  const fail = (times: number): void => {
    for (let call = 0; call < times; call += 1) admit().failed("down");
  };
  return { clock, breaker, changes, admit, fail };
}

test("it opens after so many failures in a row, and tells why", () => {
  const { breaker, changes, admit, fail } = openBreaker();
  fail(2);
  admit().succeeded();
  fail(2);
  assert.equal(breaker.state, "closed");
  fail(1);
  assert.equal(breaker.state, "open");
  assert.deepEqual(changes, [
    { from: "closed", to: "open", reason: "3 failures in a row, the last one: down" },
  ] satisfies BreakerChange[]);
});

test("it opens at a failure rate, from so many calls in the window on and not before", () => {
  const { clock, breaker, admit } = openBreaker();
  const report = (permit: Permit, failed: boolean): void => (failed ? permit.failed("slow") : permit.succeeded());
  for (let call = 0; call < 19; call += 1) report(admit(), call % 2 === 0);
  assert.equal(breaker.state, "closed");
  // What was too long ago does not count any more.
  clock.advance(OPTIONS.windowMs);
  for (let call = 0; call < 19; call += 1) report(admit(), call % 2 !== 0);
  assert.equal(breaker.state, "closed");
  admit().failed("slow");
  assert.equal(breaker.state, "open");
});

test("open, it lets nobody through until its time is over, and says how long that is", () => {
  const { clock, breaker, fail } = openBreaker();
  fail(3);
  assert.deepEqual([breaker.availableInMs, breaker.report().nextProbeAt], [1_000, 1_000]);
  clock.advance(999);
  assert.deepEqual([breaker.admit(), breaker.availableInMs], [undefined, 1]);
  clock.advance(1);
  assert.equal(breaker.availableInMs, 0);
  assert.ok(breaker.admit());
  assert.equal(breaker.state, "half-open");
});

test("each opening in a row lasts twice as long as the one before, up to a bound; a success starts over", () => {
  const { clock, breaker, admit, fail } = openBreaker();
  fail(3);
  for (const ms of [1_000, 2_000, 4_000, 8_000, 8_000]) {
    assert.equal(breaker.availableInMs, ms);
    clock.advance(ms);
    fail(OPTIONS.probes);
    assert.equal(breaker.state, "open");
  }
  clock.advance(8_000);
  admit().succeeded();
  fail(3);
  assert.equal(breaker.availableInMs, 1_000);
});

test("half-open, so many probes may be on their way; one that is ignored gives its place to another", () => {
  const { clock, breaker, admit, fail } = openBreaker();
  fail(3);
  clock.advance(1_000);
  const probes = [admit(), admit()];
  assert.equal(breaker.admit(), undefined);
  assert.ok(breaker.availableInMs > 0);
  probes[0]!.ignored();
  assert.equal(breaker.state, "half-open");
  admit();
  assert.equal(breaker.admit(), undefined);
});

test("half-open, a single failure decides nothing, and takes up one of the probes; it opens again when all have failed", () => {
  const { clock, breaker, changes, admit, fail } = openBreaker();
  fail(3);
  clock.advance(1_000);
  fail(1);
  assert.equal(breaker.state, "half-open");
  const last = admit();
  assert.equal(breaker.admit(), undefined);
  last.failed("down");
  assert.deepEqual(changes.at(-1), { from: "half-open", to: "open", reason: "all probes failed, the last one: down" });
  clock.advance(2_000);
  fail(1);
  admit().succeeded();
  assert.equal(breaker.state, "closed");
});

test("a probe that begins to answer closes it, before its answer ends; what the answer then comes to counts as any call's", () => {
  const { clock, breaker, admit, fail } = openBreaker();
  fail(3);
  clock.advance(1_000);
  const probe = admit();
  probe.began();
  assert.deepEqual([breaker.state, breaker.report().requests], ["closed", 0]);
  probe.failed("cut");
  assert.deepEqual([breaker.report().consecutiveFailures, breaker.report().requests], [1, 1]);
  fail(2);
  assert.equal(breaker.state, "open");
});

test("that a call began says nothing while closed: streams that all break open it", () => {
  const { breaker, admit } = openBreaker();
  for (let call = 0; call < 3; call += 1) {
    const permit = admit();
    permit.began();
    permit.failed("cut");
  }
  assert.equal(breaker.state, "open");
});

test("calls that were let through before it opened are no reason to open again after it has closed", () => {
  const { clock, breaker, admit, fail } = openBreaker();
  const hanging = Array.from({ length: 30 }, admit);
  fail(3);
  clock.advance(1_000);
  admit().succeeded();
  for (const call of hanging) call.failed("timeout");
  fail(1);
  assert.equal(breaker.state, "closed");
  assert.equal(breaker.report().requests, 2);
});

test("reset by hand closes it and forgets the failures, the doubled time and the probes on their way", () => {
  const { clock, breaker, changes, admit, fail } = openBreaker();
  assert.equal(breaker.reset(), false);
  fail(3);
  clock.advance(1_000);
  fail(OPTIONS.probes);
  clock.advance(2_000);
  const probe = admit();
  assert.equal(breaker.reset(), true);
  assert.deepEqual(changes.at(-1), { from: "half-open", to: "closed", reason: "reset by hand" });
  probe.failed("down");
  fail(2);
  assert.deepEqual([breaker.state, breaker.report().probesInFlight], ["closed", 0]);
  assert.equal(breaker.reset(), false);
  fail(2);
  assert.equal(breaker.state, "closed");
  fail(1);
  assert.equal(breaker.availableInMs, 1_000);
});

type Step =
  | { readonly do: "admit" | "reset" }
  | { readonly do: "advance"; readonly ms: number }
  | { readonly do: "began" | "succeeded" | "failed" | "ignored"; readonly which: number };

const step: fc.Arbitrary<Step> = fc.oneof(
  { weight: 5, arbitrary: fc.constant({ do: "admit" } as const) },
  { weight: 1, arbitrary: fc.constant({ do: "reset" } as const) },
  { weight: 2, arbitrary: fc.record({ do: fc.constant("advance" as const), ms: fc.integer({ min: 1, max: 3_000 }) }) },
  {
    weight: 7,
    arbitrary: fc.record({
      do: fc.constantFrom("began", "succeeded", "failed", "failed", "ignored"),
      which: fc.nat({ max: 6 }),
    }),
  },
);

/** The breaker as one would tell of it: what it is, since when, and whose word counts. */
class Model {
  state: "closed" | "open" | "half-open" = "closed";
  inARow = 0;
  openings = 0;
  openUntil = 0;
  failedProbes = 0;
  /** Whose report may change anything; the others are from before the last change. */
  heard = new Set<number>();

  turn(state: Model["state"]): void {
    this.state = state;
    this.heard.clear();
    this.failedProbes = 0;
    if (state === "closed") this.inARow = this.openings = 0;
  }

  fail(nowMs: number): void {
    this.inARow += 1;
    if (this.state === "closed" && this.inARow < OPTIONS.consecutiveFailures) return;
    if (this.state === "half-open" && ++this.failedProbes < OPTIONS.probes) return;
    this.openings += 1;
    this.turn("open");
    this.openUntil = nowMs + Math.min(OPTIONS.openMs * 2 ** (this.openings - 1), OPTIONS.longestOpenMs);
  }
}

test("in any interleaving of calls, reports, resets and time it is in the state that its rules say", () => {
  fc.assert(
    fc.property(fc.array(step, { maxLength: 80, size: "max" }), (steps) => {
      const { clock, breaker } = openBreaker(IN_A_ROW_ONLY);
      const model = new Model();
      const permits: Permit[] = [];
      const over = new Set<number>();
      for (const next of steps) {
        const nowMs = clock.monotonicMs();
        switch (next.do) {
          case "admit": {
            const permit = breaker.admit();
            if (model.state === "open" && nowMs >= model.openUntil) model.turn("half-open");
            const admitted =
              model.state === "closed" ||
              (model.state === "half-open" && model.heard.size + model.failedProbes < OPTIONS.probes);
            assert.equal(permit !== undefined, admitted);
            if (!permit) break;
            model.heard.add(permits.length);
            permits.push(permit);
            break;
          }
          case "advance":
            clock.advance(next.ms);
            break;
          case "reset":
            breaker.reset();
            if (model.state === "closed") model.inARow = 0;
            else model.turn("closed");
            break;
          default: {
            // The latest ones are more interesting, and those that have reported already are asked, too.
            const which = permits.length - 1 - next.which;
            if (which < 0) break;
            const before = breaker.report();
            permits[which]![next.do]("down");
            const isHeard = model.heard.has(which) && !over.has(which);
            if (!isHeard) {
              assert.deepEqual(breaker.report(), before, "who is not heard changed something");
              break;
            }
            if (next.do === "began") {
              if (model.state !== "half-open") break;
              model.turn("closed");
              model.heard.add(which);
              break;
            }
            over.add(which);
            model.heard.delete(which);
            if (next.do === "succeeded") {
              if (model.state === "half-open") model.turn("closed");
              model.inARow = 0;
            } else if (next.do === "failed") model.fail(nowMs);
            else assert.deepEqual({ ...breaker.report(), probesInFlight: 0 }, { ...before, probesInFlight: 0 });
          }
        }
        const { state, consecutiveFailures, probesInFlight } = breaker.report();
        assert.equal(state, model.state);
        if (state === "closed") assert.equal(consecutiveFailures, model.inARow);
        assert.equal(probesInFlight, state === "half-open" ? model.heard.size : 0);
        if (state === "open") assert.equal(breaker.availableInMs, Math.max(0, model.openUntil - clock.monotonicMs()));
      }
    }),
    { numRuns: 2_000 },
  );
});
