import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import type { ApiKey } from "../../src/access/api-key.ts";
import { BrikkError } from "../../src/errors.ts";
import { DAY_MS, type Ledger, openLedger, type Reservation, type Settlement } from "../../src/ledger/ledger.ts";
import type { CatalogueModel } from "../../src/ledger/model-catalogue.ts";
import { completeRates } from "../../src/ledger/rates.ts";
import { NO_USAGE } from "../../src/ledger/usage.ts";
import { readUsageSummary } from "../../src/ledger/usage-summary.ts";
import { nanoUsd, picoUsdPerToken, ZERO_USD } from "../../src/lib/money.ts";
import { type Database, type Statement, StorageUnavailable } from "../../src/storage/database.ts";
import { createTestClock } from "../lib/test-clock.ts";
import { scratchDatabase } from "../storage/scratch.ts";

/** One nano-USD per token, in and out, so that tokens are money and figures can be read. */
const priced = (perToken: bigint): CatalogueModel => ({
  provider: "openai",
  id: `at-${perToken}`,
  kind: "chat",
  rates: {
    version: "test",
    perRequest: ZERO_USD,
    ...completeRates({ freshInput: picoUsdPerToken(1_000n * perToken) }),
  },
  contextTokens: undefined,
  maxOutputTokens: undefined,
  acceptsImages: undefined,
  reasons: false,
  qualityTier: 2,
});
const model = priced(1n);

let keys = 0;
const newKey = (hardCap: bigint, softCap = hardCap): ApiKey => ({
  id: `bk_${++keys}`,
  name: "test",
  state: { kind: "active" },
  createdAtMs: 0,
  hardCap: nanoUsd(hardCap),
  softCap: nanoUsd(softCap),
});
const settled = (tokens: number, served: Settlement["served"] = { model, simulated: true }): Settlement => ({
  served,
  usage: { ...NO_USAGE, freshInputTokens: tokens },
  usageSource: "exact",
  outcome: "completed",
  status: 200,
  errorCode: undefined,
  attempts: 1,
  fallback: false,
  timeToFirstTokenMs: undefined,
});

let requests = 0;
const requestOf = (key: ApiKey, occurredAtMs: number) => ({
  key,
  requestId: `r-${++requests}`,
  traceId: "t",
  operation: "chat",
  requestedModel: "m",
  stream: false,
  occurredAtMs,
});
const reserve = (
  ledger: Ledger,
  key: ApiKey,
  tokens: number,
  nowMs: number,
  candidates: readonly CatalogueModel[] = [model],
): Reservation =>
  ledger.reserve({
    ...requestOf(key, nowMs),
    routeReason: "test",
    candidates,
    bound: { inputTokens: tokens, outputTokens: () => 0, choices: 1 },
  });

const openOn = (database: Database, clock = createTestClock()) =>
  openLedger({ database, clock, defaultSoftCap: nanoUsd(5_000_000_000n), defaultHardCap: nanoUsd(10_000_000_000n) });
const coded = (code: string) => (error: unknown) => error instanceof BrikkError && error.code === code;
const sumOf = async (database: Database, table: string, key: ApiKey): Promise<[bigint, bigint]> => {
  const count = table === "usage_events" ? "count(*)" : "coalesce(sum(requests), 0)";
  const [row] = await database.all({
    sql: `select coalesce(sum(cost_nano_usd), 0) as cost, ${count} as n from ${table} where key_id = ?`,
    params: [key.id],
  });
  return [row!["cost"] as bigint, row!["n"] as bigint];
};

test("spent + reserved never exceeds the hard cap, and each settlement counts once, under any interleaving", async (t) => {
  const { database } = await scratchDatabase(t);
  const clock = createTestClock();
  const ledger = await openOn(database, clock);
  const step = fc.oneof(
    {
      weight: 4,
      arbitrary: fc.record({ kind: fc.constant("reserve" as const), tokens: fc.integer({ min: 0, max: 600 }) }),
    },
    {
      weight: 3,
      arbitrary: fc.record({
        kind: fc.constant("settle" as const),
        which: fc.nat(20),
        part: fc.integer({ min: 0, max: 100 }),
      }),
    },
    { weight: 1, arbitrary: fc.record({ kind: fc.constant("commit" as const) }) },
  );
  await fc.assert(
    fc.asyncProperty(fc.integer({ min: 0, max: 2_000 }), fc.array(step, { maxLength: 40 }), async (cap, steps) => {
      const key = newKey(BigInt(cap));
      const held: { reservation: Reservation; tokens: number }[] = [];
      const settling: Promise<unknown>[] = [];
      let spent = 0n;
      let reserved = 0n;
      const check = (): void => {
        const standing = ledger.standing(key);
        assert.ok(
          standing.spent + standing.reserved <= BigInt(cap),
          `${standing.spent} + ${standing.reserved} > ${cap}`,
        );
        assert.ok(standing.spent >= 0n && standing.reserved >= 0n);
      };
      for (const action of steps) {
        switch (action.kind) {
          case "reserve": {
            const before = ledger.standing(key);
            const fits = before.spent + before.reserved + BigInt(action.tokens) <= BigInt(cap);
            if (fits) {
              held.push({ reservation: reserve(ledger, key, action.tokens, clock.now()), tokens: action.tokens });
              reserved += BigInt(action.tokens);
            } else {
              assert.throws(() => reserve(ledger, key, action.tokens, clock.now()), coded("hard_cap_exceeded"));
              assert.deepEqual(ledger.standing(key), before);
            }
            break;
          }
          case "settle": {
            const [taken] = held.splice(action.which, 1);
            if (!taken) break;
            const cost = Math.floor((taken.tokens * action.part) / 100);
            reserved -= BigInt(taken.tokens);
            spent += BigInt(cost);
            settling.push(
              taken.reservation.settle(settled(cost)).then((receipt) => {
                assert.equal(receipt.cost, BigInt(cost));
                check();
              }),
            );
            break;
          }
          case "commit":
            await Promise.all(settling);
            break;
          default:
            action satisfies never;
        }
        check();
      }
      await Promise.all(settling);
      const standing = ledger.standing(key);
      assert.deepEqual([standing.spent, standing.reserved], [spent, reserved]);
      const once = [spent, BigInt(settling.length)];
      assert.deepEqual(await sumOf(database, "usage_events", key), once);
      assert.deepEqual(await sumOf(database, "usage_hourly", key), once);
      await Promise.all(held.map(({ reservation }) => reservation.settle(settled(0))));
      assert.equal(ledger.standing(key).reserved, 0n);
    }),
    { numRuns: 60 },
  );
});

test("of a hundred requests at once, as many are let in as the hard cap pays for", async (t) => {
  const { database } = await scratchDatabase(t);
  const clock = createTestClock();
  const ledger = await openOn(database, clock);
  const key = newKey(1_000n);
  const tried = Array.from({ length: 100 }, () => {
    try {
      return reserve(ledger, key, 70, clock.now());
    } catch (error) {
      assert.ok(coded("hard_cap_exceeded")(error));
      return undefined;
    }
  });
  const held = tried.filter((reservation) => reservation !== undefined);
  assert.equal(held.length, 14);
  await Promise.all(held.map((reservation) => reservation.settle(settled(70))));
  assert.equal(ledger.standing(key).spent, 980n);
});

test("the dearest candidate is reserved, whichever stands first", async (t) => {
  const { database } = await scratchDatabase(t);
  const clock = createTestClock();
  const ledger = await openOn(database, clock);
  const reservation = reserve(ledger, newKey(10_000n), 100, clock.now(), [priced(1n), priced(7n), priced(3n)]);
  assert.equal(reservation.worstCase, 700n);
  await reservation.settle(settled(0));
});

test("a refusal explains itself: the rule, its numbers, and when it resets", async (t) => {
  const { database } = await scratchDatabase(t);
  const clock = createTestClock(Date.UTC(2026, 10, 23, 12));
  const ledger = await openOn(database, clock);
  const key = newKey(1_000_000_000n);
  await reserve(ledger, key, 400_000_000, clock.now()).settle(settled(300_000_000));
  const held = reserve(ledger, key, 200_000_000, clock.now());
  assert.throws(
    () => reserve(ledger, key, 600_000_000, clock.now()),
    (error) => {
      assert.ok(error instanceof BrikkError);
      assert.equal(error.status, 402);
      assert.equal(error.headers()["x-should-retry"], "false");
      assert.deepEqual(error.extras.details, {
        scope: "key",
        window: "day",
        limit_usd: 1,
        spent_usd: 0.3,
        reserved_usd: 0.2,
        needed_usd: 0.6,
        resets_at: "2026-11-24T00:00:00.000Z",
      });
      return true;
    },
  );
  await held.settle(settled(0));
});

test("cost above what was reserved is charged in full, and the key is over its cap until the day ends", async (t) => {
  const { database } = await scratchDatabase(t);
  const clock = createTestClock();
  const ledger = await openOn(database, clock);
  const key = newKey(100n, 50n);
  const { cost, standing } = await reserve(ledger, key, 90, clock.now()).settle(settled(150));
  assert.equal(cost, 150n);
  assert.deepEqual([standing.spent, standing.softCapExceeded, standing.hardCapExceeded], [150n, true, true]);
  assert.throws(() => reserve(ledger, key, 0, clock.now()), coded("hard_cap_exceeded"));
});

test("what nobody served costs nothing, and is written down", async (t) => {
  const { database } = await scratchDatabase(t);
  const clock = createTestClock();
  const ledger = await openOn(database, clock);
  const key = newKey(100n);
  const { cost } = await reserve(ledger, key, 90, clock.now()).settle({
    ...settled(0, undefined),
    outcome: "failed",
    status: 502,
    errorCode: "provider_error",
    usageSource: "none",
  });
  assert.equal(cost, 0n);
  await ledger.recordRefusal(requestOf(key, clock.now()), { status: 402, errorCode: "hard_cap_exceeded" });
  const rows = await database.all({
    sql: "select outcome, status, error_code, cost_nano_usd, attempts from usage_events where key_id = ? order by event_id",
    params: [key.id],
  });
  assert.deepEqual(rows, [
    { outcome: "failed", status: 502n, error_code: "provider_error", cost_nano_usd: 0n, attempts: 1n },
    { outcome: "refused", status: 402n, error_code: "hard_cap_exceeded", cost_nano_usd: 0n, attempts: 0n },
  ]);
  assert.deepEqual(ledger.standing(key).spent + ledger.standing(key).reserved, 0n);
});

test("while the database fails nothing may cost anything; what was in hand is settled when it is back", async (t) => {
  const { database } = await scratchDatabase(t);
  let broken = false;
  let failures = 0;
  const failing: Database = {
    dialect: database.dialect,
    query: database.query,
    transact: (statements: readonly Statement[]) => {
      if (!broken) return database.transact(statements);
      failures += 1;
      return Promise.reject(new StorageUnavailable("disk full"));
    },
    read: (statements) => database.read(statements),
    all: (statement) => database.all(statement),
    close: () => database.close(),
  };
  const clock = createTestClock();
  const ledger = await openOn(failing, clock);
  const key = newKey(1_000n);
  const held = [100, 200].map((tokens) => reserve(ledger, key, tokens, clock.now()));
  t.mock.timers.enable({ apis: ["setTimeout"] });
  broken = true;
  let durable = false;
  const settling = Promise.all(held.map((reservation) => reservation.settle(settled(50)))).then(() => (durable = true));
  const pass = async (until: () => boolean): Promise<void> => {
    while (!until()) {
      t.mock.timers.tick(250);
      await new Promise((resolve) => setImmediate(resolve));
    }
  };
  await pass(() => failures >= 3);
  assert.equal(ledger.writable, false);
  assert.equal(durable, false);
  assert.throws(
    () => reserve(ledger, key, 1, clock.now()),
    (error) => coded("storage_unavailable")(error) && (error as BrikkError).headers()["retry-after"] === "2",
  );
  // Not yet durable, so still set aside in full.
  assert.deepEqual([ledger.standing(key).spent, ledger.standing(key).reserved], [0n, 300n]);
  broken = false;
  await pass(() => durable);
  await settling;
  assert.equal(ledger.writable, true);
  assert.deepEqual([ledger.standing(key).spent, ledger.standing(key).reserved], [100n, 0n]);
  assert.deepEqual(await sumOf(database, "usage_events", key), [100n, 2n]);
  assert.deepEqual(await sumOf(database, "usage_hourly", key), [100n, 2n]);
  await reserve(ledger, key, 900, clock.now()).settle(settled(0));
});

test("an event that the database will not have is not called done, and does not hold its reservation for ever", async (t) => {
  const { database } = await scratchDatabase(t);
  const clock = createTestClock();
  const ledger = await openOn(database, clock);
  const key = newKey(100n);
  const reservation = reserve(ledger, key, 90, clock.now());
  await assert.rejects(reservation.settle({ ...settled(60), status: 200.5 }));
  // The money is gone even though its row is not there.
  assert.deepEqual([ledger.standing(key).spent, ledger.standing(key).reserved], [60n, 0n]);
});

test("at midnight UTC a new day begins: what was reserved yesterday settles there and does not count today", async (t) => {
  const { database } = await scratchDatabase(t);
  const clock = createTestClock(Date.UTC(2026, 10, 23, 23, 59, 59));
  const ledger = await openOn(database, clock);
  const key = newKey(1_000n);
  const yesterday = reserve(ledger, key, 900, clock.now());
  assert.throws(() => reserve(ledger, key, 200, clock.now()), coded("hard_cap_exceeded"));
  clock.advance(1_000);
  assert.deepEqual([ledger.standing(key).spent, ledger.standing(key).reserved], [0n, 0n]);
  const today = reserve(ledger, key, 1_000, clock.now());
  const { standing } = await yesterday.settle(settled(800));
  assert.deepEqual([standing.spent, standing.reserved, standing.resetsAtMs], [0n, 1_000n, Date.UTC(2026, 10, 25)]);
  await today.settle(settled(10));
  assert.deepEqual([ledger.standing(key).spent, ledger.standing(key).reserved], [10n, 0n]);
  const summary = await readUsageSummary(database, clock, { keyId: key.id });
  assert.deepEqual([summary.today.cost, summary.thisWeek.cost], [10n, 810n]);
});

test("a wall clock that is set back over midnight does not give the budget out again", async (t) => {
  const { database } = await scratchDatabase(t);
  const clock = createTestClock(Date.UTC(2026, 10, 24));
  const ledger = await openOn(database, clock);
  const key = newKey(1_000n);
  await reserve(ledger, key, 900, clock.now()).settle(settled(900));
  clock.advance(-200);
  assert.throws(() => reserve(ledger, key, 200, clock.now()), coded("hard_cap_exceeded"));
  clock.advance(200);
  assert.equal(ledger.standing(key).spent, 900n);
});

test("a restart knows what was spent today, and nothing of what a dead process had reserved", async (t) => {
  const { database } = await scratchDatabase(t);
  const clock = createTestClock();
  const before = await openOn(database, clock);
  const [key, other] = [newKey(1_000n), newKey(1_000n)];
  await reserve(before, key, 500, clock.now()).settle(settled(400));
  clock.advance(3_600_000);
  await reserve(before, key, 500, clock.now()).settle(settled(30));
  await reserve(before, other, 500, clock.now()).settle(settled(7));
  reserve(before, key, 500, clock.now());
  const after = await openOn(database, clock);
  assert.deepEqual(
    [after.standing(key).spent, after.standing(key).reserved, after.standing(other).spent],
    [430n, 0n, 7n],
  );
  assert.throws(() => reserve(after, key, 571, clock.now()), coded("hard_cap_exceeded"));
  clock.advance(DAY_MS);
  assert.equal((await openOn(database, clock)).standing(key).spent, 0n);
});

test("a key without caps of its own has the settings' caps", async (t) => {
  const { database } = await scratchDatabase(t);
  const ledger = await openOn(database);
  const { softCap, hardCap } = ledger.standing({
    id: "bk_plain",
    name: "test",
    state: { kind: "active" },
    createdAtMs: 0,
  });
  assert.deepEqual([softCap, hardCap], [5_000_000_000n, 10_000_000_000n]);
});

test("closing the ledger waits for every settlement that was handed in", async (t) => {
  const { database } = await scratchDatabase(t);
  const clock = createTestClock();
  const ledger = await openOn(database, clock);
  const key = newKey(10_000n);
  const settling = Array.from({ length: 20 }, () => reserve(ledger, key, 10, clock.now()).settle(settled(10)));
  await ledger.close();
  assert.deepEqual(await sumOf(database, "usage_events", key), [200n, 20n]);
  await Promise.all(settling);
});
