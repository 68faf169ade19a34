import { type Kysely, sql } from "kysely";
import { type Migration, Migrator } from "kysely/migration";
import { type Columns, columnsOf } from "./columns.ts";
import type { DialectName } from "./database.ts";
import { keysAndUsage } from "./migrations/0001-keys-and-usage.ts";
import { budgetsAndLeases } from "./migrations/0002-budgets-and-leases.ts";
import { rescues } from "./migrations/0003-rescues.ts";
import { accessRules } from "./migrations/0004-access.ts";
import { auditTrail } from "./migrations/0005-audit.ts";
import { providerCredentials } from "./migrations/0006-provider-credentials.ts";
import { panelRuns } from "./migrations/0007-panel-runs.ts";
import type { Schema } from "./schema.ts";

/** Every migration there is, in the order of its name. One that has been released is never changed. */
const migrations: Readonly<Record<string, (columns: Columns) => Migration>> = {
  "0001-keys-and-usage": keysAndUsage,
  "0002-budgets-and-leases": budgetsAndLeases,
  "0003-rescues": rescues,
  "0004-access": accessRules,
  "0005-audit": auditTrail,
  "0006-provider-credentials": providerCredentials,
  "0007-panel-runs": panelRuns,
};

/**
 * Brings the database to the newest schema, in one transaction. Safe to run twice and by several processes at once: it begins
 * with SQLite's write lock or with PostgreSQL's advisory lock in hand, and whoever comes second finds the work done.
 */
export async function migrate(query: Kysely<Schema>, dialect: DialectName): Promise<void> {
  const spelled = Object.fromEntries(
    Object.entries(migrations).map(([name, migration]) => [name, migration(columnsOf[dialect])]),
  );
  const schema = await schemaOf(query, dialect);
  const migrator = new Migrator({
    db: query,
    provider: { getMigrations: async () => spelled },
    ...(schema !== undefined && { migrationTableSchema: schema }),
  });
  const { error } = await migrator.migrateToLatest();
  // What the driver threw, passed on as it is.
  if (error !== undefined) throw error as Error;
}

/** Names of migrations that the database has run and this version does not know: it was written by a newer one. */
export async function unknownMigrations(query: Kysely<Schema>, dialect: DialectName): Promise<readonly string[]> {
  const schema = await schemaOf(query, dialect);
  const tables = await query.introspection.getTables({ withInternalKyselyTables: true });
  if (!tables.some((table) => table.name === "kysely_migration" && table.schema === schema)) return [];
  const log = query as unknown as Kysely<{ kysely_migration: { name: string } }>;
  const rows = await log.selectFrom("kysely_migration").select("name").orderBy("name").execute();
  return rows.map((row) => row.name).filter((name) => !(name in migrations));
}

/** PostgreSQL's tables stand in a schema, and other programs may keep a log of the same name in theirs. */
async function schemaOf(query: Kysely<Schema>, dialect: DialectName): Promise<string | undefined> {
  if (dialect === "sqlite") return undefined;
  const { rows } = await sql<{ name: string | null }>`select current_schema() as name`.execute(query);
  return rows[0]?.name ?? undefined;
}
