import type { Transaction } from "kysely";
import type { Clock } from "../lib/clock.ts";
import type { Database } from "../storage/database.ts";
import type { Schema } from "../storage/schema.ts";
import { appendAfter, lockHead, suspicionsOf } from "./append-entries.ts";
import type { AuditEntry } from "./audit-entry.ts";
import type { ChainPlace } from "./entry-hash.ts";
import type { HeadSeals } from "./head-seals.ts";

/** Puts entries at the end of the database's one chain. */
export interface ChainWriter {
  /** In a transaction of somebody else's, whose last lock this is. */
  appendIn(transaction: Transaction<Schema>, entries: readonly AuditEntry[]): Promise<void>;
  /**
   * A function that writes the entries in a transaction of their own and gives the new head. After StorageUnavailable, which says
   * nothing about what became of a transaction, it may be called again: the entries are written once.
   */
  groupOf(entries: readonly AuditEntry[]): () => Promise<ChainPlace>;
}

export function createChainWriter(options: {
  readonly database: Database;
  readonly clock: Clock;
  readonly seals: HeadSeals;
  /** Something was found wrong with the chain, which is put on record with what is written now. */
  readonly onSuspicion?: (action: string, details: Readonly<Record<string, unknown>>) => void;
}): ChainWriter {
  const { database, clock, seals, onSuspicion } = options;
  const { dialect } = database;
  /** The newest head that this process knows to be durable. */
  let seen: ChainPlace | undefined;

  async function appendLocked(
    transaction: Transaction<Schema>,
    entries: readonly AuditEntry[],
    attempt?: (place: ChainPlace) => void,
  ): Promise<ChainPlace> {
    const head = await lockHead(transaction, dialect);
    const suspicions = suspicionsOf(head, { seals, seen, nowMs: clock.now() });
    for (const { action = "", details = {} } of suspicions) onSuspicion?.(action, details);
    const moved = await appendAfter(head, [...suspicions, ...entries], { transaction, dialect, seals });
    attempt?.(moved);
    return moved;
  }

  const isThere = async (transaction: Transaction<Schema>, { sequence, hash }: ChainPlace): Promise<boolean> => {
    // Not before whoever may still be at it has ended.
    await lockHead(transaction, dialect);
    const row = await transaction
      .selectFrom("audit_entries")
      .select("hash")
      .where("sequence", "=", BigInt(sequence))
      .executeTakeFirst();
    return row?.hash === hash;
  };

  return {
    async appendIn(transaction, entries) {
      // Not `seen`: nobody knows yet whether it will be committed.
      await appendLocked(transaction, entries);
    },
    groupOf(entries) {
      let attempted: ChainPlace | undefined;
      return async () => {
        const before = attempted;
        seen = await database.query.transaction().execute(async (transaction) => {
          if (before !== undefined && (await isThere(transaction, before))) return before;
          return appendLocked(transaction, entries, (place) => (attempted = place));
        });
        return seen;
      };
    },
  };
}
