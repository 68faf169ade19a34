import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import type { UsageScope } from "../../src/ledger/usage-scope.ts";
import {
  chooseBounds,
  GROUPINGS,
  INTERVALS,
  readUsageTimeseries,
  type TimeseriesPoint,
} from "../../src/ledger/usage-timeseries.ts";
import { onEachDatabase, scratchDatabase } from "../storage/scratch.ts";
import { DAY_MS, eventRow, HOUR_MS, insertEvents, MONDAY_MS, rollUpEvents } from "./ledger-rows.ts";

const ALICE = "bk_alice0000001";
const NOON_MS = MONDAY_MS + 12 * HOUR_MS;

onEachDatabase("the series is the sum of the events, by interval and group, for its key", async (t, dialect) => {
  const { database } = await scratchDatabase(t, dialect);
  const event = fc.record({
    offsetMs: fc.integer({ min: 0, max: 3 * DAY_MS }),
    key_id: fc.constantFrom(ALICE, "bk_bob000000001"),
    provider: fc.constantFrom("provider-a", "provider-b", null),
    model: fc.constantFrom("model-a", "model-b", null),
    outcome: fc.constantFrom("completed", "failed"),
    cost_nano_usd: fc.bigInt({ min: 0n, max: 10n ** 15n }),
    output_tokens: fc.bigInt({ min: 0n, max: 1_000n }),
  });
  await fc.assert(
    fc.asyncProperty(
      fc.array(event, { maxLength: 30 }),
      fc.constantFrom(...INTERVALS),
      fc.constantFrom(...GROUPINGS),
      fc.constantFrom<UsageScope>({ keyId: ALICE }, "all-keys"),
      async (events, interval, groupBy, scope) => {
        await database.transact(
          ["delete from usage_events", "delete from usage_hourly"].map((sql) => ({ sql, params: [] })),
        );
        const rows = events.map(({ offsetMs, ...row }) =>
          eventRow({ ...row, occurred_at_ms: BigInt(MONDAY_MS + offsetMs) }),
        );
        await insertEvents(database, rows);
        await rollUpEvents(database);
        const [fromMs, toMs] = [MONDAY_MS + DAY_MS, MONDAY_MS + 3 * DAY_MS];
        const lengthMs = interval === "hour" ? HOUR_MS : DAY_MS;

        const expected = new Map<string, TimeseriesPoint>();
        for (const row of rows) {
          const at = Number(row.occurred_at_ms);
          if (at < fromMs || at >= toMs || (scope !== "all-keys" && row.key_id !== ALICE)) continue;
          const startMs = Math.floor(at / lengthMs) * lengthMs;
          const group = groupBy === "none" ? undefined : row[groupBy];
          const sum = expected.get(`${startMs} ${group}`);
          expected.set(`${startMs} ${group}`, {
            startMs,
            ...(group !== undefined && { group }),
            cost: ((sum?.cost ?? 0n) + row.cost_nano_usd) as TimeseriesPoint["cost"],
            requests: (sum?.requests ?? 0) + 1,
            inputTokens: (sum?.inputTokens ?? 0) + 16,
            outputTokens: (sum?.outputTokens ?? 0) + Number(row.output_tokens) + 4,
          });
        }
        const points = await readUsageTimeseries(database, { scope, fromMs, toMs, interval, groupBy });
        const used = points.filter((point) => point.requests > 0);
        assert.deepEqual(new Map(used.map((point) => [`${point.startMs} ${point.group}`, point])), expected);
        assert.equal(used.length, expected.size);
        assert.deepEqual(
          points.map((point) => point.startMs),
          points.map((point) => point.startMs).toSorted((a, b) => a - b),
        );
        // Ungrouped, every interval is there; grouped, only those with requests.
        assert.equal(points.length, groupBy === "none" ? (toMs - fromMs) / lengthMs : used.length);
      },
    ),
    { numRuns: 60 },
  );
});

test("without bounds the series is the last 24 hours, or 30 days, to the end of the interval that lasts now", () => {
  const bounds = (interval: "hour" | "day", nowMs: number) =>
    chooseBounds({ fromMs: undefined, toMs: undefined, interval }, nowMs);
  assert.deepEqual(bounds("hour", NOON_MS + 1), {
    kind: "fitting",
    bounds: { fromMs: NOON_MS - 23 * HOUR_MS, toMs: NOON_MS + HOUR_MS },
  });
  // The first moment of an hour is in it.
  assert.deepEqual(bounds("hour", NOON_MS), bounds("hour", NOON_MS + 1));
  assert.deepEqual(bounds("day", NOON_MS), {
    kind: "fitting",
    bounds: { fromMs: MONDAY_MS - 29 * DAY_MS, toMs: MONDAY_MS + DAY_MS },
  });
});

test("bounds are widened to whole intervals and hold what was asked for, or are refused by the part at fault", () => {
  const time = fc.option(fc.integer({ min: Date.UTC(2020, 0, 1), max: Date.UTC(2030, 0, 1) }), { nil: undefined });
  fc.assert(
    fc.property(time, time, fc.constantFrom(...INTERVALS), (fromMs, toMs, interval) => {
      const lengthMs = interval === "hour" ? HOUR_MS : DAY_MS;
      const most = (interval === "hour" ? 31 : 366) * DAY_MS;
      const choice = chooseBounds({ fromMs, toMs, interval }, NOON_MS);
      if (choice.kind === "refused") {
        const end = toMs ?? NOON_MS + 1;
        return assert.ok(fromMs !== undefined && (fromMs >= end || end - fromMs > most - 2 * lengthMs));
      }
      const { bounds } = choice;
      assert.ok(bounds.fromMs % lengthMs === 0 && bounds.toMs % lengthMs === 0 && bounds.fromMs < bounds.toMs);
      assert.ok(bounds.toMs - bounds.fromMs <= most);
      if (fromMs !== undefined) assert.ok(bounds.fromMs <= fromMs && fromMs - bounds.fromMs < lengthMs);
      if (toMs !== undefined) assert.ok(bounds.toMs >= toMs && bounds.toMs - toMs < lengthMs);
    }),
  );
});

test("a series may be 31 days of hours or 366 days, and no longer", () => {
  for (const [interval, days] of [
    ["hour", 31],
    ["day", 366],
  ] as const) {
    const kind = (fromMs: number) => chooseBounds({ fromMs, toMs: MONDAY_MS, interval }, NOON_MS).kind;
    assert.equal(kind(MONDAY_MS - days * DAY_MS), "fitting");
    assert.equal(kind(MONDAY_MS - days * DAY_MS - 1), "refused");
  }
});
