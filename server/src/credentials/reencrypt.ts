import { type Vault, VaultError } from "../access/vault.ts";
import { type Clock, DAY_MS } from "../lib/clock.ts";
import type { Database } from "../storage/database.ts";
import { lockTable } from "../storage/lock-table.ts";
import { type SealedEntry, type SealedTable, sealedTables } from "./sealed-tables.ts";

export interface Reencryption {
  readonly resealed: number;
  /** The newest key had sealed them already. */
  readonly current: number;
  /** Idempotent answers past their time. */
  readonly dropped: number;
  /** They stay as they are. */
  readonly unreadable: readonly SealedEntry[];
}

const BATCH = 100;

/**
 * Seals everything anew under the newest key, a small transaction at a time, so that servers go on between two of them. What is done
 * is done: interrupted and begun again, it goes on where it was. Throws what the database throws.
 */
export async function reencrypt(options: {
  readonly database: Database;
  readonly vault: Vault;
  readonly clock: Clock;
}): Promise<Reencryption> {
  const { database, vault, clock } = options;
  const dropped = await dropOldAnswers(database, clock);
  const sum = { resealed: 0, current: 0 };
  const unreadable: SealedEntry[] = [];
  for (const table of sealedTables) {
    let after: SealedEntry["position"] | undefined;
    do {
      const batch = await resealBatch(database, vault, table, after);
      sum.resealed += batch.resealed;
      sum.current += batch.current;
      unreadable.push(...batch.unreadable);
      ({ after } = batch);
    } while (after !== undefined);
  }
  return { ...sum, dropped, unreadable };
}

function resealBatch(database: Database, vault: Vault, table: SealedTable, after: SealedEntry["position"] | undefined) {
  return database.query.transaction().execute(async (transaction) => {
    // Before it is read: a secret that somebody renews meanwhile would be put back.
    await lockTable(transaction, database.dialect, table.name);
    const entries = await table.page(transaction, after, BATCH);
    const unreadable: SealedEntry[] = [];
    let resealed = 0;
    for (const entry of entries) {
      const sealed = sealedAnew(vault, entry);
      if (sealed === "unreadable") unreadable.push(entry);
      if (sealed === "unreadable" || sealed === "current") continue;
      await table.replace(transaction, entry, sealed.text);
      resealed += 1;
    }
    return {
      resealed,
      current: entries.length - resealed - unreadable.length,
      unreadable,
      after: entries.length < BATCH ? undefined : entries.at(-1)?.position,
    };
  });
}

function sealedAnew(
  vault: Vault,
  { sealed, purpose }: SealedEntry,
): { readonly text: string } | "current" | "unreadable" {
  try {
    // Also of one that is current: it may have been sealed for something else.
    const text = vault.open(sealed, purpose);
    return vault.isCurrent(sealed) ? "current" : { text: vault.seal(text, purpose) };
  } catch (error) {
    if (error instanceof VaultError) return "unreadable";
    throw error;
  }
}

async function dropOldAnswers({ query }: Database, clock: Clock): Promise<number> {
  const { numDeletedRows } = await query
    .deleteFrom("idempotent_answers")
    .where("created_at_ms", "<", BigInt(clock.now() - DAY_MS))
    .executeTakeFirst();
  return Number(numDeletedRows);
}
