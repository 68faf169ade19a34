import { sql, type Transaction } from "kysely";
import type { DialectName } from "./database.ts";
import type { Schema } from "./schema.ts";

/**
 * Makes this transaction the table's only writer until it ends: what it reads of the table stays true, and its changes become
 * visible before those of the next. SQLite's transactions have that from their beginning; PostgreSQL's see what others commit
 * meanwhile, and end in another order than they began. Readers never wait.
 */
export async function lockTable(
  transaction: Transaction<Schema>,
  dialect: DialectName,
  table: keyof Schema,
): Promise<void> {
  if (dialect === "postgres")
    await sql`lock table ${sql.table(table)} in share row exclusive mode`.execute(transaction);
}
