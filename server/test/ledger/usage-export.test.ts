import assert from "node:assert/strict";
import fc from "fast-check";
import { createKeyStore } from "../../src/access/key-store.ts";
import { exportUsageEvents } from "../../src/ledger/usage-export.ts";
import type { UsageScope } from "../../src/ledger/usage-scope.ts";
import type { Database } from "../../src/storage/database.ts";
import { createTestClock } from "../lib/test-clock.ts";
import { onEachDatabase, scratchDatabase } from "../storage/scratch.ts";
import { eventRow, insertEvents, MONDAY_MS } from "./ledger-rows.ts";

type Range = { scope: UsageScope; fromMs: number; toMs: number; pageSize: number };

async function idsOf(database: Database, range: Range): Promise<string[]> {
  const ids: string[] = [];
  for await (const page of exportUsageEvents(database, range)) {
    assert.ok(page.length > 0 && page.length <= range.pageSize);
    ids.push(...page.map((event) => event.event_id));
  }
  return ids;
}

onEachDatabase(
  "an export has every event of its range and key once, in the order of time, wherever pages end",
  async (t, dialect) => {
    const { database } = await scratchDatabase(t, dialect);
    const keys = ["bk_a00000000001", "bk_b00000000001"];
    // A few milliseconds for many events, so that pages end within one.
    const event = fc.record({ offsetMs: fc.integer({ min: 0, max: 5 }), key: fc.constantFrom(...keys) });
    await fc.assert(
      fc.asyncProperty(
        fc.array(event, { maxLength: 25 }),
        fc.integer({ min: 1, max: 6 }),
        fc.integer({ min: -1, max: 7 }),
        fc.integer({ min: -1, max: 7 }),
        fc.constantFrom<UsageScope>("all-keys", ...keys.map((keyId) => ({ keyId }))),
        async (events, pageSize, from, to, scope) => {
          await database.transact([{ sql: "delete from usage_events", params: [] }]);
          const rows = events.map(({ offsetMs, key }) =>
            eventRow({ occurred_at_ms: BigInt(MONDAY_MS + offsetMs), key_id: key }),
          );
          await insertEvents(database, rows);
          const range = { scope, fromMs: MONDAY_MS + from, toMs: MONDAY_MS + to, pageSize };
          const wanted = rows
            .filter(({ occurred_at_ms: at }) => at >= range.fromMs && at < range.toMs)
            .filter(({ key_id: keyId }) => scope === "all-keys" || keyId === scope.keyId)
            .map((row) => ({ at: Number(row.occurred_at_ms), id: row.event_id }))
            .toSorted((a, b) => a.at - b.at || (a.id < b.id ? -1 : 1));
          assert.deepEqual(
            await idsOf(database, range),
            wanted.map(({ id }) => id),
          );
        },
      ),
      { numRuns: 100 },
    );
  },
);

onEachDatabase("an exported event is its row, with its key's name", async (t, dialect) => {
  const { database } = await scratchDatabase(t, dialect);
  const { key } = await createKeyStore({ database, clock: createTestClock() }).create({ name: "demo" });
  const [known, unknown] = [eventRow({ key_id: key.id }), eventRow({ occurred_at_ms: BigInt(MONDAY_MS + 1) })];
  await insertEvents(database, [known, unknown]);
  const pages = await Array.fromAsync(
    exportUsageEvents(database, { scope: "all-keys", fromMs: 0, toMs: MONDAY_MS + 10 }),
  );
  assert.deepEqual(
    pages.flat().map((event) => ({ ...event })),
    [
      { ...known, key_name: "demo" },
      { ...unknown, key_name: null },
    ],
  );
});
