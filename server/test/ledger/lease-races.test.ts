import assert from "node:assert/strict";
import type { ApiKey } from "../../src/access/api-key.ts";
import { DAY_MS, HOUR_MS } from "../../src/lib/clock.ts";
import { nanoUsd } from "../../src/lib/money.ts";
import { ConstraintViolation, type Database, type Statement, StorageUnavailable } from "../../src/storage/database.ts";
import { Client } from "pg";
import { createBudgetStatements } from "../../src/ledger/budget-statements.ts";
import { PostgresStatements } from "../../src/storage/postgres-statements.ts";
import { createTestClock } from "../lib/test-clock.ts";
import { onEachDatabase, onPostgres, scratchDatabase } from "../storage/scratch.ts";
import {
  assertSound,
  coded,
  eventually,
  newKey,
  openTestLedger,
  priced,
  reservationRequest,
  reserve,
  settled,
} from "./ledger-fixture.ts";

type Answer = Awaited<ReturnType<Database["transact"]>>;

/** A database that takes effect at once, and whose answers to some transactions wait until the test lets them through. */
function holdingBack(database: Database): {
  database: Database;
  /** The next transaction that has such a statement; resolves when it is committed and its answer held. */
  holdBack(sql: string): { committed: Promise<void>; letThrough(): void };
} {
  let held: { sql: string; committed: () => void; gate: Promise<void> } | undefined;
  return {
    database: {
      ...database,
      async transact(statements: readonly Statement[]): Promise<Answer> {
        const holding = held && statements.some(({ sql }) => sql.includes(held!.sql)) ? held : undefined;
        if (holding) held = undefined;
        const answer = await database.transact(statements);
        holding?.committed();
        await holding?.gate;
        return answer;
      },
    },
    holdBack(sql) {
      const committed = Promise.withResolvers<void>();
      const gate = Promise.withResolvers<void>();
      held = { sql, committed: committed.resolve, gate: gate.promise };
      return { committed: committed.promise, letThrough: gate.resolve };
    },
  };
}

const leasedOf = async (database: Database, key: ApiKey): Promise<bigint> => {
  const [row] = await database.all({
    sql: "select coalesce(sum(leased_nano_usd), 0) as leased from leases where budget_id = ?",
    params: [`${key.id}/day`],
  });
  return row!["leased"] as bigint;
};

onEachDatabase("a slice that goes back while a settlement is on its way leaves nothing leased", async (t, dialect) => {
  const { database } = await scratchDatabase(t, dialect);
  const storage = holdingBack(database);
  const clock = createTestClock();
  const ledger = await openTestLedger(t, storage.database, { clock });
  const key = newKey(10_000n);
  const reservation = await reserve(ledger, key, 100, clock.now());
  // In full, so that nothing is left of it that would go back later.
  const commit = storage.holdBack("insert into usage_events");
  const settling = reservation.settle(settled(100));
  await commit.committed;
  clock.advance(3_000);
  await ledger.tick();
  commit.letThrough();
  await settling;
  for (let second = 0; second < 20; second++) {
    clock.advance(3_000);
    await ledger.tick();
  }
  assert.equal(await leasedOf(database, key), 0n);
  await assertSound(database);
});

onEachDatabase("a cap that is lowered while a slice goes back leaves nothing leased", async (t, dialect) => {
  const { database } = await scratchDatabase(t, dialect);
  const storage = holdingBack(database);
  const clock = createTestClock();
  const ledger = await openTestLedger(t, storage.database, { clock });
  const key = newKey(10_000n);
  await (await reserve(ledger, key, 1_000, clock.now())).settle(settled(0));
  await reserve(ledger, key, 10, clock.now());
  await ledger.tick();
  const release = storage.holdBack("w.leased_nano_usd - s.back");
  for (let second = 0; second < 10; second++) clock.advance(0);
  const ticking = (async () => {
    for (let second = 0; second < 10; second++) await ledger.tick();
  })();
  await release.committed;
  ledger.standing({ ...key, hardCap: nanoUsd(5n) });
  release.letThrough();
  await ticking;
  for (let second = 0; second < 20; second++) await ledger.tick();
  assert.equal(await leasedOf(database, key), 10n);
});

onEachDatabase("a key whose first request of a day was free is not refused the others", async (t, dialect) => {
  const { database } = await scratchDatabase(t, dialect);
  const clock = createTestClock();
  const ledger = await openTestLedger(t, database, { clock });
  const key = newKey(1_000n);
  const free = priced(0n);
  await (await reserve(ledger, key, 100, clock.now(), [free])).settle(settled(100, { model: free, simulated: true }));
  await (await reserve(ledger, key, 100, clock.now())).settle(settled(100));
  assert.equal(ledger.standing(key).budgets[0]!.spent, 100n);
  await assertSound(database);
});

onEachDatabase("a lowered cap is not undone by a request that began under the higher one", async (t, dialect) => {
  const { database } = await scratchDatabase(t, dialect);
  const clock = createTestClock(Date.UTC(2026, 10, 23, 23, 59, 59));
  const ledger = await openTestLedger(t, database, { clock });
  const before = newKey(1_000n);
  const stream = await reserve(ledger, before, 100, clock.now());
  const lowered: ApiKey = { ...before, revision: before.revision + 1, hardCap: nanoUsd(200n) };
  clock.advance(2_000);
  await (await reserve(ledger, lowered, 100, clock.now())).settle(settled(100));
  await stream.settle(settled(100));
  await assert.rejects(reserve(ledger, lowered, 400, clock.now()), coded("hard_cap_exceeded"));
  assert.equal(ledger.standing(lowered).budgets[0]!.hardCap, 200n);
});

onEachDatabase("a lease that was asked for under a higher cap is not spent under the lower one", async (t, dialect) => {
  const { database } = await scratchDatabase(t, dialect);
  const storage = holdingBack(database);
  const clock = createTestClock();
  const ledger = await openTestLedger(t, storage.database, { clock });
  const key = newKey(10_000n);
  const lease = storage.holdBack("insert into leases");
  const asked = reserve(ledger, key, 1_000, clock.now());
  await lease.committed;
  const lowered: ApiKey = { ...key, hardCap: nanoUsd(100n) };
  const late = reserve(ledger, lowered, 500, clock.now());
  lease.letThrough();
  const outcomes = await Promise.allSettled([asked, late]);
  assert.deepEqual(
    outcomes.map(({ status }) => status),
    ["rejected", "rejected"],
  );
  await ledger.tick();
  assert.equal(await leasedOf(database, key), 0n);
});

onEachDatabase("a hard cap that is taken away while a lease is on its way disturbs nobody", async (t, dialect) => {
  const { database } = await scratchDatabase(t, dialect);
  const storage = holdingBack(database);
  const clock = createTestClock();
  const ledger = await openTestLedger(t, storage.database, { clock });
  const [key, other] = [newKey(100_000n, { week: { hardCap: nanoUsd(100_000n) } }), newKey(1_000n)];
  await reserve(ledger, key, 100, clock.now());
  const { week: _, ...uncapped } = key;
  const lease = storage.holdBack("insert into leases");
  const first = reserve(ledger, other, 10, clock.now());
  await lease.committed;
  // Takes the rest of the slice, so that the next lease is to fill it; and before that is asked for the cap goes.
  await reserve(ledger, key, 100, clock.now());
  ledger.standing(uncapped);
  const second = reserve(ledger, other, 500, clock.now());
  lease.letThrough();
  await first;
  await second;
});

onEachDatabase(
  "an event that the database will not have, handed in during an outage, does not keep the ledger shut",
  async (t, dialect) => {
    const { database } = await scratchDatabase(t, dialect);
    let errors: Error[] = [];
    const clock = createTestClock();
    const ledger = await openTestLedger(
      t,
      {
        ...database,
        transact: (statements) => {
          const error = errors.shift();
          return error ? Promise.reject(error) : database.transact(statements);
        },
      },
      { clock },
    );
    const key = newKey(1_000n);
    const reservation = await reserve(ledger, key, 100, clock.now());
    errors = [new StorageUnavailable("gone"), new ConstraintViolation("check", "no")];
    await assert.rejects(reservation.settle(settled(10)));
    assert.equal(ledger.writable, true);
    await reserve(ledger, key, 100, clock.now());
  },
);

onEachDatabase("what a dead owner held is written off although the clock was set back since", async (t, dialect) => {
  const { database } = await scratchDatabase(t, dialect);
  const clock = createTestClock();
  const key = newKey(1_000n);
  const dying = await openTestLedger(t, database, { clock });
  await reserve(dying, key, 900, clock.now());
  await database.transact([
    { sql: "update lease_owners set heartbeat_at_ms = heartbeat_at_ms + cast(? as bigint)", params: [DAY_MS] },
  ]);
  await openTestLedger(t, database, { clock });
  assert.equal(await leasedOf(database, key), 0n);
});

onEachDatabase("a clock that is set back by hours finds the budgets of then, spent as they are", async (t, dialect) => {
  const { database } = await scratchDatabase(t, dialect);
  const clock = createTestClock(Date.UTC(2026, 10, 23, 23, 59, 59));
  const ledger = await openTestLedger(t, database, { clock });
  const key = newKey(1_000n);
  await (await reserve(ledger, key, 600, clock.now())).settle(settled(600));
  clock.advance(2 * HOUR_MS);
  // Until what has ended is forgotten.
  for (let second = 0; second < 650; second++) await ledger.tick();
  clock.advance(-2 * HOUR_MS);
  await assert.rejects(reserve(ledger, key, 401, clock.now()), coded("hard_cap_exceeded"));
  await (await reserve(ledger, key, 400, clock.now())).settle(settled(400));
  await assertSound(database);
});

onEachDatabase("upkeep that takes long is not queued behind itself", async (t, dialect) => {
  const { database } = await scratchDatabase(t, dialect);
  let hanging = 0;
  let stuck = false;
  const release = Promise.withResolvers<void>();
  const clock = createTestClock();
  const ledger = await openTestLedger(
    t,
    {
      ...database,
      transact: async (statements) => {
        if (stuck) {
          hanging += 1;
          await release.promise;
          throw new StorageUnavailable("too late");
        }
        return database.transact(statements);
      },
    },
    { clock },
  );
  const key = newKey(1_000_000n);
  await reserve(ledger, key, 100, clock.now());
  stuck = true;
  await eventually(() => hanging === 1);
  await new Promise((resolve) => setTimeout(resolve, 3_500));
  release.resolve();
  await new Promise((resolve) => setTimeout(resolve, 100));
  assert.ok(hanging <= 2, `${hanging} rounds had queued`);
  stuck = false;
});

onEachDatabase("who asks for a lease of a closed ledger is told so", async (t, dialect) => {
  const { database } = await scratchDatabase(t, dialect);
  const clock = createTestClock();
  const ledger = await openTestLedger(t, database, { clock });
  await ledger.close();
  const outcome = await Promise.race([
    reserve(ledger, newKey(1_000n), 100, clock.now()).then(
      () => "held",
      () => "refused",
    ),
    new Promise((resolve) => setTimeout(resolve, 500, "nothing")),
  ]);
  assert.equal(outcome, "refused");
});

onPostgres("an owner that comes back while two others give it up keeps what it leases then", async (t) => {
  const { database, url } = await scratchDatabase(t, "postgres");
  const clients = await Promise.all(
    ["owner", "second"].map(async () => {
      const client = new Client({ connectionString: url });
      await client.connect();
      t.after(() => client.end());
      return client;
    }),
  );
  const [owner, second] = clients as [Client, Client];
  const named = new PostgresStatements();
  const run = async (client: Client, statements: readonly Statement[]): Promise<void> => {
    for (const statement of statements) await client.query(named.unnamed(statement));
  };
  const statements = createBudgetStatements("postgres");
  const place = { budgetId: "bk_1/day", startMs: 0 };
  const lease = (needed: bigint): Statement[] => [
    statements.beat("owner"),
    ...statements.addWindows([{ ...place, endMs: DAY_MS, scopeId: "bk_1", window: "day" }]),
    ...statements.lockWindows([place]),
    ...statements.grant("owner", [{ ...place, hardCap: 1_000n, needed, least: needed, spare: 0n }]),
  ];
  await database.transact(lease(100n));
  // The first gives it up; the second was about to, and finds it away. Meanwhile it is back and leases.
  await database.transact(statements.writeOff("owner", 0));
  await owner.query("begin");
  await run(owner, lease(500n));
  await second.query("begin");
  const givingUp = run(second, statements.writeOff("owner", 0)).then(() => second.query("commit"));
  await Promise.race([givingUp, new Promise((resolve) => setTimeout(resolve, 300))]);
  await owner.query("commit");
  await givingUp;
  const [row] = await database.all({
    sql: "select w.leased_nano_usd as leased, l.leased_nano_usd as lease, w.written_off_nano_usd as lost, l.written_off_nano_usd as lease_lost from budget_windows w join leases l on l.budget_id = w.budget_id",
    params: [],
  });
  assert.deepEqual(row, { leased: 500n, lease: 500n, lost: 100n, lease_lost: 100n });
});

onEachDatabase("what comes back while a lease is asked for lets a request in that fits with it", async (t, dialect) => {
  const { database } = await scratchDatabase(t, dialect);
  const storage = holdingBack(database);
  const clock = createTestClock();
  const ledger = await openTestLedger(t, storage.database, { clock, soleOwner: false });
  const other = await openTestLedger(t, database, { clock, soleOwner: false });
  const key = newKey(100n);
  // A slice of 65 and one of 30: 5 are left for everybody, and 5 here.
  const first = await reserve(ledger, key, 60, clock.now());
  const elsewhere = await reserve(other, key, 30, clock.now());
  let asked: ReturnType<typeof storage.holdBack> | undefined;
  const request = reservationRequest(key, clock.now(), 30);
  const second = Promise.resolve(
    ledger.reserve({
      ...request,
      tighten: async () => {
        asked = storage.holdBack("grant_nano_usd = s.amount");
        return request.bound;
      },
    }),
  );
  await eventually(() => asked !== undefined);
  await asked!.committed;
  await first.settle(settled(40));
  asked!.letThrough();
  await (await second).settle(settled(30));
  await elsewhere.settle(settled(30));
  const { budgets } = await ledger.standingNow(key);
  assert.equal(budgets[0]!.spent, 100n);
  await assertSound(database);
});
