import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { LatencyWindow } from "../../src/resilience/latency-window.ts";

/** How many of the latest count, and how many may be missing from an answer that is not worked out anew each time. */
const KEPT = 128;
const STALE = 8;

const quantileOf = (samples: readonly number[], share: number): number => {
  const sorted = samples.toSorted((a, b) => a - b);
  return sorted[Math.min(sorted.length - 1, Math.floor(share * sorted.length))]!;
};

test("a quantile of fewer than ten is none", () => {
  const window = new LatencyWindow();
  for (let sample = 1; sample <= 9; sample += 1) {
    window.add(sample);
    assert.equal(window.quantile(0.5), undefined);
  }
  window.add(10);
  assert.equal(window.quantile(0.5), 6);
});

test("asked for the first time, a quantile is that of the latest samples in order", () => {
  fc.assert(
    fc.property(
      fc.array(fc.integer({ min: 0, max: 100_000 }), { minLength: 10, maxLength: 400, size: "max" }),
      fc.double({ min: 0, max: 1, noNaN: true }),
      (samples, share) => {
        const window = new LatencyWindow();
        for (const sample of samples) window.add(sample);
        assert.equal(window.quantile(share), quantileOf(samples.slice(-KEPT), share));
      },
    ),
  );
});

test("asked after every sample, it is that of a moment no more than a few samples ago", () => {
  fc.assert(
    fc.property(
      fc.array(fc.integer({ min: 0, max: 1_000 }), { minLength: 10, maxLength: 300, size: "max" }),
      (samples) => {
        const window = new LatencyWindow();
        for (const [index, sample] of samples.entries()) {
          window.add(sample);
          const p95 = window.quantile(0.95);
          if (index < 9) continue;
          const possible = new Set<number>();
          for (let age = 0; age < STALE && index - age >= 9; age += 1)
            possible.add(quantileOf(samples.slice(0, index + 1 - age).slice(-KEPT), 0.95));
          assert.ok(p95 !== undefined && possible.has(p95), `${p95} is none of ${[...possible].join(", ")}`);
        }
      },
    ),
    { numRuns: 30 },
  );
});
