import assert from "node:assert/strict";
import { test, type TestContext } from "node:test";
import { readEventsFrom } from "../../src/ledger/events-from.ts";
import { dropOldEvents, type Dropped, startRetention } from "../../src/ledger/retention.ts";
import { verifyLedger } from "../../src/ledger/verify-ledger.ts";
import { type Database, type DialectName, StorageUnavailable } from "../../src/storage/database.ts";
import { openDatabase } from "../../src/storage/open-database.ts";
import { startGateway } from "../harness/gateway-under-test.ts";
import { createTestClock } from "../lib/test-clock.ts";
import { onEachDatabase, scratchDatabase } from "../storage/scratch.ts";
import { addDayWindows, DAY_MS, HOUR_MS, MONDAY_MS, rollUpEvents, seedEvents } from "./ledger-rows.ts";

const DAYS = 32;
/** Noon, `DAYS` and a half after the second day's midnight: the horizon is that midnight. */
const NOW_MS = MONDAY_MS + DAY_MS + DAYS * DAY_MS + 12 * HOUR_MS;
const HORIZON_MS = MONDAY_MS + DAY_MS;
const A_DAY = 1_200;

/** Three days of events, several batches each. */
async function threeDays(t: TestContext, dialect: DialectName) {
  const { database, url } = await scratchDatabase(t, dialect);
  await seedEvents(database, { count: 3 * A_DAY, fromMs: MONDAY_MS, stepMs: DAY_MS / A_DAY, keyIds: ["bk_a", "bk_b"] });
  await rollUpEvents(database);
  await addDayWindows(database);
  return { database, url, clock: createTestClock(NOW_MS) };
}

const oldest = async (database: Database): Promise<number> => {
  const [row] = await database.all({ sql: "select min(occurred_at_ms) as oldest from usage_events", params: [] });
  return Number(row?.["oldest"]);
};

onEachDatabase(
  "events before the horizon, a whole UTC day, are dropped and no others; sums stay and the ledger holds",
  async (t, dialect) => {
    const { database, clock } = await threeDays(t, dialect);
    const sums = {
      sql: "select * from usage_hourly order by key_id, hour_start_ms, provider, model, outcome",
      params: [],
    };
    const before = await database.all(sums);
    assert.deepEqual(await dropOldEvents({ database, clock, days: DAYS }), { events: A_DAY, eventsFromMs: HORIZON_MS });
    assert.equal(await oldest(database), HORIZON_MS);
    assert.equal(await readEventsFrom(database), HORIZON_MS);
    assert.ok(HORIZON_MS <= clock.now() - DAYS * DAY_MS);
    assert.deepEqual(await database.all(sums), before);
    const { checked, faultCount } = await verifyLedger(database);
    assert.deepEqual([faultCount, checked.events, checked.eventsFromMs], [0, 2 * A_DAY, HORIZON_MS]);
  },
);

onEachDatabase(
  "the ledger holds at every step of a run, and a run that was cut short is gone on with",
  async (t, dialect) => {
    const { database, clock } = await threeDays(t, dialect);
    const cut = new AbortController();
    cut.abort();
    const first = await dropOldEvents({ database, clock, days: DAYS }, cut.signal);
    assert.ok(first.events > 0 && first.events < A_DAY);
    assert.equal((await verifyLedger(database)).faultCount, 0);
    const second = await dropOldEvents({ database, clock, days: DAYS });
    assert.equal(first.events + second.events, A_DAY);
    assert.equal((await verifyLedger(database)).faultCount, 0);
  },
);

onEachDatabase("the mark never goes back, whatever another instance's setting or clock says", async (t, dialect) => {
  const { database, clock } = await threeDays(t, dialect);
  await dropOldEvents({ database, clock, days: DAYS });
  assert.equal((await dropOldEvents({ database, clock, days: DAYS + 100 })).events, 0);
  assert.equal(await readEventsFrom(database), HORIZON_MS);
  assert.equal((await verifyLedger(database)).faultCount, 0);
});

onEachDatabase("several instances at once drop each event once", async (t, dialect) => {
  const { database, url, clock } = await threeDays(t, dialect);
  const elsewhere = await openDatabase({ url });
  t.after(() => elsewhere.close());
  const runs = await Promise.all(
    [database, elsewhere, database].map((on) => dropOldEvents({ database: on, clock, days: DAYS })),
  );
  assert.equal(
    runs.reduce((sum, { events }) => sum + events, 0),
    A_DAY,
  );
  assert.equal(await oldest(database), HORIZON_MS);
});

onEachDatabase("a ledger that dropped nothing has no mark", async (t, dialect) => {
  const { database } = await threeDays(t, dialect);
  assert.equal(await readEventsFrom(database), undefined);
});

/** On SQLite alone: the mocked hours would also run into the time limits of a connection to PostgreSQL. */
// The clock that is turned here would turn the connection's time limits of PostgreSQL as well.
test("the job runs soon after its start and then hourly, says what it dropped, outlives a failure and stops when told", async (t) => {
  const { database, clock } = await threeDays(t, "sqlite");
  t.mock.timers.enable({ apis: ["setTimeout"] });
  let broken = false;
  const failing: Database = {
    ...database,
    transact: (statements) => (broken ? Promise.reject(new StorageUnavailable("gone")) : database.transact(statements)),
  };
  const events: string[] = [];
  let told: () => void = () => {};
  const tell = (text: string): void => {
    events.push(text);
    told();
  };
  const retention = startRetention({
    database: failing,
    clock,
    days: DAYS,
    onDropped: (dropped: Dropped) => tell(`dropped ${dropped.events}`),
    onFailed: (error) => tell(String(error)),
  });
  /** Lets mocked time pass until the job speaks; a batch waits for real answers in between. */
  const until = async (count: number, stepMs: number): Promise<void> => {
    while (events.length < count) {
      t.mock.timers.tick(stepMs);
      const turn = Promise.withResolvers<void>();
      told = turn.resolve;
      setImmediate(turn.resolve);
      await turn.promise;
    }
  };
  await until(1, 1_000);
  assert.deepEqual(events, [`dropped ${A_DAY}`]);
  broken = true;
  clock.advance(DAY_MS);
  await until(2, HOUR_MS);
  broken = false;
  await until(3, HOUR_MS);
  assert.deepEqual(events, [`dropped ${A_DAY}`, "StorageUnavailable: gone", `dropped ${A_DAY}`]);
  await retention.stop();
  clock.advance(DAY_MS);
  t.mock.timers.tick(2 * HOUR_MS);
  assert.equal(events.length, 3);
});

test("a gateway with BRIKK_USAGE_RETENTION_DAYS drops old events by itself; one without keeps them", async (t) => {
  const clock = createTestClock(NOW_MS);
  const [dropping, keeping] = await Promise.all([
    startGateway({ clock, environment: { BRIKK_USAGE_RETENTION_DAYS: String(DAYS) } }),
    startGateway({ clock }),
  ]);
  t.after(() => Promise.all([dropping.close(), keeping.close()]));
  for (const { gateway } of [dropping, keeping])
    await seedEvents(gateway.database, { count: 20, fromMs: MONDAY_MS, stepMs: 1, keyIds: ["bk_a"] });
  const deadlineMs = performance.now() + 20_000;
  while ((await dropping.events()).length > 0) {
    assert.ok(performance.now() < deadlineMs, "nothing was dropped");
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
  assert.equal((await keeping.events()).length, 20);
});
