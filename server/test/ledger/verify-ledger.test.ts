import assert from "node:assert/strict";
import type { TestContext } from "node:test";
import { type LedgerVerification, verifyLedger } from "../../src/ledger/verify-ledger.ts";
import { raiseEventsFrom } from "../../src/ledger/events-from.ts";
import type { DialectName, Database, SqlValue } from "../../src/storage/database.ts";
import { openDatabase } from "../../src/storage/open-database.ts";
import { onEachDatabase, scratchDatabase } from "../storage/scratch.ts";
import { addDayWindows, DAY_MS, eventRow, insertEvents, MONDAY_MS, rollUpEvents, seedEvents } from "./ledger-rows.ts";

const ALICE = "bk_alice0000001";
const ALICES_MONDAY = [`${ALICE}/day`, MONDAY_MS] as const;
const EVENTS = 600;

const run = (database: Database, sql: string, ...params: SqlValue[]): Promise<unknown> =>
  database.transact([{ sql, params }]);

/** Two keys over three days; Alice's Monday has a lease that lives and what a dead owner held, of which events came late. */
async function soundLedger(t: TestContext, dialect: DialectName) {
  const { database, url } = await scratchDatabase(t, dialect);
  await seedEvents(database, {
    count: EVENTS,
    fromMs: MONDAY_MS,
    stepMs: (3 * DAY_MS) / EVENTS,
    keyIds: [ALICE, "bk_bob000000001"],
  });
  await rollUpEvents(database);
  await addDayWindows(database);
  await run(database, "insert into lease_owners (owner_id, started_at_ms, heartbeat_at_ms) values ('living', 1, 1)");
  await run(
    database,
    `insert into leases (owner_id, budget_id, window_start_ms, leased_nano_usd, written_off_nano_usd)
      values ('living', ?, ?, 500, 0), ('dead', ?, ?, 0, 70)`,
    ...ALICES_MONDAY,
    ...ALICES_MONDAY,
  );
  await run(
    database,
    `update budget_windows set leased_nano_usd = 500, written_off_nano_usd = 70, spent_nano_usd = spent_nano_usd + 70,
      unleased_nano_usd = 30 where budget_id = ? and window_start_ms = ?`,
    ...ALICES_MONDAY,
  );
  const spent = async (): Promise<bigint> => {
    const [row] = await database.all({
      sql: "select spent_nano_usd from budget_windows where budget_id = ? and window_start_ms = ?",
      params: ALICES_MONDAY,
    });
    return row?.["spent_nano_usd"] as bigint;
  };
  return { database, url, spent };
}

/** The faults as short lines; a test shows all there are, so that a fault reported twice is seen. */
const linesOf = ({ faults, faultCount }: LedgerVerification): string[] => {
  assert.equal(faultCount, faults.length);
  return faults.map(
    ({ rule, row, figures }) =>
      `${rule} ${Object.values(row).join("|")}: ${figures.map(({ name, found, expected, atMost }) => `${name} ${found} ${atMost ? "<=" : "="} ${expected}`).join(", ")}`,
  );
};

onEachDatabase("a sound ledger has no fault, and what was looked at is counted", async (t, dialect) => {
  const { database } = await soundLedger(t, dialect);
  const { checked, faults, faultCount } = await verifyLedger(database);
  assert.deepEqual([faults, faultCount], [[], 0]);
  const [sums] = await database.all({
    sql: "select sum(cost_nano_usd) as cost, (select count(*) from usage_hourly) as hours from usage_events",
    params: [],
  });
  assert.deepEqual(checked, {
    windows: 6,
    leases: 2,
    hours: Number(sums?.["hours"]),
    events: EVENTS,
    cost: sums?.["cost"],
    writtenOff: 70n,
    eventsFromMs: undefined,
  });
});

onEachDatabase("an empty ledger holds", async (t, dialect) => {
  const { database } = await scratchDatabase(t, dialect);
  assert.deepEqual(linesOf(await verifyLedger(database)), []);
});

const AN_EVENT = "00000000-0000-7000-8000-000000000002";
const ITS_HOUR = `${MONDAY_MS}|${ALICE}|provider-a|model-2|completed|1`;

onEachDatabase("an event whose cost was changed is found in its hour, with both sums", async (t, dialect) => {
  const { database } = await soundLedger(t, dialect);
  const [hour] = await database.all({
    sql: "select cost_nano_usd from usage_hourly where hour_start_ms = ? and key_id = ? and model = 'model-2'",
    params: [MONDAY_MS, ALICE],
  });
  const cost = hour?.["cost_nano_usd"] as bigint;
  await run(database, "update usage_events set cost_nano_usd = cost_nano_usd + 1 where event_id = ?", AN_EVENT);
  assert.deepEqual(linesOf(await verifyLedger(database)), [`hour ${ITS_HOUR}: cost_nano_usd ${cost} = ${cost + 1n}`]);
});

onEachDatabase("an event that is gone is found in its hour, whatever it cost", async (t, dialect) => {
  const { database } = await soundLedger(t, dialect);
  await run(
    database,
    "delete from usage_events where event_id = (select min(event_id) from usage_events where outcome = 'refused')",
  );
  const [line = "", ...more] = linesOf(await verifyLedger(database));
  assert.deepEqual(more, []);
  assert.match(line, /^hour \d+\|bk_bob000000001\|\|\|refused\|1: requests 1 = 0, /);
});

onEachDatabase("a roll-up that is missing is found from its events", async (t, dialect) => {
  const { database } = await soundLedger(t, dialect);
  await insertEvents(database, [eventRow({ key_id: "bk_carol000001", cost_nano_usd: 0n })]);
  assert.deepEqual(linesOf(await verifyLedger(database)), [
    `hour ${MONDAY_MS}|bk_carol000001|provider-a|model-a|completed|1: requests 0 = 1, input_tokens 0 = 16, output_tokens 0 = 24`,
  ]);
});

onEachDatabase("a roll-up without events is found", async (t, dialect) => {
  const { database } = await soundLedger(t, dialect);
  await run(
    database,
    `insert into usage_hourly (hour_start_ms, key_id, provider, model, outcome, simulated, requests, input_tokens, output_tokens, cost_nano_usd)
      values (?, 'bk_carol000001', '', '', 'refused', 0, 1, 0, 0, 0)`,
    MONDAY_MS,
  );
  assert.deepEqual(linesOf(await verifyLedger(database)), [
    `hour ${MONDAY_MS}|bk_carol000001|||refused|0: requests 1 = 0`,
  ]);
});

for (const off of [1n, -1n]) {
  onEachDatabase(`a window whose spent is off by ${off} nano-USD is found`, async (t, dialect) => {
    const { database, spent } = await soundLedger(t, dialect);
    const right = await spent();
    await run(
      database,
      "update budget_windows set spent_nano_usd = spent_nano_usd + ? where budget_id = ? and window_start_ms = ?",
      off,
      ...ALICES_MONDAY,
    );
    assert.deepEqual(linesOf(await verifyLedger(database)), [
      `window-spent ${ALICES_MONDAY.join("|")}: spent_nano_usd ${right + off} = ${right}`,
    ]);
  });
}

onEachDatabase("a window counts the hours within it and no others", async (t, dialect) => {
  const { database } = await soundLedger(t, dialect);
  await run(
    database,
    "update budget_windows set window_end_ms = window_end_ms - 3600000 where budget_id = ? and window_start_ms = ?",
    ...ALICES_MONDAY,
  );
  assert.match(linesOf(await verifyLedger(database)).join(), /^window-spent [^,]*$/);
});

onEachDatabase("a lease sum that is off is found, and so is a write-off", async (t, dialect) => {
  const { database } = await soundLedger(t, dialect);
  await run(database, "update leases set leased_nano_usd = 501 where owner_id = 'living'");
  await run(database, "update leases set written_off_nano_usd = 69 where owner_id = 'dead'");
  assert.deepEqual(linesOf(await verifyLedger(database)), [
    `window-leases ${ALICES_MONDAY.join("|")}: leased_nano_usd 500 = 501, written_off_nano_usd 70 = 69`,
  ]);
});

onEachDatabase("a lease on a window that is not there is found", async (t, dialect) => {
  const { database } = await soundLedger(t, dialect);
  await run(
    database,
    `insert into leases (owner_id, budget_id, window_start_ms, leased_nano_usd, written_off_nano_usd) values ('living', 'nowhere/day', 0, 9, 0)`,
  );
  assert.deepEqual(linesOf(await verifyLedger(database)), ["window-leases nowhere/day|0: leased_nano_usd 0 = 9"]);
});

onEachDatabase(
  "a window above its cap by one nano-USD is found; at its cap, and above it by what no lease covered, it holds",
  async (t, dialect) => {
    const { database, spent } = await soundLedger(t, dialect);
    const used = (await spent()) + 500n;
    const grant = (cap: bigint) =>
      run(
        database,
        "update budget_windows set granted_cap_nano_usd = ? where budget_id = ? and window_start_ms = ?",
        cap,
        ...ALICES_MONDAY,
      );
    await grant(used - 30n);
    assert.deepEqual(linesOf(await verifyLedger(database)), []);
    await grant(used - 31n);
    assert.deepEqual(linesOf(await verifyLedger(database)), [
      `window-cap ${ALICES_MONDAY.join("|")}: spent_and_leased_nano_usd ${used} <= ${used - 1n}`,
    ]);
  },
);

onEachDatabase(
  "more spent without a lease than spent at all is found, since it would hide any excess",
  async (t, dialect) => {
    const { database, spent } = await soundLedger(t, dialect);
    const all = await spent();
    await run(
      database,
      "update budget_windows set unleased_nano_usd = ? where budget_id = ? and window_start_ms = ?",
      all + 1n,
      ...ALICES_MONDAY,
    );
    assert.deepEqual(linesOf(await verifyLedger(database)), [
      `window-cap ${ALICES_MONDAY.join("|")}: unleased_nano_usd ${all + 1n} <= ${all}`,
    ]);
  },
);

onEachDatabase("a lease whose owner nobody knows is found", async (t, dialect) => {
  const { database } = await soundLedger(t, dialect);
  await run(database, "delete from lease_owners");
  assert.deepEqual(linesOf(await verifyLedger(database)), [
    `lease-owner living|${ALICES_MONDAY.join("|")}: leased_nano_usd 500 = 0`,
  ]);
});

onEachDatabase("of many faults twenty of a rule are named and all are counted", async (t, dialect) => {
  const { database } = await soundLedger(t, dialect);
  await run(database, "update usage_hourly set requests = requests + 1");
  const { faults, faultCount, checked } = await verifyLedger(database);
  assert.equal(faults.length, 20);
  assert.equal(faultCount, checked.hours);
});

onEachDatabase(
  "events that retention dropped are not missed, their hours still count for the windows, and later ones are still proved",
  async (t, dialect) => {
    const { database } = await soundLedger(t, dialect);
    const tuesdayMs = MONDAY_MS + DAY_MS;
    await database.transact([raiseEventsFrom(tuesdayMs)]);
    await run(database, "delete from usage_events where occurred_at_ms < ? and event_id > ?", tuesdayMs, AN_EVENT);
    const { checked, ...found } = await verifyLedger(database);
    assert.deepEqual(linesOf({ checked, ...found }), []);
    assert.deepEqual([checked.eventsFromMs, checked.events], [tuesdayMs, (EVENTS * 2) / 3]);
    await run(database, "update usage_hourly set cost_nano_usd = cost_nano_usd + 1 where hour_start_ms = ?", MONDAY_MS);
    assert.ok(linesOf(await verifyLedger(database)).every((line) => line.startsWith("window-spent")));
    await run(database, "delete from usage_events where occurred_at_ms = ?", tuesdayMs);
    assert.ok(linesOf(await verifyLedger(database)).some((line) => line.startsWith(`hour ${tuesdayMs}|`)));
  },
);

onEachDatabase(
  "all is read from one snapshot: a ledger that is written meanwhile by somebody else never looks faulty",
  async (t, dialect) => {
    const { database, url } = await soundLedger(t, dialect);
    const writer = await openDatabase({ url });
    t.after(() => writer.close());
    let writing = true;
    const written = (async () => {
      for (let count = 0; count < 150; count += 1) {
        const event = eventRow({ key_id: ALICE, occurred_at_ms: BigInt(MONDAY_MS + count) });
        await writer.transact([
          {
            sql: `insert into usage_events (event_id, request_id, key_id, occurred_at_ms, finished_at_ms, operation, requested_model, stream, simulated, outcome,
              status, fresh_input_tokens, cached_input_tokens, cache_write_tokens, audio_input_tokens, output_tokens, reasoning_tokens, audio_output_tokens,
              usage_source, cost_nano_usd, latency_ms, attempts, fallback)
            values (?, 'r', ?, ?, ?, 'chat', 'm', 0, 0, 'completed', 200, 0, 0, 0, 0, 0, 0, 0, 'exact', 7, 0, 1, 0)`,
            params: [event.event_id, ALICE, event.occurred_at_ms, event.occurred_at_ms],
          },
          {
            sql: `insert into usage_hourly (hour_start_ms, key_id, provider, model, outcome, simulated, requests, input_tokens, output_tokens, cost_nano_usd)
            values (?, ?, '', '', 'completed', 0, 1, 0, 0, 7) on conflict (key_id, hour_start_ms, provider, model, outcome, simulated)
            do update set requests = usage_hourly.requests + 1, cost_nano_usd = usage_hourly.cost_nano_usd + 7`,
            params: [MONDAY_MS, ALICE],
          },
          {
            sql: "update budget_windows set spent_nano_usd = spent_nano_usd + 7, unleased_nano_usd = unleased_nano_usd + 7 where budget_id = ? and window_start_ms = ?",
            params: ALICES_MONDAY,
          },
        ]);
      }
    })().finally(() => {
      writing = false;
    });
    const seen = new Set<number>();
    while (writing) {
      const { checked, ...found } = await verifyLedger(database);
      assert.deepEqual(linesOf({ checked, ...found }), []);
      seen.add(checked.events);
    }
    await written;
    assert.ok(seen.size >= 3, `looked at ${seen.size} states`);
  },
);
