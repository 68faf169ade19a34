import assert from "node:assert/strict";
import { verifyLedger } from "../../src/ledger/verify-ledger.ts";
import type { Database } from "../../src/storage/database.ts";
import type { Reply } from "../harness/callers.ts";
import { assertSound } from "../ledger/ledger-fixture.ts";

export type Whole = Extract<Reply, { kind: "whole" }>;

/** A key's window as the database has it, in nano-USD. */
export interface WindowSums {
  readonly spent: bigint;
  readonly leased: bigint;
  readonly writtenOff: bigint;
}

/** The key's month: a test that runs over midnight still looks at the whole. Zero when nothing was ever leased. */
export async function monthOf(database: Database, keyId: string): Promise<WindowSums> {
  const [row] = await database.all({
    sql: "select spent_nano_usd, leased_nano_usd, written_off_nano_usd from budget_windows where budget_id = ? order by window_start_ms desc limit 1",
    params: [`${keyId}/month`],
  });
  const of = (column: string): bigint => (row?.[column] ?? 0n) as bigint;
  return { spent: of("spent_nano_usd"), leased: of("leased_nano_usd"), writtenOff: of("written_off_nano_usd") };
}

/** The ledger's invariants hold, by the tests' own reckoning and by `brikk ledger verify`. */
export async function assertHolds(database: Database): Promise<void> {
  await assertSound(database);
  const { faults } = await verifyLedger(database);
  assert.deepEqual(faults, []);
}

/** The cost of a key's events and of its roll-ups, which must be the same. */
export async function ledgerTotal(database: Database, keyId: string): Promise<bigint> {
  const [row] = await database.all({
    sql: `select coalesce((select sum(cost_nano_usd) from usage_events where key_id = ?), 0) as events,
      coalesce((select sum(cost_nano_usd) from usage_hourly where key_id = ?), 0) as hours`,
    params: [keyId, keyId],
  });
  assert.equal(row!["hours"], row!["events"], "the roll-ups are not the events");
  return row!["events"] as bigint;
}

/** Every answer that came whole has its one row with its exact cost, and no request has two. */
export async function assertEachOnce(database: Database, keyId: string, received: readonly Whole[]): Promise<void> {
  const rows = await database.all({
    sql: "select request_id, outcome, usage_source, cost_nano_usd from usage_events where key_id = ?",
    params: [keyId],
  });
  const rowOf = new Map(rows.map((row) => [String(row["request_id"]), row]));
  assert.equal(rowOf.size, rows.length, "a request has two rows");
  for (const { requestId, cost } of received) {
    const row = rowOf.get(requestId);
    assert.ok(row, `the answer of ${requestId} was received whole and has no row`);
    assert.deepEqual(
      [row["outcome"], row["usage_source"], row["cost_nano_usd"]],
      ["completed", "exact", cost],
      requestId,
    );
  }
}
