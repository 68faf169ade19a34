import assert from "node:assert/strict";
import type { TestContext } from "node:test";
import fc from "fast-check";
import type { ApiKey } from "../../src/access/api-key.ts";
import { DAY_MS } from "../../src/lib/clock.ts";
import { type Ledger, openLedger, type Reservation } from "../../src/ledger/ledger.ts";
import { nanoUsd } from "../../src/lib/money.ts";
import { ConstraintViolation, type Database, type Statement, StorageUnavailable } from "../../src/storage/database.ts";
import { createTestClock, type TestClock } from "../lib/test-clock.ts";
import { onEachDatabase, scratchDatabase } from "../storage/scratch.ts";
import { assertSound, coded, newKey, reserve, settled } from "./ledger-fixture.ts";

/** One instance of the gateway on a database: a ledger that can die without a word. */
interface Instance {
  readonly ledger: Ledger;
  readonly held: Held[];
  readonly kill: () => void;
  /** What a call of it comes to; undefined when it died first. */
  outcome<T>(call: Promise<T>): Promise<T | undefined>;
}

interface Held {
  readonly reservation: Reservation;
  readonly key: ApiKey;
  readonly tokens: number;
}

async function startInstance(database: Database, clock: TestClock, silentAfterMs?: number): Promise<Instance> {
  let dead = false;
  // A dead process' statements are neither refused nor answered.
  const over = <T>(go: () => Promise<T>): Promise<T> => (dead ? new Promise<T>(() => {}) : go());
  const ledger = await openLedger({
    database: {
      ...database,
      transact: (statements) => over(() => database.transact(statements)),
      all: (statement) => over(() => database.all(statement)),
    },
    clock,
    defaultSoftCap: nanoUsd(1_000n),
    defaultHardCap: nanoUsd(1_000n),
    soleOwner: false,
    ...(silentAfterMs !== undefined && { silentAfterMs }),
  });
  const death = Promise.withResolvers<undefined>();
  return {
    ledger,
    held: [],
    kill: () => {
      dead = true;
      death.resolve(undefined);
    },
    outcome: (call) => Promise.race([call, death.promise]),
  };
}

const which = fc.nat(20);
type Step = typeof step extends fc.Arbitrary<infer T> ? T : never;
const step = fc.oneof(
  {
    weight: 8,
    arbitrary: fc.record({
      kind: fc.constant("reserve" as const),
      by: which,
      key: fc.nat(1),
      tokens: fc.integer({ min: 0, max: 400 }),
    }),
  },
  {
    weight: 6,
    arbitrary: fc.record({
      kind: fc.constant("settle" as const),
      by: which,
      which,
      percent: fc.integer({ min: 0, max: 100 }),
    }),
  },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant("overrun" as const), by: which, which }) },
  { weight: 3, arbitrary: fc.record({ kind: fc.constant("cancel" as const), by: which, which }) },
  { weight: 2, arbitrary: fc.record({ kind: fc.constant("tick" as const), by: which }) },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant("crash" as const), by: which }) },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant("pass" as const), hours: fc.integer({ min: 1, max: 20 }) }) },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant("idle" as const) }) },
  {
    weight: 1,
    arbitrary: fc.record({
      kind: fc.constant("recap" as const),
      key: fc.nat(1),
      cap: fc.integer({ min: 0, max: 2_000 }),
    }),
  },
);

/** What happens at once. */
const batch = fc.array(step, { minLength: 1, maxLength: 6 });

/**
 * Random interleavings of everything that moves money, by several owners on one database. With a patience of zero every tick
 * gives up all other owners, dead or not: the worst that a database that was away, or a process that stood still, can bring about.
 */
async function interleave(
  t: TestContext,
  database: Database,
  owners: number,
  silentAfterMs: number | undefined,
): Promise<void> {
  await fc.assert(
    fc.asyncProperty(fc.array(batch, { minLength: 5, maxLength: 30 }), async (batches) => {
      const clock = createTestClock(Date.UTC(2026, 10, 29, 20));
      const instances = await Promise.all(
        Array.from({ length: owners }, () => startInstance(database, clock, silentAfterMs)),
      );
      const dead: Instance[] = [];
      const keys = [newKey(1_000n), newKey(700n, { month: { hardCap: nanoUsd(1_200n) } })];
      let overruns = 0n;
      const spent = new Map(keys.map((key) => [key.id, 0n]));
      // Of whom the instance died meanwhile nobody knows whether it was committed.
      const unknown = new Map(keys.map((key) => [key.id, 0n]));
      const settle = async (instance: Instance, held: Held, tokens: number): Promise<void> => {
        if (tokens > held.tokens) overruns += BigInt(tokens - held.tokens);
        const receipt = await instance.outcome(held.reservation.settle(settled(tokens)));
        const sums = receipt === undefined ? unknown : spent;
        sums.set(held.key.id, sums.get(held.key.id)! + BigInt(tokens));
      };
      try {
        const act = async (action: Step): Promise<void> => {
          const instance = "by" in action ? instances[action.by % instances.length] : instances[0];
          if (!instance) return;
          switch (action.kind) {
            case "reserve": {
              const key = keys[action.key]!;
              try {
                const reservation = await instance.outcome(reserve(instance.ledger, key, action.tokens, clock.now()));
                if (reservation) instance.held.push({ reservation, key, tokens: action.tokens });
              } catch (error) {
                assert.ok(coded("hard_cap_exceeded")(error), String(error));
              }
              break;
            }
            case "settle":
            case "overrun":
            case "cancel": {
              const [taken] = instance.held.splice(action.which, 1);
              if (!taken) break;
              const share = action.kind === "settle" ? action.percent : action.kind === "cancel" ? 0 : 130;
              await settle(instance, taken, Math.floor((taken.tokens * share) / 100));
              break;
            }
            case "tick":
              await instance.outcome(instance.ledger.tick());
              break;
            case "crash": {
              // In this turn, so that nobody takes it for one of the living.
              const next = startInstance(database, clock, silentAfterMs);
              instance.kill();
              dead.push(instance);
              instances.splice(instances.indexOf(instance), 1);
              instances.push(await next);
              break;
            }
            case "pass":
              clock.advance(action.hours * 3_600_000);
              break;
            case "idle":
              clock.advance(3_000);
              await Promise.all(instances.map((one) => one.outcome(one.ledger.tick())));
              break;
            case "recap": {
              const key = keys[action.key]!;
              keys[action.key] = { ...key, hardCap: nanoUsd(BigInt(action.cap)), softCap: nanoUsd(0n) };
              break;
            }
            default:
              action satisfies never;
          }
        };
        for (const actions of batches) {
          await Promise.all(actions.map(act));
          await assertSound(database);
        }
        // Every reservation of the living resolves once, and then nobody holds anything.
        for (const instance of instances)
          for (const one of instance.held.splice(0)) await settle(instance, one, one.tokens);
        for (const { ledger } of instances) await ledger.close();
        await assertSound(database);
        // Only the dead may still hold something: who closes with a lease that it has lost sight of is not forgotten.
        const [known] = await database.all({ sql: "select count(*) as n from lease_owners", params: [] });
        assert.ok((known!["n"] as bigint) <= BigInt(dead.length), "a living owner lost sight of a lease");
        for (const key of keys) {
          const [row] = await database.all({
            sql: "select coalesce(sum(cost_nano_usd), 0) as cost from usage_events where key_id = ?",
            params: [key.id],
          });
          const [cost, least] = [row!["cost"] as bigint, spent.get(key.id)!];
          assert.ok(cost >= least && cost <= least + unknown.get(key.id)!, `${cost} in the ledger, ${least} settled`);
        }
        const unleased = await database.all({
          sql: "select coalesce(max(unleased_nano_usd), 0) as most from budget_windows where budget_id like ? and granted_cap_nano_usd is not null",
          params: [`${keys[0]!.id}/day`],
        });
        assert.ok(
          (unleased[0]!["most"] as bigint) <= overruns,
          "something was spent without a lease that was no overrun",
        );
        // What the dead held is written off once they are missed, and nothing is leased any more.
        const survivor = await startInstance(database, clock, 0);
        await survivor.ledger.tick();
        await survivor.ledger.close();
        await assertSound(database);
        const [leased] = await database.all({
          sql: "select coalesce(sum(leased_nano_usd), 0) as leased from budget_windows",
          params: [],
        });
        assert.equal(leased!["leased"], 0n, "a lease is stuck");
      } finally {
        for (const one of [...instances, ...dead]) one.kill();
      }
    }),
    { numRuns: 40 },
  );
  t.diagnostic(`${owners} owners`);
}

for (const owners of [1, 2, 3]) {
  onEachDatabase(
    `spent + leased <= hard cap in every state, whatever ${owners} owners do, crash, return and settle in which order`,
    async (t, dialect) => {
      const { database } = await scratchDatabase(t, dialect);
      await interleave(t, database, owners, undefined);
    },
  );
  onEachDatabase(`the same when ${owners} owners give each other up at every turn, dead or not`, async (t, dialect) => {
    const { database } = await scratchDatabase(t, dialect);
    await interleave(t, database, owners, 0);
  });
}

onEachDatabase("a slice that is not used goes back, and another instance may have it", async (t, dialect) => {
  const { database } = await scratchDatabase(t, dialect);
  const clock = createTestClock();
  const [one, other] = [await startInstance(database, clock), await startInstance(database, clock)];
  t.after(async () => {
    await one.ledger.close();
    await other.ledger.close();
  });
  const key = newKey(1_000n);
  await (await reserve(one.ledger, key, 600, clock.now())).settle(settled(0));
  await assert.rejects(reserve(other.ledger, key, 900, clock.now()), coded("hard_cap_exceeded"));
  clock.advance(3_000);
  await one.ledger.tick();
  await (await reserve(other.ledger, key, 900, clock.now())).settle(settled(900));
  await assertSound(database);
});

onEachDatabase(
  "slices shrink near the cap, so that what one instance keeps in hand cannot starve another",
  async (t, dialect) => {
    const { database } = await scratchDatabase(t, dialect);
    const clock = createTestClock();
    const [one, other] = [await startInstance(database, clock), await startInstance(database, clock)];
    t.after(async () => {
      await one.ledger.close();
      await other.ledger.close();
    });
    const key = newKey(100_000n);
    let spent = 0;
    for (let turn = 0; ; turn++) {
      try {
        await (await reserve([one, other][turn % 2]!.ledger, key, 1_000, clock.now())).settle(settled(1_000));
        spent += 1_000;
      } catch (error) {
        assert.ok(coded("hard_cap_exceeded")(error));
        break;
      }
    }
    assert.ok(spent >= 97_000, `only ${spent} of 100000 was spent before the first refusal`);
  },
);

onEachDatabase(
  "at the end of a window what is left of its slice goes back, and what is in flight settles to it",
  async (t, dialect) => {
    const { database } = await scratchDatabase(t, dialect);
    const clock = createTestClock(Date.UTC(2026, 10, 23, 23, 59, 59));
    const { ledger } = await startInstance(database, clock);
    t.after(() => ledger.close());
    const key = newKey(1_000n);
    const yesterday = await reserve(ledger, key, 300, clock.now());
    clock.advance(2_000);
    await ledger.tick();
    const windows = () =>
      database.all({
        sql: "select window_start_ms, spent_nano_usd, leased_nano_usd from budget_windows where budget_id = ? order by window_start_ms",
        params: [`${key.id}/day`],
      });
    const start = BigInt(Date.UTC(2026, 10, 23));
    assert.deepEqual(await windows(), [{ window_start_ms: start, spent_nano_usd: 0n, leased_nano_usd: 300n }]);
    await (await reserve(ledger, key, 1_000, clock.now())).settle(settled(40));
    await yesterday.settle(settled(250));
    clock.advance(3_000);
    await ledger.tick();
    assert.deepEqual(await windows(), [
      { window_start_ms: start, spent_nano_usd: 250n, leased_nano_usd: 0n },
      { window_start_ms: start + BigInt(DAY_MS), spent_nano_usd: 40n, leased_nano_usd: 0n },
    ]);
  },
);

onEachDatabase("the death of an instance costs its slice and no more, and is told", async (t, dialect) => {
  const { database } = await scratchDatabase(t, dialect);
  const clock = createTestClock();
  const dying = await startInstance(database, clock);
  const key = newKey(10_000n);
  await (await reserve(dying.ledger, key, 100, clock.now())).settle(settled(100));
  await reserve(dying.ledger, key, 100, clock.now());
  dying.kill();
  const told: bigint[] = [];
  const ledger = await openLedger({
    database,
    clock,
    defaultSoftCap: nanoUsd(0n),
    defaultHardCap: nanoUsd(0n),
    soleOwner: true,
    onWrittenOff: ({ budgetId, amount }) => {
      assert.equal(budgetId, `${key.id}/day`);
      told.push(amount);
    },
  });
  t.after(() => ledger.close());
  await assertSound(database);
  const [day] = ledger.standing(key).budgets;
  assert.deepEqual(told, [day!.spent - 100n]);
  assert.ok(told[0]! >= 100n && told[0]! <= 500n, `${told[0]} was written off`);
  assert.equal(day!.reserved, 0n);
});

onEachDatabase("a lowered cap holds at once, also for what was leased under the higher one", async (t, dialect) => {
  const { database } = await scratchDatabase(t, dialect);
  const clock = createTestClock();
  const { ledger } = await startInstance(database, clock);
  t.after(() => ledger.close());
  const key = newKey(1_000n);
  await (await reserve(ledger, key, 400, clock.now())).settle(settled(100));
  const lowered: ApiKey = { ...key, hardCap: nanoUsd(150n) };
  await assert.rejects(reserve(ledger, lowered, 60, clock.now()), coded("hard_cap_exceeded"));
  await ledger.tick();
  await (await reserve(ledger, lowered, 50, clock.now())).settle(settled(50));
  await assertSound(database);
});

/** A database whose next transaction is reported as failed, and takes effect only when it is let go. */
function withStraggler(database: Database): { database: Database; holdNext(): void; letGo(): Promise<unknown> } {
  let wanted = false;
  let held: readonly Statement[] | undefined;
  return {
    database: {
      ...database,
      transact: async (statements) => {
        if (!wanted) return database.transact(statements);
        wanted = false;
        held = statements;
        throw new StorageUnavailable("The network is cut.");
      },
    },
    holdNext: () => (wanted = true),
    letGo: () => database.transact(held!),
  };
}

onEachDatabase(
  "a return that reaches the database late, after a lease that was taken since, does not undo it",
  async (t, dialect) => {
    const { database } = await scratchDatabase(t, dialect);
    const clock = createTestClock();
    const storage = withStraggler(database);
    const [one, other] = [await startInstance(storage.database, clock), await startInstance(database, clock)];
    t.after(async () => {
      await one.ledger.close();
      await other.ledger.close();
    });
    const key = newKey(1_000n);
    await (await reserve(one.ledger, key, 100, clock.now())).settle(settled(100));
    clock.advance(3_000);
    storage.holdNext();
    await one.ledger.tick();
    const reservation = await reserve(one.ledger, key, 600, clock.now());
    await assert.rejects(storage.letGo(), ConstraintViolation);
    await assert.rejects(reserve(other.ledger, key, 400, clock.now()), coded("hard_cap_exceeded"));
    await reservation.settle(settled(600));
    await assertSound(database);
  },
);

onEachDatabase("a lease that reaches the database late, after it was given up, is not taken", async (t, dialect) => {
  const { database } = await scratchDatabase(t, dialect);
  const clock = createTestClock();
  const storage = withStraggler(database);
  const { ledger } = await startInstance(storage.database, clock);
  t.after(() => ledger.close());
  const key = newKey(1_000n);
  storage.holdNext();
  await assert.rejects(reserve(ledger, key, 600, clock.now()), coded("storage_unavailable"));
  await ledger.tick();
  await assert.rejects(storage.letGo(), ConstraintViolation);
  await (await reserve(ledger, key, 1_000, clock.now())).settle(settled(1_000));
  await assertSound(database);
});
