import { type RawBuilder, sql, type Transaction } from "kysely";
import type { DialectName } from "../storage/database.ts";
import type { Schema } from "../storage/schema.ts";
import { type AuditEntry, notice, NOTICES } from "./audit-entry.ts";
import { type ChainPlace, CONTENT_COLUMNS, contentOf, entryHash } from "./entry-hash.ts";
import type { HeadSeals } from "./head-seals.ts";

/**
 * How the chain grows, always in one transaction: the head's row is locked, entries are numbered and hashed from it on, and the
 * head is moved to the last of them and sealed. So there is one chain per database, whoever writes to it.
 *
 * A transaction that locks something else as well locks the head last; then no two can wait for each other.
 */
export interface AuditHead extends ChainPlace {
  readonly seal: string | null;
}

/** Whoever has it is the only one who appends until its transaction ends. Throws what the database throws, as the next does. */
export async function lockHead(transaction: Transaction<Schema>, dialect: DialectName): Promise<AuditHead> {
  const row = await transaction
    .selectFrom("audit_marks")
    .select(["sequence", "hash", "seal"])
    .where("name", "=", "head")
    // SQLite's transactions begin with the one lock there is.
    .$if(dialect === "postgres", (query) => query.forUpdate())
    .executeTakeFirstOrThrow();
  return { ...row, sequence: Number(row.sequence) };
}

/** Gives the new head. It is the chain's once the transaction is committed. */
export async function appendAfter(
  head: ChainPlace,
  entries: readonly AuditEntry[],
  options: { readonly transaction: Transaction<Schema>; readonly dialect: DialectName; readonly seals: HeadSeals },
): Promise<ChainPlace> {
  const { transaction, dialect, seals } = options;
  let { sequence, hash } = head;
  const rows = entries.map((entry) => {
    const content = contentOf(entry);
    const previousHash = hash;
    sequence += 1;
    hash = entryHash(sequence, content, previousHash);
    return [sequence, ...content, previousHash, hash];
  });
  await insertion[dialect](JSON.stringify(rows)).execute(transaction);
  const moved = { sequence, hash };
  await transaction
    .updateTable("audit_marks")
    .set({ ...moved, seal: seals.seal(moved) })
    .where("name", "=", "head")
    .execute();
  return moved;
}

/**
 * What is wrong with a head that is about to be written on from, as entries to put before all others: else the next seal would
 * make good what somebody did to the chain. `seen` is a head that this process knows to have been written.
 */
export function suspicionsOf(
  head: AuditHead,
  options: { readonly seals: HeadSeals; readonly seen: ChainPlace | undefined; readonly nowMs: number },
): AuditEntry[] {
  const { seals, seen, nowMs } = options;
  const { sequence, hash } = head;
  const found = { sequence, hash };
  const suspicions: AuditEntry[] = [];
  const standing = seals.check(head, head.seal);
  if (standing === "broken") suspicions.push(notice(NOTICES.sealBroken, nowMs, { found }));
  if (standing === "unknown-key") suspicions.push(notice(NOTICES.sealUnknown, nowMs, { found, seal: head.seal }));
  if (seen !== undefined && (sequence < seen.sequence || (sequence === seen.sequence && hash !== seen.hash)))
    suspicions.push(notice(NOTICES.cutBack, nowMs, { found, written: seen }));
  return suspicions;
}

const COLUMNS = ["sequence", ...CONTENT_COLUMNS, "previous_hash", "hash"] as const;
const INTEGERS: ReadonlySet<string> = new Set(["sequence", "occurred_at_ms", "status"]);

/** All rows as one parameter: one statement of one text, however many there are. */
const insertion: Readonly<Record<DialectName, (rows: string) => RawBuilder<unknown>>> = {
  sqlite: (rows) =>
    sql`insert into audit_entries (${sql.raw(COLUMNS.join(", "))})
      select ${sql.raw(COLUMNS.map((_, index) => `value ->> ${index}`).join(", "))} from json_each(${rows}) order by key`,
  postgres: (rows) =>
    sql`insert into audit_entries (${sql.raw(COLUMNS.join(", "))})
      select ${sql.raw(COLUMNS.map((name, index) => (INTEGERS.has(name) ? `(value ->> ${index})::bigint` : `value ->> ${index}`)).join(", "))}
      from json_array_elements(${rows}::json)`,
};
