import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { rateLimitHeaders } from "../../src/access/rate-limit-headers.ts";
import { createRateLimiter } from "../../src/access/rate-limiter.ts";
import { createTestClock } from "../lib/test-clock.ts";

const setUp = (maxKeys?: number) => {
  const clock = createTestClock();
  return { clock, limiter: createRateLimiter({ clock, ...(maxKeys !== undefined && { maxKeys }) }) };
};

const arrivals = fc.array(
  fc.oneof(fc.constant(0), fc.integer({ min: 0, max: 300 }), fc.integer({ min: 0, max: 90_000 })),
  { minLength: 1, maxLength: 150 },
);

test("in any stretch of time no more than the limit plus the rate times the time passes", () => {
  fc.assert(
    fc.property(fc.integer({ min: 1, max: 100 }), arrivals, (limit, gaps) => {
      const { clock, limiter } = setUp();
      const passed: number[] = [];
      for (const gap of gaps) {
        clock.advance(gap);
        if (limiter.take("k", limit).allowed) passed.push(clock.monotonicMs());
      }
      for (let from = 0; from < passed.length; from += 1) {
        for (let to = from; to < passed.length; to += 1) {
          const most = limit + ((passed[to]! - passed[from]!) * limit) / 60_000;
          assert.ok(to - from + 1 <= most + 1e-6, `${to - from + 1} passed where ${most} may`);
        }
      }
    }),
  );
});

test("what a decision says comes true: remaining requests pass now, one more does not, and it passes after retryAfterMs", () => {
  fc.assert(
    fc.property(fc.integer({ min: 1, max: 100 }), arrivals, (limit, gaps) => {
      const { clock, limiter } = setUp();
      let last = limiter.take("k", limit);
      for (const gap of gaps) {
        clock.advance(gap);
        last = limiter.take("k", limit);
      }
      for (let left = last.remaining; left > 0; left -= 1) {
        last = limiter.take("k", limit);
        assert.ok(last.allowed);
        assert.equal(last.remaining, left - 1);
      }
      assert.equal(last.remaining, 0);
      if (last.retryAfterMs > 0) {
        const refused = limiter.take("k", limit);
        assert.equal(refused.allowed, false);
        assert.equal(refused.retryAfterMs, last.retryAfterMs);
        clock.advance(refused.retryAfterMs - 1);
        assert.equal(limiter.take("k", limit).allowed, false);
        clock.advance(1);
      }
      assert.ok(limiter.take("k", limit).allowed);
    }),
    // Sums of uneven steps end a hair past a whole millisecond here.
    { numRuns: 500, examples: [[14, [5537, 0, 5523, 278, 0, 0, 9736, 10178, 0]]] },
  );
});

test("the whole limit is there again after resetSeconds", () => {
  fc.assert(
    fc.property(fc.integer({ min: 1, max: 100 }), arrivals, (limit, gaps) => {
      const { clock, limiter } = setUp();
      let last = limiter.take("k", limit);
      for (const gap of gaps) {
        clock.advance(gap);
        last = limiter.take("k", limit);
      }
      clock.advance(last.resetSeconds * 1_000);
      assert.deepEqual(
        Array.from({ length: limit }, () => limiter.take("k", limit).allowed),
        Array.from({ length: limit }, () => true),
      );
    }),
  );
});

test("there is no second burst at the edge of a window", () => {
  const { clock, limiter } = setUp();
  const burst = () => Array.from({ length: 60 }, () => limiter.take("k", 60)).filter(({ allowed }) => allowed).length;
  clock.advance(59_900);
  assert.equal(burst(), 60);
  clock.advance(200);
  assert.equal(burst(), 0);
  clock.advance(1_800);
  assert.equal(burst(), 2);
});

test("a refused request costs nothing: hammering does not put off the next one", () => {
  const { clock, limiter } = setUp();
  for (let n = 0; n < 60; n += 1) limiter.take("k", 60);
  for (let n = 0; n < 1_000; n += 1) assert.equal(limiter.take("k", 60).allowed, false);
  clock.advance(1_000);
  assert.equal(limiter.take("k", 60).allowed, true);
});

test("subjects do not share a limit, and a limit of 0 lets nothing pass", () => {
  const { limiter } = setUp();
  assert.equal(limiter.take("a", 1).allowed, true);
  assert.equal(limiter.take("a", 1).allowed, false);
  assert.equal(limiter.take("b", 1).allowed, true);
  assert.deepEqual(limiter.take("c", 0), {
    allowed: false,
    limit: 0,
    remaining: 0,
    resetSeconds: 60,
    retryAfterMs: 60_000,
  });
});

test("when the memory is full, subjects whose debt is paid make room and those in debt keep theirs", () => {
  const { clock, limiter } = setUp(2);
  limiter.take("in debt", 1);
  limiter.take("paid", 60);
  clock.advance(1_000);
  limiter.take("new", 60);
  assert.equal(limiter.take("in debt", 1).allowed, false);
});

test("memory stays bounded when all are in debt: the one let through longest ago makes room", () => {
  const { limiter } = setUp(2);
  limiter.take("first", 1);
  limiter.take("second", 1);
  limiter.take("third", 1);
  assert.equal(limiter.take("second", 1).allowed, false);
  assert.equal(limiter.take("third", 1).allowed, false);
  assert.equal(limiter.take("first", 1).allowed, true);
});

test("the headers carry the decision in the customary form and the IETF's", () => {
  const { limiter } = setUp();
  for (let n = 0; n < 29; n += 1) limiter.take("k", 60);
  assert.deepEqual(rateLimitHeaders(limiter.take("k", 60)), {
    "x-ratelimit-limit": "60",
    "x-ratelimit-remaining": "30",
    "x-ratelimit-reset": "30",
    ratelimit: '"key-rpm";r=30;t=30',
    "ratelimit-policy": '"key-rpm";q=60;w=60',
  });
});
