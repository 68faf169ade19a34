import assert from "node:assert/strict";
import { test, type TestContext } from "node:test";
import type { NonceMemory, NonceVerdict } from "../../src/access/nonce-memory.ts";
import { openSharedNonceMemory } from "../../src/access/shared-nonce-memory.ts";
import { type RedisUnderTest, skipWithoutRedis, startRedis } from "../harness/redis-server.ts";
import { eventually } from "../ledger/ledger-fixture.ts";
import { createTestClock, type TestClock } from "../lib/test-clock.ts";

const skip = skipWithoutRedis;
const KEY = "bk_aaaaaaaaaaaa";

async function redisFor(t: TestContext, options?: { cluster: boolean }): Promise<RedisUnderTest> {
  const redis = await startRedis(options);
  t.after(() => redis.stop());
  return redis;
}

interface Instance {
  readonly memory: NonceMemory;
  /** "down" and "up", in the order in which they were said. */
  readonly said: string[];
}

async function instanceFor(
  t: TestContext,
  redis: RedisUnderTest,
  clock: TestClock,
  timeoutMs = 10_000,
): Promise<Instance> {
  const said: string[] = [];
  const memory = await openSharedNonceMemory({
    url: redis.url,
    timeoutMs,
    clock,
    onDown: () => said.push("down"),
    onUp: () => said.push("up"),
  });
  t.after(() => memory.close());
  return { memory, said };
}

const secondOf = (clock: TestClock): number => Math.floor(clock.now() / 1_000);

test(
  "of one nonce at many instances at the same moment exactly one is new, and keys do not share theirs",
  { skip },
  async (t) => {
    const clock = createTestClock();
    const redis = await redisFor(t);
    const instances = await Promise.all(Array.from({ length: 4 }, () => instanceFor(t, redis, clock)));
    const use = { keyId: KEY, nonce: "a nonce {of} odd: signs", createdS: secondOf(clock) };
    const verdicts = await Promise.all(Array.from({ length: 100 }, async (_, n) => instances[n % 4]!.memory.take(use)));
    assert.equal(verdicts.filter(({ kind }) => kind === "new").length, 1);
    assert.equal(verdicts.filter(({ kind }) => kind === "used").length, 99);
    assert.deepEqual(await instances[0]!.memory.take({ ...use, keyId: "bk_bbbbbbbbbbbb" }), { kind: "new" });
  },
);

test(
  "a nonce is kept longer than its signature is good for at an instance whose clock is a minute behind",
  { skip },
  async (t) => {
    const redis = await redisFor(t);
    const clock = createTestClock();
    const { memory } = await instanceFor(t, redis, clock);
    await memory.take({ keyId: KEY, nonce: "a", createdS: secondOf(clock) });
    const leftMs = Number(await redis.command("PTTL", `brikk:{nonces}:${KEY}:a`));
    assert.ok(leftMs > 370_000 && leftMs <= 390_000, `${leftMs} ms`);
  },
);

test(
  "a server that lost its nonces takes nothing that was signed before, and says since when it knows",
  { skip },
  async (t) => {
    const redis = await redisFor(t);
    const clock = createTestClock();
    const { memory } = await instanceFor(t, redis, clock);
    const before = { keyId: KEY, nonce: "a", createdS: secondOf(clock) };
    assert.deepEqual(await memory.take(before), { kind: "new" });
    clock.advance(10_000);
    await redis.command("FLUSHALL");
    assert.deepEqual(await memory.take(before), { kind: "not-known", knownFromS: before.createdS + 10 });
    clock.advance(60_000);
    assert.deepEqual(await memory.take(before), { kind: "not-known", knownFromS: before.createdS + 10 });
    assert.deepEqual(await memory.take({ ...before, createdS: secondOf(clock) }), { kind: "new" });
  },
);

test(
  "an instance whose clock was far ahead keeps nobody out for longer than the clocks differ",
  { skip },
  async (t) => {
    const redis = await redisFor(t);
    const ahead = createTestClock();
    ahead.advance(7_200_000);
    await instanceFor(t, redis, ahead);
    const clock = createTestClock();
    const { memory } = await instanceFor(t, redis, clock);
    assert.deepEqual(await memory.take({ keyId: KEY, nonce: "a", createdS: secondOf(clock) }), { kind: "new" });
  },
);

test(
  "a server that is gone or hangs takes nothing: the promise rejects, and it is asked again when it is back",
  { skip },
  async (t) => {
    const redis = await redisFor(t);
    const clock = createTestClock();
    const { memory, said } = await instanceFor(t, redis, clock, 300);
    const use = (nonce: string): NonceVerdict | Promise<NonceVerdict> =>
      memory.take({ keyId: KEY, nonce, createdS: secondOf(clock) });
    assert.deepEqual(await use("a"), { kind: "new" });
    redis.hang();
    await assert.rejects(async () => use("b"));
    await assert.rejects(async () => use("c"));
    assert.deepEqual(said, ["down"]);
    redis.goOn();
    await eventually(() => said.length === 2);
    // What was sent before the answer was given up may have been done: on the strict side.
    assert.notEqual((await use("b")).kind, "not-known");
    assert.deepEqual(await use("a"), { kind: "used" });
    await redis.kill();
    await assert.rejects(async () => use("d"));
  },
);

test("it works on a node of a cluster", { skip }, async (t) => {
  const redis = await redisFor(t, { cluster: true });
  await redis.command("CLUSTER", "ADDSLOTSRANGE", "0", "16383");
  await eventually(async () => String(await redis.command("CLUSTER", "INFO")).includes("cluster_state:ok"));
  const clock = createTestClock();
  const { memory } = await instanceFor(t, redis, clock);
  assert.deepEqual(await memory.take({ keyId: KEY, nonce: "a", createdS: secondOf(clock) }), { kind: "new" });
});
