import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { BUDGET_WINDOWS } from "../../src/access/caps.ts";
import { createBudgetList, timeWindowAt } from "../../src/ledger/budgets.ts";
import { DAY_MS } from "../../src/lib/clock.ts";
import { nanoUsd } from "../../src/lib/money.ts";
import { newKey } from "./ledger-fixture.ts";

const moments = fc.integer({ min: Date.UTC(2020, 0, 1), max: Date.UTC(2040, 0, 1) });

test("every moment lies in its day, its ISO week and its month, UTC, and each begins where the one before ends", () => {
  fc.assert(
    fc.property(moments, (now) => {
      for (const kind of BUDGET_WINDOWS) {
        const window = timeWindowAt(kind, now);
        assert.ok(window.startMs <= now && now < window.endMs);
        assert.equal(timeWindowAt(kind, window.startMs - 1).endMs, window.startMs);
        assert.equal(timeWindowAt(kind, window.endMs).startMs, window.endMs);
        assert.equal(new Date(window.startMs).toISOString().slice(10), "T00:00:00.000Z");
      }
      assert.equal(timeWindowAt("day", now).endMs - timeWindowAt("day", now).startMs, DAY_MS);
      assert.equal(new Date(timeWindowAt("week", now).startMs).toUTCString().slice(0, 3), "Mon");
      assert.equal(
        new Date(timeWindowAt("month", now).startMs).toISOString(),
        `${new Date(now).toISOString().slice(0, 7)}-01T00:00:00.000Z`,
      );
    }),
  );
});

test("Monday begins its own week, and the Sunday before ends the last one", () => {
  const monday = Date.UTC(2026, 10, 23);
  assert.equal(timeWindowAt("week", monday).startMs, monday);
  assert.equal(timeWindowAt("week", monday - 1).startMs, monday - 7 * DAY_MS);
});

test("every key has all three budgets, at least one with a hard cap, whatever caps were given", () => {
  const budgetsOf = createBudgetList({ softCap: nanoUsd(5n), hardCap: nanoUsd(10n) });
  const cap = fc.option(fc.bigInt({ min: 0n, max: 100n }).map(nanoUsd), { nil: undefined });
  const caps = fc.record({ softCap: cap, hardCap: cap }).map(({ softCap, hardCap }) => ({
    ...(softCap !== undefined && { softCap }),
    ...(hardCap !== undefined && { hardCap }),
  }));
  fc.assert(
    fc.property(caps, caps, caps, (day, week, month) => {
      const { softCap: _, hardCap: __, ...plain } = newKey(0n);
      const key = { ...plain, ...day, week, month };
      const budgets = budgetsOf(key);
      assert.deepEqual(
        budgets.map(({ id }) => id),
        BUDGET_WINDOWS.map((window) => `${key.id}/${window}`),
      );
      assert.ok(budgets.some(({ hardCap }) => hardCap !== undefined));
      assert.equal(budgetsOf(key), budgets);
    }),
  );
});
