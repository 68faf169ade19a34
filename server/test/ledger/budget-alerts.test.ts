import assert from "node:assert/strict";
import fc from "fast-check";
import type { WindowStanding } from "../../src/ledger/alert-thresholds.ts";
import { nanoUsd } from "../../src/lib/money.ts";
import { StorageUnavailable } from "../../src/storage/database.ts";
import { openDatabase } from "../../src/storage/open-database.ts";
import { createTestClock } from "../lib/test-clock.ts";
import { onEachDatabase, scratchDatabase } from "../storage/scratch.ts";
import {
  alertRows,
  DAY_MS,
  dayStanding,
  MIDNIGHT,
  startAlerts,
  startReceiver,
  until,
  watched,
} from "./alerts-under-test.ts";

const ALL = ["soft_cap", "hard_cap_50", "hard_cap_80", "hard_cap_100"];

onEachDatabase(
  "each threshold is said once per window: in the log with its numbers, in the metric without the key",
  async (t, dialect) => {
    const { database } = await scratchDatabase(t, dialect);
    const alerts = startAlerts(t, { database, clock: createTestClock() });
    for (const spent of [1, 4, 5, 5, 6, 7, 8, 9, 10, 11]) {
      alerts.observe(
        dayStanding(BigInt(spent) * 1_000_000n, { softCap: nanoUsd(6_000_000n), hardCap: nanoUsd(10_000_000n) }),
      );
      await alerts.deliverDue();
    }
    const key_id = "bk_000000000001";
    const common = {
      key_id,
      window: "day",
      soft_cap_usd: "0.006",
      hard_cap_usd: "0.01",
      resets_at: "2026-11-24T00:00:00.000Z",
    };
    assert.deepEqual(
      alerts.log.map((line) => {
        const { time, alert_id, ...rest } = JSON.parse(line) as Record<string, unknown>;
        assert.ok(typeof time === "string" && typeof alert_id === "string");
        return rest;
      }),
      [
        {
          level: "info",
          alert: "hard_cap_50",
          ...common,
          spent_usd: "0.005",
          msg: "half of a budget's hard cap is spent",
        },
        { level: "warn", alert: "soft_cap", ...common, spent_usd: "0.006", msg: "a budget's soft cap is reached" },
        {
          level: "info",
          alert: "hard_cap_80",
          ...common,
          spent_usd: "0.008",
          msg: "80 % of a budget's hard cap is spent",
        },
        { level: "warn", alert: "hard_cap_100", ...common, spent_usd: "0.01", msg: "a budget's hard cap is reached" },
      ],
    );
    const metrics = await alerts.metrics.registry.metrics();
    for (const alert of ALL)
      assert.ok(metrics.includes(`brikk_budget_alerts_total{alert="${alert}",window="day"} 1\n`), alert);
    assert.ok(!metrics.includes(key_id));
  },
);

onEachDatabase("one settlement that passes several thresholds says them all", async (t, dialect) => {
  const { database } = await scratchDatabase(t, dialect);
  const alerts = startAlerts(t, { database, clock: createTestClock() });
  alerts.observe(dayStanding(12));
  await alerts.deliverDue();
  assert.deepEqual(alerts.announced().sort(), ALL.map((alert) => `${alert} bk_000000000001`).sort());
});

onEachDatabase(
  "a changed cap does not repeat an alert within the window; the next window starts anew",
  async (t, dialect) => {
    const { database } = await scratchDatabase(t, dialect);
    const alerts = startAlerts(t, { database, clock: createTestClock() });
    alerts.observe(dayStanding(5));
    alerts.observe(dayStanding(5, { hardCap: nanoUsd(100n) }));
    alerts.observe(dayStanding(50, { hardCap: nanoUsd(100n), softCap: undefined }));
    await alerts.deliverDue();
    assert.deepEqual(alerts.announced(), ["hard_cap_50 bk_000000000001"]);
    alerts.observe(dayStanding(5, { windowStartMs: MIDNIGHT + DAY_MS, windowEndMs: MIDNIGHT + 2 * DAY_MS }));
    await alerts.deliverDue();
    assert.equal(alerts.announced().length, 2);
  },
);

onEachDatabase("windows of one key that begin together are kept apart", async (t, dialect) => {
  const { database } = await scratchDatabase(t, dialect);
  const alerts = startAlerts(t, { database, clock: createTestClock() });
  for (const [window, days] of [
    ["day", 1],
    ["week", 7],
    ["month", 30],
  ] as const)
    alerts.observe(dayStanding(5, { window, windowEndMs: MIDNIGHT + days * DAY_MS }));
  await alerts.deliverDue();
  assert.deepEqual((await alertRows(database)).map((row) => String(row["budget_id"])).sort(), [
    "bk_000000000001/day",
    "bk_000000000001/month",
    "bk_000000000001/week",
  ]);
});

onEachDatabase("an observation that passes nothing anew makes no call of the database", async (t, dialect) => {
  const { database } = await scratchDatabase(t, dialect);
  let calls = 0;
  const counting = watched(database, (go) => {
    calls += 1;
    return go();
  });
  const alerts = startAlerts(t, { database: counting, clock: createTestClock() });
  for (let spent = 0; spent < 5; spent += 1) alerts.observe(dayStanding(spent));
  await alerts.deliverDue();
  assert.equal(calls, 0);
  alerts.observe(dayStanding(5));
  await alerts.deliverDue();
  assert.equal(calls, 1);
  for (let index = 0; index < 1_000; index += 1) alerts.observe(dayStanding(5));
  await alerts.deliverDue();
  assert.equal(calls, 1);
});

onEachDatabase(
  "thresholds that many keys pass at once are written in a handful of transactions",
  async (t, dialect) => {
    const { database } = await scratchDatabase(t, dialect);
    let calls = 0;
    const counting = watched(database, (go) => {
      calls += 1;
      return go();
    });
    const alerts = startAlerts(t, { database: counting, clock: createTestClock() });
    for (let key = 0; key < 250; key += 1) alerts.observe(dayStanding(5, { scopeId: `bk_${key}` }));
    await alerts.deliverDue();
    assert.equal(calls, 3);
    assert.equal(new Set(alerts.announced()).size, 250);
  },
);

onEachDatabase("a restart does not repeat an alert", async (t, dialect) => {
  const { database } = await scratchDatabase(t, dialect);
  const clock = createTestClock();
  const first = startAlerts(t, { database, clock });
  first.observe(dayStanding(8));
  await first.close();
  assert.equal(first.announced().length, 3);
  const second = startAlerts(t, { database, clock });
  second.observe(dayStanding(10));
  await second.deliverDue();
  assert.deepEqual(second.announced(), ["hard_cap_100 bk_000000000001"]);
});

onEachDatabase("an ended window is forgotten, and what still comes for it is not said again", async (t, dialect) => {
  const { database } = await scratchDatabase(t, dialect);
  const clock = createTestClock();
  let writes = 0;
  const counting = watched(database, (go) => {
    writes += 1;
    return go();
  });
  const alerts = startAlerts(t, { database: counting, clock });
  const observeDay = async (day: number): Promise<void> => {
    alerts.observe(
      dayStanding(5, { windowStartMs: MIDNIGHT + day * DAY_MS, windowEndMs: MIDNIGHT + (day + 1) * DAY_MS }),
    );
    await alerts.deliverDue();
  };
  await observeDay(0);
  clock.advance(DAY_MS);
  await observeDay(1);
  assert.equal(writes, 2);
  await observeDay(0);
  assert.equal(writes, 3, "forgotten, so it is written again");
  assert.equal(alerts.announced().length, 2);
});

onEachDatabase(
  "while the database is away what is passed waits, and is said once when it is back",
  async (t, dialect) => {
    const { database } = await scratchDatabase(t, dialect);
    let away = true;
    const broken = watched(database, async (go) => {
      if (away) throw new StorageUnavailable("disk full");
      return go();
    });
    const alerts = startAlerts(t, { database: broken, clock: createTestClock() });
    alerts.observe(dayStanding(5));
    await alerts.deliverDue();
    alerts.observe(dayStanding(8));
    await alerts.deliverDue();
    assert.deepEqual(alerts.announced(), []);
    away = false;
    await alerts.deliverDue();
    assert.deepEqual(alerts.announced().sort(), [
      "hard_cap_50 bk_000000000001",
      "hard_cap_80 bk_000000000001",
      "soft_cap bk_000000000001",
    ]);
    await alerts.deliverDue();
    assert.equal(alerts.announced().length, 3);
  },
);

onEachDatabase(
  "what waits for the database, and what waits for delivery, is tried again without anyone asking",
  async (t, dialect) => {
    const { database } = await scratchDatabase(t, dialect);
    const receiver = await startReceiver(t);
    t.mock.timers.enable({ apis: ["setInterval"] });
    let tries = 0;
    const broken = watched(database, async (go) => {
      if (tries++ === 0) throw new StorageUnavailable("disk full");
      return go();
    });
    const alerts = startAlerts(t, { database: broken, clock: createTestClock(), webhook: receiver.target });
    alerts.observe(dayStanding(5));
    await until(() => tries === 1);
    t.mock.timers.tick(5_000);
    await until(() => receiver.messages.length === 1);
    assert.deepEqual(alerts.announced(), ["hard_cap_50 bk_000000000001"]);
  },
);

onEachDatabase(
  "an alert whose commit took effect but whose answer was lost is said by its maker, once",
  async (t, dialect) => {
    const { database } = await scratchDatabase(t, dialect);
    const clock = createTestClock();
    let lost = 0;
    const lossy = watched(database, async (go) => {
      const result = await go();
      if (lost++ < 2) throw new StorageUnavailable("the answer was lost");
      return result;
    });
    const alerts = startAlerts(t, { database: lossy, clock });
    const other = startAlerts(t, { database, clock });
    alerts.observe(dayStanding(5));
    await alerts.deliverDue();
    other.observe(dayStanding(5));
    await other.deliverDue();
    await alerts.deliverDue();
    await alerts.deliverDue();
    assert.deepEqual([alerts.announced(), other.announced()], [["hard_cap_50 bk_000000000001"], []]);
  },
);

onEachDatabase(
  "an alert that the database will not have is told in the log, and takes no other with it",
  async (t, dialect) => {
    const { database } = await scratchDatabase(t, dialect);
    const alerts = startAlerts(t, { database, clock: createTestClock() });
    alerts.observe(dayStanding(5, { scopeId: "bk_a" }));
    alerts.observe(dayStanding(5, { scopeId: "bk_poison", windowEndMs: 0.5 }));
    alerts.observe(dayStanding(5, { scopeId: "bk_z" }));
    await alerts.deliverDue();
    assert.deepEqual((await alertRows(database)).map((row) => String(row["scope_id"])).sort(), ["bk_a", "bk_z"]);
    const [fault] = alerts.linesWith("could not be written down");
    assert.equal(fault?.["level"], "error");
    assert.equal(fault?.["key_id"], "bk_poison");
  },
);

onEachDatabase(
  "once per window over all instances, whatever the interleaving: one log line, one row, one message",
  async (t, dialect) => {
    const { database, url } = await scratchDatabase(t, dialect);
    const second = await openDatabase({ url });
    t.after(() => second.close());
    const receiver = await startReceiver(t);
    const clock = createTestClock();
    let run = 0;
    const step = fc.record({
      instance: fc.nat(1),
      key: fc.nat(2),
      day: fc.nat(1),
      spent: fc.nat(11),
      restart: fc.boolean(),
    });
    await fc.assert(
      fc.asyncProperty(fc.array(step, { minLength: 1, maxLength: 25 }), fc.scheduler(), async (steps, scheduler) => {
        run += 1;
        const before = receiver.messages.length;
        // Every call of either instance goes to its own connection when the scheduler says so.
        const instances = [database, second].map((one) =>
          watched(one, async (go) => {
            await scheduler.schedule(Promise.resolve());
            return go();
          }),
        );
        const start = (instance: number) =>
          startAlerts(t, { database: instances[instance]!, clock, webhook: receiver.target });
        const current = [start(0), start(1)];
        const started = [...current];
        const closing: Promise<void>[] = [];
        const expected = new Set<string>();
        const play = async (): Promise<void> => {
          for (const { instance, key, day, spent, restart } of steps) {
            const scopeId = `bk_${run}_${key}`;
            const windowStartMs = MIDNIGHT + day * DAY_MS;
            const standing: WindowStanding = dayStanding(spent, {
              scopeId,
              windowStartMs,
              windowEndMs: windowStartMs + DAY_MS,
            });
            current[instance]!.observe(standing);
            for (const [alert, at] of [
              ["hard_cap_50", 5],
              ["soft_cap", 6],
              ["hard_cap_80", 8],
              ["hard_cap_100", 10],
            ] as const)
              if (spent >= at) expected.add(`${alert} ${scopeId} ${day}`);
            await scheduler.schedule(Promise.resolve());
            if (restart) {
              closing.push(current[instance]!.deliverDue());
              started.push((current[instance] = start(instance)));
            }
          }
          await Promise.all([...closing, ...started.map((alerts) => alerts.deliverDue())]);
          await Promise.all(started.map((alerts) => alerts.close()));
        };
        await scheduler.waitFor(play());

        const rows = (await alertRows(database)).filter((row) => String(row["scope_id"]).startsWith(`bk_${run}_`));
        const dayOf = (startMs: bigint): number => (Number(startMs) - MIDNIGHT) / DAY_MS;
        const inTable = rows.map(
          (row) => `${String(row["alert"])} ${String(row["scope_id"])} ${dayOf(row["window_start_ms"] as bigint)}`,
        );
        assert.deepEqual(inTable.sort(), [...expected].sort());
        const withoutDay = [...expected].map((name) => name.replace(/ \d$/, ""));
        assert.deepEqual(started.flatMap((alerts) => alerts.announced()).sort(), withoutDay.sort());
        const delivered = receiver.messages.slice(before).map(({ headers }) => String(headers["webhook-id"]));
        assert.deepEqual(delivered.sort(), rows.map((row) => String(row["alert_id"])).sort());
        assert.ok(
          rows.every(
            (row) => row["delivered_at_ms"] !== null && row["next_attempt_at_ms"] === null && row["attempts"] === 1n,
          ),
        );
      }),
      { numRuns: 40 },
    );
  },
);
