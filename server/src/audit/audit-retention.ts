import { type Clock, DAY_MS } from "../lib/clock.ts";
import type { Database } from "../storage/database.ts";
import { lockHead } from "./append-entries.ts";
import { notice, NOTICES } from "./audit-entry.ts";
import type { ChainWriter } from "./chain-writer.ts";

/** A few milliseconds of the database's time. */
const BATCH = 500;

/**
 * Deletes entries that are older than the operator wants to keep: always a piece of the chain's beginning, so that what is left
 * has no gap. One transaction puts on record which entry was the last of them, moves the mark `beginning` to it and deletes. So
 * the chain itself says where it begins, and whoever deletes by hand is found out (see verify-trail.ts).
 *
 * An entry with a wrong time ahead of its place keeps those behind it until it is old itself. Returns how many were deleted; stops
 * between two batches when the signal says so. Throws StorageUnavailable.
 */
export async function deleteOldEntries(options: {
  readonly database: Database;
  readonly clock: Clock;
  readonly chain: ChainWriter;
  readonly days: number;
  readonly signal?: AbortSignal;
}): Promise<number> {
  const { database, clock, chain, days, signal } = options;
  const horizonMs = clock.now() - days * DAY_MS;
  let deleted = 0;
  for (;;) {
    const startedMs = performance.now();
    const batch = await database.query.transaction().execute(async (transaction) => {
      // First, so that of several instances each deletes what the others have not.
      await lockHead(transaction, database.dialect);
      const oldest = await transaction
        .selectFrom("audit_entries")
        .select(["sequence", "occurred_at_ms", "hash"])
        .orderBy("sequence")
        .limit(BATCH)
        .execute();
      const kept = oldest.findIndex((entry) => Number(entry.occurred_at_ms) >= horizonMs);
      const old = kept < 0 ? oldest : oldest.slice(0, kept);
      const last = old.at(-1);
      if (last === undefined) return 0;
      const said = notice(NOTICES.retention, clock.now(), {
        deleted: old.length,
        older_than: new Date(horizonMs).toISOString(),
        last_deleted: { sequence: Number(last.sequence), hash: last.hash },
      });
      await chain.appendIn(transaction, [said]);
      await transaction
        .updateTable("audit_marks")
        .set({ sequence: last.sequence, hash: last.hash })
        .where("name", "=", "beginning")
        .execute();
      await transaction.deleteFrom("audit_entries").where("sequence", "<=", last.sequence).execute();
      return old.length;
    });
    deleted += batch;
    if (batch < BATCH || signal?.aborted === true) return deleted;
    // As long as the batch took: at most half of the database's time is taken.
    const tookMs = performance.now() - startedMs;
    await new Promise((resolve) => setTimeout(resolve, tookMs));
  }
}
