import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import type { EventPosition, UsageEventRow } from "../../src/ledger/usage-event-row.ts";
import { type RequestsFilter, readUsageRequests } from "../../src/ledger/usage-requests.ts";
import type { UsageScope } from "../../src/ledger/usage-scope.ts";
import type { Database, Statement } from "../../src/storage/database.ts";
import { onEachDatabase, scratchDatabase } from "../storage/scratch.ts";
import { eventRow, insertEvents, MONDAY_MS, seedEvents } from "./ledger-rows.ts";

const ALICE = "bk_alice0000001";
const BOB = "bk_bob000000001";
const ALL_TIME = { fromMs: 0, toMs: Number.MAX_SAFE_INTEGER };

/** All pages to the end; `between` runs after each. */
async function readToEnd(
  database: Database,
  request: { scope: UsageScope; limit: number; filter?: RequestsFilter; fromMs?: number; toMs?: number },
  between: () => Promise<void> = async () => {},
): Promise<UsageEventRow[][]> {
  const pages: UsageEventRow[][] = [];
  let before: EventPosition | undefined;
  do {
    const page = await readUsageRequests(database, { ...ALL_TIME, filter: {}, before, ...request });
    pages.push([...page.events]);
    before = page.next;
    await between();
  } while (before !== undefined);
  return pages;
}

const newestFirst = (rows: readonly UsageEventRow[]): string[] =>
  rows
    .toSorted((a, b) => Number(b.occurred_at_ms - a.occurred_at_ms) || (a.event_id < b.event_id ? 1 : -1))
    .map((row) => row.event_id);

onEachDatabase(
  "pages visit every request that was there once, newest first, while others come in",
  async (t, dialect) => {
    const { database } = await scratchDatabase(t, dialect);
    const offsets = fc.array(fc.integer({ min: 0, max: 4 }), { maxLength: 20 });
    await fc.assert(
      fc.asyncProperty(
        offsets,
        offsets,
        fc.integer({ min: 1, max: 5 }),
        fc.constantFrom<UsageScope>({ keyId: ALICE }, "all-keys"),
        async (first, later, limit, scope) => {
          await database.transact([{ sql: "delete from usage_events", params: [] }]);
          const rowAt = (offsetMs: number): UsageEventRow =>
            eventRow({ occurred_at_ms: BigInt(MONDAY_MS + offsetMs), key_id: ALICE });
          const there = first.map(rowAt);
          await insertEvents(database, [...there, ...(scope === "all-keys" ? [] : [eventRow({ key_id: BOB })])]);
          const coming = later.map(rowAt);
          const pages = await readToEnd(database, { scope, limit }, async () => {
            const next = coming.shift();
            if (next) await insertEvents(database, [next]);
          });
          const seen = pages.flat().map((event) => event.event_id);
          assert.equal(new Set(seen).size, seen.length);
          const known = new Set(there.map((row) => row.event_id));
          assert.deepEqual(
            seen.filter((id) => known.has(id)),
            newestFirst(there),
          );
          for (const page of pages.slice(0, -1)) assert.equal(page.length, limit);
        },
      ),
      { numRuns: 100 },
    );
  },
);

onEachDatabase("from is included, to is not, and a key sees its own", async (t, dialect) => {
  const { database } = await scratchDatabase(t, dialect);
  const rows = [0, 1, 2, 3].map((offset) =>
    eventRow({ occurred_at_ms: BigInt(MONDAY_MS + offset), key_id: offset === 2 ? BOB : ALICE }),
  );
  await insertEvents(database, rows);
  const range = { fromMs: MONDAY_MS + 1, toMs: MONDAY_MS + 3 };
  const idsIn = async (scope: UsageScope): Promise<string[]> =>
    (await readToEnd(database, { scope, limit: 10, ...range })).flat().map((event) => event.event_id);
  assert.deepEqual(await idsIn({ keyId: ALICE }), [rows[1]!.event_id]);
  assert.deepEqual(await idsIn("all-keys"), [rows[2]!.event_id, rows[1]!.event_id]);
});

onEachDatabase("a row comes as it was written", async (t, dialect) => {
  const { database } = await scratchDatabase(t, dialect);
  const row = eventRow({ key_id: ALICE, provider: null, model: null, error_code: "x", clamped_max_tokens: 16n });
  await insertEvents(database, [row]);
  const [page = []] = await readToEnd(database, { scope: { keyId: ALICE }, limit: 1 });
  assert.deepEqual({ ...page[0] }, row);
});

/** SQLite alone tells its plan in these words. */
test("a page is read from the index, from where it begins to where it ends, without sorting", async (t) => {
  const { database } = await scratchDatabase(t);
  await seedEvents(database, { count: 5_000, fromMs: MONDAY_MS, stepMs: 10, keyIds: [ALICE] });
  const asked: Statement[] = [];
  const watched: Database = {
    ...database,
    all: (statement) => {
      asked.push(statement);
      return database.all(statement);
    },
  };
  for (const scope of [{ keyId: ALICE }, "all-keys"] as const) {
    const [index, columns, marks] =
      scope === "all-keys"
        ? ["usage_events_by_time", "occurred_at_ms,event_id", "?,?"]
        : ["usage_events_by_key_and_time", "key_id,occurred_at_ms,event_id", "?,?,?"];
    for (const filter of [{}, { model: "model-1" }]) {
      asked.length = 0;
      await readUsageRequests(watched, {
        scope,
        ...ALL_TIME,
        before: { occurredAtMs: MONDAY_MS + 40_000, eventId: "ffffffff-ffff-7fff-bfff-ffffffffffff" },
        limit: 50,
        filter,
      });
      assert.equal(asked.length, "model" in filter ? 2 : 1);
      for (const { sql, params } of asked) {
        const plan = await database.all({ sql: `explain query plan ${sql}`, params });
        const steps = plan.map((step) => String(step["detail"]));
        const [step = "", ...more] = steps;
        // A second step would be the sorting.
        assert.deepEqual(more, []);
        assert.match(step, /^SEARCH usage_events USING (COVERING )?INDEX /);
        assert.ok(step.endsWith(`${index} ((${columns})>(${marks}) AND (${columns})<(${marks}))`), step);
      }
    }
  }
});

onEachDatabase(
  "a filter that fits little costs a bounded look per page, and still finds all there is",
  async (t, dialect) => {
    const { database } = await scratchDatabase(t, dialect);
    const COUNT = 10_000;
    await seedEvents(database, { count: COUNT, fromMs: MONDAY_MS, stepMs: 10, keyIds: [ALICE] });
    await insertEvents(database, [
      eventRow({ key_id: ALICE, model: "rare", occurred_at_ms: BigInt(MONDAY_MS) }),
      eventRow({ key_id: ALICE, model: "rare", occurred_at_ms: BigInt(MONDAY_MS + COUNT * 5) }),
    ]);
    const pages = await readToEnd(database, { scope: { keyId: ALICE }, limit: 50, filter: { model: "rare" } });
    assert.deepEqual(
      pages.flat().map((event) => Number(event.occurred_at_ms) - MONDAY_MS),
      [COUNT * 5, 0],
    );
    // 2,000 events are looked at for each page.
    assert.equal(pages.length, 6);
    const cancelled = await readToEnd(database, {
      scope: { keyId: ALICE },
      limit: 30,
      filter: { outcome: "cancelled" },
    });
    assert.equal(cancelled.flat().length, COUNT / 25);
    assert.ok(cancelled.flat().every((event) => event.outcome === "cancelled"));
    const both = { outcome: "completed", provider: "provider-b" } as const;
    const [few = []] = await readToEnd(database, { scope: "all-keys", limit: 20, filter: both });
    assert.equal(few.length, 20);
    assert.ok(few.every((event) => event.outcome === both.outcome && event.provider === both.provider));
  },
);
