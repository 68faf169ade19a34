import assert from "node:assert/strict";
import { after, test } from "node:test";
import fc from "fast-check";
import { ANONYMOUS_KEY_ID, type ApiKey } from "../../src/access/api-key.ts";
import { createMemoryRateLimiter } from "../../src/access/memory-rate-limiter.ts";
import { rateLimitHeaders } from "../../src/access/rate-limit-headers.ts";
import type { Admission, Admitted, RateLimiter, RateRule, Refused } from "../../src/access/rate-limiter.ts";
import { openSharedRateLimiter } from "../../src/access/shared-rate-limiter.ts";
import { newKeyId } from "../../src/lib/ids.ts";
import { skipWithoutRedis, startRedis } from "../harness/redis-server.ts";
import { createTestClock, type TestClock } from "../lib/test-clock.ts";

const settings = { requestsPerMin: 60, anonymousRequestsPerMin: 30 };

type Limits = Pick<ApiKey, "rateLimitPerMin" | "tokensPerMin" | "maxConcurrentRequests">;

/** A key that nobody has used yet. */
const newKey = (limits: Limits = {}): ApiKey => ({
  id: newKeyId(),
  name: "test",
  state: { kind: "active" },
  revision: 1,
  createdAtMs: 0,
  ...limits,
});

interface Place {
  readonly name: string;
  readonly skip: string | false;
  /** One limiter for all tests, whose clock they move on; each has keys of its own. */
  readonly open: () => Promise<{ limiter: RateLimiter; clock: TestClock }>;
  readonly runs: number;
}

const places: readonly Place[] = [
  {
    name: "memory",
    skip: false,
    runs: 200,
    open: () => {
      const clock = createTestClock();
      return Promise.resolve({ clock, limiter: createMemoryRateLimiter({ settings, clock }) });
    },
  },
  {
    name: "Redis",
    skip: skipWithoutRedis,
    runs: 25,
    open: async () => {
      const clock = createTestClock();
      const redis = await startRedis();
      const limiter = await openSharedRateLimiter({
        settings,
        url: redis.url,
        timeoutMs: 10_000,
        clock,
        redisNowMs: () => clock.now(),
        onDown: (error) => assert.fail(`Redis went down: ${String(error)}`),
        onUp: () => undefined,
      });
      after(async () => {
        await limiter.close();
        await redis.stop();
      });
      return { clock, limiter };
    },
  },
];

const arrivals = fc.array(
  fc.oneof(fc.constant(0), fc.integer({ min: 0, max: 300 }), fc.integer({ min: 0, max: 90_000 })),
  { minLength: 1, maxLength: 150 },
);

const ruleOf = ({ rules }: { rules: readonly RateRule[] }, name: RateRule["name"]): RateRule =>
  rules.find((rule) => rule.name === name) ?? assert.fail(`${name} does not apply`);

function admitted(admission: Admission): Admitted {
  assert.ok(admission.allowed);
  return admission;
}

function refused(admission: Admission): Refused {
  assert.ok(!admission.allowed);
  return admission;
}

/** What passed at these moments (with its amount) holds to the limit, in any stretch of time. */
function assertBounded(passed: readonly { atMs: number; amount: number }[], limit: number): void {
  for (let from = 0; from < passed.length; from += 1) {
    let sum = 0;
    for (let to = from; to < passed.length; to += 1) {
      sum += passed[to]!.amount;
      const most = limit + ((passed[to]!.atMs - passed[from]!.atMs) * limit) / 60_000;
      assert.ok(sum <= most + 1e-6, `${sum} passed where ${most} may`);
    }
  }
}

for (const place of places) {
  const skip = place.skip;
  const opened = skip === false ? place.open() : undefined;
  const setUp = async () => {
    const { limiter, clock } = await opened!;
    const admit = (key: ApiKey, remoteAddress = "203.0.113.7") => limiter.admit({ key, remoteAddress });
    const peek = (key: ApiKey) => limiter.peek({ key, remoteAddress: "203.0.113.7" });
    return { limiter, clock, admit, peek };
  };
  const check = (name: string, body: () => Promise<void>): void =>
    void test(`${name} (${place.name})`, { skip }, async () => {
      await body();
      assert.equal((await opened!).limiter.place, place.name.toLowerCase());
    });

  check("in any stretch of time no more than the limit plus the rate times the time passes", async () => {
    const { clock, admit } = await setUp();
    await fc.assert(
      fc.asyncProperty(fc.integer({ min: 1, max: 100 }), arrivals, async (rateLimitPerMin, gaps) => {
        const key = newKey({ rateLimitPerMin });
        const passed: { atMs: number; amount: number }[] = [];
        for (const gap of gaps) {
          clock.advance(gap);
          if ((await admit(key)).allowed) passed.push({ atMs: clock.monotonicMs(), amount: 1 });
        }
        assertBounded(passed, rateLimitPerMin);
      }),
      { numRuns: place.runs },
    );
  });

  check(
    "what a decision says comes true: remaining requests pass now, one more does not, and it passes after waitMs",
    async () => {
      const { clock, admit } = await setUp();
      await fc.assert(
        fc.asyncProperty(fc.integer({ min: 1, max: 100 }), arrivals, async (rateLimitPerMin, gaps) => {
          const key = newKey({ rateLimitPerMin });
          const take = async (): Promise<{ allowed: boolean; rule: RateRule }> => {
            const admission = await admit(key);
            return { allowed: admission.allowed, rule: ruleOf(admission, "key-rpm") };
          };
          let last = await take();
          for (const gap of gaps) {
            clock.advance(gap);
            last = await take();
          }
          for (let left = last.rule.remaining; left > 0; left -= 1) {
            last = await take();
            assert.ok(last.allowed);
            assert.equal(last.rule.remaining, left - 1);
          }
          assert.equal(last.rule.remaining, 0);
          assert.ok(last.rule.waitMs > 0);
          const turnedAway = await take();
          assert.equal(turnedAway.allowed, false);
          assert.equal(turnedAway.rule.waitMs, last.rule.waitMs);
          clock.advance(turnedAway.rule.waitMs - 1);
          assert.equal((await take()).allowed, false);
          clock.advance(1);
          assert.ok((await take()).allowed);
        }),
        // Sums of uneven steps end a hair past a whole millisecond here.
        { numRuns: place.runs, examples: [[14, [5537, 0, 5523, 278, 0, 0, 9736, 10178, 0]]] },
      );
    },
  );

  check("the whole limit is there again after resetMs", async () => {
    const { clock, admit, peek } = await setUp();
    await fc.assert(
      fc.asyncProperty(fc.integer({ min: 1, max: 100 }), arrivals, async (rateLimitPerMin, gaps) => {
        const key = newKey({ rateLimitPerMin });
        for (const gap of gaps) {
          clock.advance(gap);
          await admit(key);
        }
        clock.advance(ruleOf(await peek(key), "key-rpm").resetMs);
        assert.equal(ruleOf(await peek(key), "key-rpm").remaining, rateLimitPerMin);
      }),
      { numRuns: place.runs },
    );
  });

  check("there is no second burst at the edge of a window", async () => {
    const { clock, admit } = await setUp();
    const key = newKey({ rateLimitPerMin: 60 });
    const burst = async () => {
      let passed = 0;
      for (let n = 0; n < 60; n += 1) if ((await admit(key)).allowed) passed += 1;
      return passed;
    };
    clock.advance(59_900);
    assert.equal(await burst(), 60);
    clock.advance(200);
    assert.equal(await burst(), 0);
    clock.advance(1_800);
    assert.equal(await burst(), 2);
  });

  check("a refused request costs nothing: hammering does not put off the next one", async () => {
    const { clock, admit } = await setUp();
    const key = newKey({ rateLimitPerMin: 60 });
    for (let n = 0; n < 60; n += 1) admitted(await admit(key));
    for (let n = 0; n < 500; n += 1) refused(await admit(key));
    clock.advance(1_000);
    admitted(await admit(key));
  });

  check("keys do not share a limit, and a key without one of its own has the setting's", async () => {
    const { admit } = await setUp();
    const [one, other] = [newKey({ rateLimitPerMin: 1 }), newKey({ rateLimitPerMin: 1 })];
    admitted(await admit(one));
    refused(await admit(one));
    admitted(await admit(other));
    assert.equal(ruleOf(await admit(newKey()), "key-rpm").limit, settings.requestsPerMin);
  });

  check("a changed limit holds at once and forgets nothing", async () => {
    const { admit } = await setUp();
    const key = newKey({ rateLimitPerMin: 3 });
    for (let n = 0; n < 3; n += 1) admitted(await admit(key));
    refused(await admit(key));
    assert.equal(ruleOf(await admit({ ...key, rateLimitPerMin: 10 }), "key-rpm").remaining, 6);
    refused(await admit({ ...key, rateLimitPerMin: 4 }));
  });

  check("all or nothing: what one rule refuses, no other rule counts, in any mix of rules", async () => {
    const { clock, limiter } = await setUp();
    const limits = fc.record({
      rateLimitPerMin: fc.integer({ min: 1, max: 8 }),
      tokensPerMin: fc.integer({ min: 10, max: 60 }),
      maxConcurrentRequests: fc.integer({ min: 1, max: 4 }),
    });
    const step = fc.record({
      gap: fc.oneof(fc.constant(0), fc.integer({ min: 0, max: 20_000 })),
      tokens: fc.integer({ min: 0, max: 40 }),
      address: fc.integer({ min: 0, max: 2 }),
      finish: fc.boolean(),
    });
    await fc.assert(
      fc.asyncProperty(limits, fc.array(step, { minLength: 1, maxLength: 60 }), async (own, steps) => {
        // The anonymous key has every rule. It is one, so its state goes on from run to run; the clock lets it drain.
        clock.advance(10 * 60_000);
        const key: ApiKey = { ...newKey(own), id: ANONYMOUS_KEY_ID };
        const inHand: Admitted[] = [];
        for (const { gap, tokens, address, finish } of steps) {
          clock.advance(gap);
          const caller = { key, remoteAddress: `198.51.100.${address}` };
          const before = await limiter.peek(caller);
          const admission = await limiter.admit(caller);
          assert.equal(admission.allowed, before.allowed, "peek foretells the decision");
          assert.equal(admission.allowed, !before.rules.some(({ waitMs }) => waitMs > 0));
          if (!admission.allowed) {
            assert.deepEqual(admission.rules, before.rules);
            assert.deepEqual(await limiter.peek(caller), before);
            assert.equal(admission.refusedBy.waitMs, Math.max(...admission.rules.map(({ waitMs }) => waitMs)));
          } else {
            inHand.push(admission);
            for (const name of ["key-rpm", "ip-rpm", "key-concurrency"] as const)
              assert.equal(ruleOf(admission, name).remaining, ruleOf(before, name).remaining - 1, name);
            assert.ok(inHand.length <= own.maxConcurrentRequests);
          }
          const ending = finish ? inHand.shift() : undefined;
          ending?.charge(tokens);
          ending?.release?.();
        }
        for (const admission of inHand) admission.release?.();
      }),
      { numRuns: Math.min(place.runs, 60) },
    );
  });

  check("tokens are paid after: nothing passes while none are left, and the refusal says when one is", async () => {
    const { clock, admit } = await setUp();
    const key = newKey({ tokensPerMin: 600 });
    const first = admitted(await admit(key));
    assert.equal(ruleOf(first, "key-tpm").remaining, 600);
    first.charge(1_199);
    const turnedAway = refused(await admit(key)).refusedBy;
    assert.deepEqual([turnedAway.name, turnedAway.remaining], ["key-tpm", 0]);
    // 599 of debt and the one that must be there, at 10 a second.
    assert.equal(turnedAway.waitMs, 60_000);
    clock.advance(59_999);
    refused(await admit(key));
    clock.advance(1);
    admitted(await admit(key)).charge(0);
    admitted(await admit(key));
  });

  check(
    "one at a time, tokens exceed the limit by no more than the last request, and by nothing in the long run",
    async () => {
      const { clock, admit } = await setUp();
      const use = fc.integer({ min: 1, max: 300 });
      await fc.assert(
        fc.asyncProperty(fc.integer({ min: 1, max: 500 }), arrivals, use, async (tokensPerMin, gaps, most) => {
          const key = newKey({ tokensPerMin });
          const used: { atMs: number; amount: number }[] = [];
          for (const [index, gap] of gaps.entries()) {
            clock.advance(gap);
            const admission = await admit(key);
            if (!admission.allowed) continue;
            const amount = 1 + ((index * 7919) % most);
            admission.charge(amount);
            used.push({ atMs: clock.monotonicMs(), amount });
          }
          for (let from = 0; from < used.length; from += 1) {
            let before = 0;
            for (let to = from; to < used.length; to += 1) {
              const refilled = ((used[to]!.atMs - used[from]!.atMs) * tokensPerMin) / 60_000;
              assert.ok(before <= tokensPerMin - 1 + refilled + 1e-6, `${before} were used when one more was let in`);
              before += used[to]!.amount;
            }
          }
        }),
        { numRuns: place.runs },
      );
    },
  );

  check(
    "no more requests are in hand than the key may have, and a slot given back twice is given back once",
    async () => {
      const { admit, peek } = await setUp();
      const key = newKey({ maxConcurrentRequests: 2, rateLimitPerMin: 1_000 });
      const [one, two] = [admitted(await admit(key)), admitted(await admit(key))];
      assert.equal(refused(await admit(key)).refusedBy.name, "key-concurrency");
      one.release!();
      one.release!();
      assert.equal(ruleOf(await peek(key), "key-concurrency").remaining, 1);
      const three = admitted(await admit(key));
      refused(await admit(key));
      two.release!();
      three.release!();
      assert.equal(ruleOf(await peek(key), "key-concurrency").remaining, 2);
    },
  );

  check("callers without a key are limited by address as well as together", async () => {
    const { clock, admit } = await setUp();
    clock.advance(60_000_000);
    const key: ApiKey = { ...newKey({ rateLimitPerMin: 50 }), id: ANONYMOUS_KEY_ID };
    const from = async (address: string): Promise<Admission> => admit(key, address);
    for (let n = 0; n < 30; n += 1) admitted(await from("192.0.2.1"));
    assert.equal(refused(await from("192.0.2.1")).refusedBy.name, "ip-rpm");
    assert.equal(refused(await from("::ffff:192.0.2.1")).refusedBy.name, "ip-rpm");
    for (let n = 0; n < 20; n += 1) admitted(await from(`2001:db8::${n}`));
    assert.equal(refused(await from("192.0.2.2")).refusedBy.name, "key-rpm");
  });
}

test("a decision in memory costs no promise", () => {
  const limiter = createMemoryRateLimiter({ settings, clock: createTestClock() });
  const caller = { key: newKey(), remoteAddress: "192.0.2.1" };
  assert.ok(!(limiter.admit(caller) instanceof Promise));
  assert.ok(!(limiter.peek(caller) instanceof Promise));
});

const fullMemory = () => {
  const clock = createTestClock();
  const limiter = createMemoryRateLimiter({ settings, clock, maxKeys: 2 });
  const keys = new Map<string, ApiKey>();
  const take = (name: string, rateLimitPerMin: number): boolean => {
    const key = keys.get(name) ?? newKey({ rateLimitPerMin });
    keys.set(name, key);
    return (limiter.admit({ key, remoteAddress: undefined }) as Admission).allowed;
  };
  return { clock, limiter, take };
};

test("when the memory is full, keys whose use has drained make room and the others keep theirs", () => {
  const { clock, take } = fullMemory();
  take("in debt", 1);
  take("drained", 60);
  clock.advance(1_000);
  take("new", 60);
  assert.equal(take("in debt", 1), false);
});

test("memory stays bounded when none has drained: the one counted longest ago makes room", () => {
  const { take } = fullMemory();
  for (const name of ["first", "second", "third"]) take(name, 1);
  assert.equal(take("second", 1), false);
  assert.equal(take("third", 1), false);
  assert.equal(take("first", 1), true);
});

test("a flood from many addresses does not make a key's use forgotten", () => {
  const { limiter, take } = fullMemory();
  take("in debt", 1);
  const anonymous: ApiKey = { ...newKey({ rateLimitPerMin: 10_000 }), id: ANONYMOUS_KEY_ID };
  for (let n = 0; n < 500; n += 1) void limiter.admit({ key: anonymous, remoteAddress: `198.51.100.${n % 250}` });
  assert.equal(take("in debt", 1), false);
});

test("the headers carry every rule with a window, in the customary form, the IETF's and OpenAI's", () => {
  const rules: RateRule[] = [
    { name: "key-rpm", limit: 60, remaining: 30, resetMs: 30_000, waitMs: 0 },
    { name: "ip-rpm", limit: 10, remaining: 0, resetMs: 60_000, waitMs: 5_001 },
    { name: "key-tpm", limit: 90_000, remaining: 89_000, resetMs: 667, waitMs: 0 },
    { name: "key-concurrency", limit: 3, remaining: 0, resetMs: 1_000, waitMs: 1_000 },
  ];
  assert.deepEqual(rateLimitHeaders({ allowed: false, rules, refusedBy: rules[1]! }), {
    "x-ratelimit-limit": "10",
    "x-ratelimit-remaining": "0",
    "x-ratelimit-reset": "6",
    ratelimit: '"key-rpm";r=30;t=30, "ip-rpm";r=0;t=6, "key-tpm";r=89000;t=1',
    "ratelimit-policy": '"key-rpm";q=60;w=60, "ip-rpm";q=10;w=60, "key-tpm";q=90000;qu="tokens";w=60',
    "x-ratelimit-limit-requests": "10",
    "x-ratelimit-remaining-requests": "0",
    "x-ratelimit-reset-requests": "1m0s",
    "x-ratelimit-limit-tokens": "90000",
    "x-ratelimit-remaining-tokens": "89000",
    "x-ratelimit-reset-tokens": "667ms",
  });
});
