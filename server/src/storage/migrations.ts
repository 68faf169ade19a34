import type { Kysely } from "kysely";
import { type Migration, Migrator } from "kysely/migration";
import { type Columns, columnsOf } from "./columns.ts";
import type { DialectName } from "./database.ts";
import { keysAndUsage } from "./migrations/0001-keys-and-usage.ts";
import { budgetsAndLeases } from "./migrations/0002-budgets-and-leases.ts";
import type { Schema } from "./schema.ts";

/** Every migration there is, in the order of its name. One that has been released is never changed. */
const migrations: Readonly<Record<string, (columns: Columns) => Migration>> = {
  "0001-keys-and-usage": keysAndUsage,
  "0002-budgets-and-leases": budgetsAndLeases,
};

/**
 * Brings the database to the newest schema, in one transaction. Safe to run twice and by several processes at once: the dialect
 * begins with the write lock in hand, and whoever comes second finds the work done.
 */
export async function migrate(query: Kysely<Schema>, dialect: DialectName): Promise<void> {
  const spelled = Object.fromEntries(
    Object.entries(migrations).map(([name, migration]) => [name, migration(columnsOf[dialect])]),
  );
  const migrator = new Migrator({ db: query, provider: { getMigrations: async () => spelled } });
  const { error } = await migrator.migrateToLatest();
  // What the driver threw, passed on as it is.
  if (error !== undefined) throw error as Error;
}

/** Names of migrations that the database has run and this version does not know: it was written by a newer one. */
export async function unknownMigrations(query: Kysely<Schema>): Promise<readonly string[]> {
  const tables = await query.introspection.getTables({ withInternalKyselyTables: true });
  if (!tables.some((table) => table.name === "kysely_migration")) return [];
  const log = query as unknown as Kysely<{ kysely_migration: { name: string } }>;
  const rows = await log.selectFrom("kysely_migration").select("name").orderBy("name").execute();
  return rows.map((row) => row.name).filter((name) => !(name in migrations));
}
