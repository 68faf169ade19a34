import assert from "node:assert/strict";
import { test, type TestContext } from "node:test";
import { setTimeout as delay } from "node:timers/promises";
import fc from "fast-check";
import { ANONYMOUS_KEY_ID, type ApiKey } from "../../src/access/api-key.ts";
import type { Admission, Admitted, RateLimiter } from "../../src/access/rate-limiter.ts";
import { openSharedRateLimiter, type SharedRateLimiterOptions } from "../../src/access/shared-rate-limiter.ts";
import { newKeyId } from "../../src/lib/ids.ts";
import { type RedisUnderTest, skipWithoutRedis, startRedis } from "../harness/redis-server.ts";
import { createTestClock } from "../lib/test-clock.ts";

const skip = skipWithoutRedis;

interface Instance {
  readonly limiter: RateLimiter;
  /** "down" and "up", in the order in which they were said. */
  readonly said: string[];
  readonly admit: (key: ApiKey) => Promise<Admission>;
}

async function redisFor(t: TestContext): Promise<RedisUnderTest> {
  const redis = await startRedis();
  t.after(() => redis.stop());
  return redis;
}

async function instanceFor(
  t: TestContext,
  redis: RedisUnderTest,
  options: Partial<SharedRateLimiterOptions> = {},
): Promise<Instance> {
  const said: string[] = [];
  const limiter = await openSharedRateLimiter({
    settings: { requestsPerMin: 60, anonymousRequestsPerMin: 30 },
    url: redis.url,
    // A machine that is busy with other tests is no reason to take Redis for down.
    timeoutMs: 10_000,
    clock: createTestClock(),
    onDown: () => said.push("down"),
    onUp: () => said.push("up"),
    ...options,
  });
  t.after(() => limiter.close());
  return { limiter, said, admit: async (key) => limiter.admit({ key, remoteAddress: "192.0.2.1" }) };
}

const newKey = (limits: Partial<ApiKey> = {}): ApiKey => ({
  id: newKeyId(),
  name: "test",
  state: { kind: "active" },
  revision: 1,
  createdAtMs: 0,
  ...limits,
});

async function until(what: string, condition: () => boolean): Promise<void> {
  const deadline = performance.now() + 30_000;
  while (!condition()) {
    assert.ok(performance.now() < deadline, `${what} did not come`);
    await delay(5);
  }
}

const passedOf = (admissions: readonly Admission[]): Admitted[] =>
  admissions.filter(({ allowed }) => allowed) as Admitted[];

test("four instances on one Redis share one limit, at the same moment too", { skip }, async (t) => {
  const clock = createTestClock();
  const redis = await redisFor(t);
  const instances = await Promise.all(
    Array.from({ length: 4 }, () => instanceFor(t, redis, { redisNowMs: () => clock.now() })),
  );
  await fc.assert(
    fc.asyncProperty(
      fc.integer({ min: 1, max: 80 }),
      fc.array(fc.record({ gap: fc.integer({ min: 0, max: 20_000 }), each: fc.integer({ min: 1, max: 12 }) }), {
        minLength: 1,
        maxLength: 12,
      }),
      async (rateLimitPerMin, rounds) => {
        const key = newKey({ rateLimitPerMin });
        let passed = 0;
        let passedMs = 0;
        for (const [index, { gap, each }] of rounds.entries()) {
          if (index > 0) passedMs += gap;
          clock.advance(gap);
          const admissions = await Promise.all(
            Array.from({ length: 4 * each }, (_, n) => instances[n % 4]!.admit(key)),
          );
          passed += passedOf(admissions).length;
          assert.ok(passed <= rateLimitPerMin + (passedMs * rateLimitPerMin) / 60_000 + 1e-6);
          if (index === 0) assert.equal(passed, Math.min(rateLimitPerMin, 4 * each), "and none is lost by sharing");
        }
      },
    ),
    { numRuns: 25 },
  );
  assert.deepEqual(
    instances.map(({ limiter }) => limiter.place),
    ["redis", "redis", "redis", "redis"],
  );
});

test(
  "in real time, by the server's clock: a burst passes the limit once, and the rest at the rate",
  { skip },
  async (t) => {
    const redis = await redisFor(t);
    const [one, other] = [await instanceFor(t, redis), await instanceFor(t, redis)];
    // Ten a second, so that waiting for one is short.
    const key = newKey({ rateLimitPerMin: 600 });
    const startedMs = performance.now();
    let passed = 0;
    while (performance.now() - startedMs < 600) {
      const admissions = await Promise.all(
        Array.from({ length: 200 }, (_, n) => (n % 2 === 0 ? one : other).admit(key)),
      );
      passed += passedOf(admissions).length;
    }
    const most = 600 + (performance.now() - startedMs) / 100;
    assert.ok(passed <= most, `${passed} passed where ${most} may`);
    assert.ok(passed >= 600 + 4, `${passed} passed: more came back in 600 ms`);
  },
);

test("tokens charged at one instance count at the others", { skip }, async (t) => {
  const redis = await redisFor(t);
  const [one, other] = [await instanceFor(t, redis), await instanceFor(t, redis)];
  const key = newKey({ tokensPerMin: 100 });
  const [admission] = passedOf([await one.admit(key)]);
  admission!.charge(10_000);
  // Commands of one instance are answered in their order.
  await one.limiter.peek({ key, remoteAddress: undefined });
  const turnedAway = await other.admit(key);
  assert.ok(!turnedAway.allowed && turnedAway.refusedBy.name === "key-tpm");
});

test(
  "slots are shared, and those of an instance that was killed come free within about a minute",
  { skip },
  async (t) => {
    const clock = createTestClock();
    const redis = await redisFor(t);
    const redisNowMs = (): number => clock.now();
    const [one, other] = [await instanceFor(t, redis, { redisNowMs }), await instanceFor(t, redis, { redisNowMs })];
    const key = newKey({ maxConcurrentRequests: 3 });
    const mine = passedOf(await Promise.all([one.admit(key), one.admit(key)]));
    assert.equal(mine.length, 2);
    assert.equal(passedOf([await other.admit(key)]).length, 1);
    assert.equal(passedOf([await other.admit(key), await one.admit(key)]).length, 0);
    mine[0]!.release!();
    await one.limiter.peek({ key, remoteAddress: undefined });
    assert.equal(passedOf([await other.admit(key)]).length, 1);
    assert.equal(passedOf([await other.admit(key)]).length, 0);
    // As if both were gone: nobody renews.
    clock.advance(59_999);
    assert.equal(passedOf([await one.admit(key)]).length, 0);
    clock.advance(1);
    assert.equal(passedOf([await one.admit(key), await one.admit(key), await one.admit(key)]).length, 3);
  },
);

test("a slot that is held stays held for as long as its instance lives", { skip }, async (t) => {
  const clock = createTestClock();
  const redis = await redisFor(t);
  t.mock.timers.enable({ apis: ["setInterval"] });
  const { limiter, admit } = await instanceFor(t, redis, { redisNowMs: () => clock.now() });
  const key = newKey({ maxConcurrentRequests: 1 });
  const [admission] = passedOf([await admit(key)]);
  for (let n = 0; n < 12; n += 1) {
    clock.advance(20_000);
    t.mock.timers.tick(20_000);
    assert.equal(passedOf([await admit(key)]).length, 0, `after ${(n + 1) * 20} s`);
  }
  admission!.release!();
  await limiter.peek({ key, remoteAddress: undefined });
  assert.equal(passedOf([await admit(key)]).length, 1);
});

test(
  "Redis killed: the same limits go on in memory with what this instance let through and holds; back: shared again, slots too",
  { skip },
  async (t) => {
    const redis = await redisFor(t);
    const { limiter, said, admit } = await instanceFor(t, redis);
    const key = newKey({ rateLimitPerMin: 10, maxConcurrentRequests: 6 });
    const before = passedOf(await Promise.all(Array.from({ length: 6 }, () => admit(key))));
    for (const admission of before.slice(0, 2)) admission.release!();
    await redis.kill();
    const during = passedOf(await Promise.all(Array.from({ length: 20 }, () => admit(key))));
    assert.equal(limiter.place, "memory-while-redis-is-down");
    assert.equal(before.length, 6);
    assert.equal(during.length, 2, "four are still in hand");
    for (const admission of [...before, ...during]) admission.release!();
    const rest = passedOf(await Promise.all(Array.from({ length: 20 }, () => admit(key))));
    assert.equal(rest.length, 2, "8 of 10 had passed");
    assert.deepEqual(said, ["down"]);

    await redis.restart();
    await until("Redis' return", () => limiter.place === "redis");
    assert.deepEqual(said, ["down", "up"]);
    // It came back empty, but for what this instance holds.
    const verdict = await limiter.peek({ key, remoteAddress: undefined });
    assert.equal(verdict.rules.find(({ name }) => name === "key-concurrency")!.remaining, 4);
    assert.equal(verdict.rules.find(({ name }) => name === "key-rpm")!.remaining, 10);
  },
);

test("slots given back while Redis is out of reach are free when it is back", { skip }, async (t) => {
  const redis = await redisFor(t);
  const { limiter, admit } = await instanceFor(t, redis, { timeoutMs: 200 });
  const key = newKey({ maxConcurrentRequests: 2 });
  const held = passedOf(await Promise.all([admit(key), admit(key)]));
  redis.hang();
  assert.equal(passedOf([await admit(key)]).length, 0);
  for (const admission of held) admission.release!();
  redis.goOn();
  await until("Redis' return", () => limiter.place === "redis");
  const verdict = await limiter.peek({ key, remoteAddress: undefined });
  assert.equal(verdict.rules.find(({ name }) => name === "key-concurrency")!.remaining, 2);
});

test("slots whose giving back Redis swallowed are free when it answers again", { skip }, async (t) => {
  const redis = await redisFor(t);
  const { limiter, admit } = await instanceFor(t, redis, { timeoutMs: 200 });
  const key = newKey({ maxConcurrentRequests: 3 });
  const admissions = passedOf([await admit(key), await admit(key), await admit(key)]);
  // A command that waits out the pause is dropped with its connection, which the client gives up sooner.
  await redis.command("client", "pause", "1000", "all");
  for (const { release } of admissions) release!();
  await until("the fall back", () => limiter.place === "memory-while-redis-is-down");
  await until("Redis' return", () => limiter.place === "redis");
  // Answered in order, so what was told before has arrived.
  await limiter.peek({ key, remoteAddress: undefined });
  const other = await instanceFor(t, redis);
  assert.equal(passedOf([await other.admit(key), await other.admit(key), await other.admit(key)]).length, 3);
});

test("Redis that hangs holds up those in hand by its timeout once, and nobody after them", { skip }, async (t) => {
  const redis = await redisFor(t);
  const { limiter, said, admit } = await instanceFor(t, redis, { timeoutMs: 200 });
  const key = newKey({ rateLimitPerMin: 1_000 });
  await admit(key);
  redis.hang();
  await Promise.all(Array.from({ length: 50 }, () => admit(key)));
  assert.deepEqual(said, ["down"]);
  for (let n = 0; n < 100; n += 1)
    assert.ok(!(limiter.admit({ key, remoteAddress: undefined }) instanceof Promise), "decided without waiting");
  const verdict = await limiter.peek({ key, remoteAddress: undefined });
  assert.ok(verdict.rules[0]!.remaining <= 1_000 - 151);
  redis.goOn();
  await until("Redis' return", () => limiter.place === "redis");
  assert.deepEqual(said, ["down", "up"]);
});

test("a thread that is busy for longer than the timeout does not take Redis for down", { skip }, async (t) => {
  const redis = await redisFor(t);
  const { limiter, said, admit } = await instanceFor(t, redis, { timeoutMs: 1_000 });
  const key = newKey();
  await admit(key);
  const waiting = [admit(key), admit(key)];
  const untilMs = performance.now() + 1_500;
  while (performance.now() < untilMs);
  assert.equal(passedOf(await Promise.all(waiting)).length, 2);
  assert.equal(limiter.place, "redis");
  assert.deepEqual(said, []);
});

test(
  "an instance that starts without Redis serves from memory, says so once, and joins when it comes",
  { skip },
  async (t) => {
    const redis = await redisFor(t);
    await redis.kill();
    const { limiter, said, admit } = await instanceFor(t, redis);
    assert.equal(limiter.place, "memory-while-redis-is-down");
    const key = newKey({ rateLimitPerMin: 2 });
    assert.equal(passedOf([await admit(key), await admit(key), await admit(key)]).length, 2);
    assert.deepEqual(said, ["down"]);
    await redis.restart();
    await until("Redis", () => limiter.place === "redis");
    assert.deepEqual(said, ["down", "up"]);
    assert.equal(passedOf([await admit(key), await admit(key), await admit(key)]).length, 2);
  },
);

test("a server that answers but takes no writes counts as down, until it takes them again", { skip }, async (t) => {
  const redis = await redisFor(t);
  const { limiter, said, admit } = await instanceFor(t, redis);
  await redis.command("replicaof", "127.0.0.1", "1");
  assert.equal(passedOf([await admit(newKey())]).length, 1);
  assert.deepEqual(said, ["down"]);
  await redis.command("replicaof", "no", "one");
  await until("Redis' return", () => limiter.place === "redis");
});

test("after a restart, or a flush of its scripts, the server is given them again", { skip }, async (t) => {
  const redis = await redisFor(t);
  const { said, admit } = await instanceFor(t, redis);
  const key = newKey();
  for (let n = 0; n < 3; n += 1) await admit(key);
  await redis.command("script", "flush");
  const admissions = await Promise.all(Array.from({ length: 10 }, () => admit(key)));
  assert.equal(passedOf(admissions).length, 10);
  assert.deepEqual(said, []);
});

test("what is counted in Redis goes by itself", { skip }, async (t) => {
  const redis = await redisFor(t);
  const { admit, limiter } = await instanceFor(t, redis);
  const key = newKey({ tokensPerMin: 100, maxConcurrentRequests: 2 });
  const [admission] = passedOf([await admit(key)]);
  admission!.charge(50);
  await limiter.peek({ key, remoteAddress: undefined });
  const names = ((await redis.command("keys", "*")) as string[]).filter((name) => !name.includes("{probe}")).sort();
  assert.deepEqual(
    names,
    ["requests", "slots", "tokens"].map((rule) => `brikk:rate:{${key.id}}:${rule}`),
  );
  for (const name of names) {
    const ttlMs = Number(await redis.command("pttl", name));
    assert.ok(ttlMs > 0 && ttlMs <= 61_000, `${name}: ${ttlMs} ms`);
  }
});

test("a clock that jumps back, as after a failover, locks nobody out for longer than the debt", { skip }, async (t) => {
  const clock = createTestClock();
  const redis = await redisFor(t);
  let backMs = 0;
  const { admit } = await instanceFor(t, redis, { redisNowMs: () => clock.now() - backMs });
  const key = newKey({ rateLimitPerMin: 2 });
  await admit(key);
  await admit(key);
  backMs = 3_600_000;
  assert.equal(passedOf([await admit(key)]).length, 0);
  clock.advance(30_000);
  assert.equal(passedOf([await admit(key)]).length, 1);
});

test("all keys of a decision are on one node of a cluster", { skip }, async (t) => {
  const redis = await startRedis({ cluster: true });
  t.after(() => redis.stop());
  await redis.command("cluster", "addslotsrange", "0", "16383");
  while (!String(await redis.command("cluster", "info")).includes("cluster_state:ok")) await delay(5);
  const { admit, said } = await instanceFor(t, redis);
  const key = newKey({ tokensPerMin: 100, maxConcurrentRequests: 2, id: ANONYMOUS_KEY_ID });
  const [admission] = passedOf([await admit(key)]);
  admission!.charge(100);
  admission!.release!();
  const turnedAway = await admit(key);
  assert.ok(!turnedAway.allowed && turnedAway.rules.length === 4);
  assert.deepEqual(said, []);
});
