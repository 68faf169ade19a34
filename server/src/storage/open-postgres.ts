import { readFileSync } from "node:fs";
import { Kysely } from "kysely";
import type { ClientConfig, PoolConfig } from "pg";
import { type PostgresAddress, parsePostgresUrl } from "../lib/postgres-address.ts";
import { type Database, StorageOpenError } from "./database.ts";
import { postgresPlaceOf } from "./database-place.ts";
import { migrate, unknownMigrations } from "./migrations.ts";
import { postgresDatabaseOver } from "./postgres-database.ts";
import { createPostgresDialect } from "./postgres-dialect.ts";
import { postgresOpenFault } from "./postgres-open-fault.ts";
import { PostgresPool } from "./postgres-pool.ts";
import { postgresTypes } from "./postgres-types.ts";
import type { Schema } from "./schema.ts";

const MAX_CONNECTIONS = 10;
const CONNECT_TIMEOUT_MS = 5_000;
/** A connection that nothing was sent over for so long is probed, so that a firewall does not forget it. */
const KEEP_ALIVE_MS = 30_000;
/** One statement of a migration; an index over a hundred million rows takes its time. */
const MIGRATION_TIMEOUT_MS = 3_600_000;

/** Opens the database of a `postgres://` URL, which must be there, and makes its tables. Throws StorageOpenError. */
export async function openPostgres(
  url: string,
  { busyTimeoutMs, answerTimeoutMs }: { readonly busyTimeoutMs: number; readonly answerTimeoutMs: number },
): Promise<Database> {
  const parsed = parsePostgresUrl(url);
  if (parsed.kind === "faulty") throw new StorageOpenError(`DATABASE_URL ${parsed.fault}.`);
  const { address } = parsed;
  const config: PoolConfig = {
    ...connectionTo(address),
    max: MAX_CONNECTIONS,
    connectionTimeoutMillis: CONNECT_TIMEOUT_MS,
    keepAlive: true,
    keepAliveInitialDelayMillis: KEEP_ALIVE_MS,
    application_name: "brikk",
    statement_timeout: answerTimeoutMs,
    lock_timeout: busyTimeoutMs,
    // Ends a transaction whose owner fell silent, and its locks, before the owner gives it up (see postgres-database.ts).
    idle_in_transaction_session_timeout: answerTimeoutMs,
    types: postgresTypes,
  };
  const pool = new PostgresPool(config);
  try {
    const database = postgresDatabaseOver(pool, answerTimeoutMs);
    await checkServer(database, address);
    const unknown = await unknownMigrations(database.query, "postgres");
    if (unknown.length > 0) {
      throw new StorageOpenError(
        `The database ${postgresPlaceOf(address)} was written by a newer Brikk (it has ${unknown.join(", ")}). Start that version, or set DATABASE_URL to another database.`,
      );
    }
    await migrateWithPatience(config);
    return database;
  } catch (cause) {
    await pool.close();
    if (cause instanceof StorageOpenError) throw cause;
    throw new StorageOpenError(
      `The database ${postgresPlaceOf(address)} cannot be opened: ${postgresOpenFault(cause, address)}`,
      { cause },
    );
  }
}

/** A user or a password that the URL does not have comes from PGUSER, PGPASSWORD or ~/.pgpass, as with PostgreSQL's own tools. */
function connectionTo({ host, port, database, user, password, ...rest }: PostgresAddress): ClientConfig {
  return {
    host,
    port,
    database,
    ...(user !== undefined && { user }),
    ...(password !== undefined && { password }),
    ...(rest.options !== undefined && { options: rest.options }),
    enableChannelBinding: rest.channelBinding,
    ssl: rest.tls !== "none" && {
      rejectUnauthorized: rest.tls === "verified",
      ...(rest.rootCertificatePath !== undefined && { ca: rootCertificate(rest.rootCertificatePath) }),
    },
  };
}

function rootCertificate(path: string): string {
  try {
    return readFileSync(path, "utf8");
  } catch (cause) {
    throw new StorageOpenError(`The file ${path}, which sslrootcert in DATABASE_URL names, cannot be read.`, { cause });
  }
}

/** Settings of the server that would break what Brikk promises, though everything seemed to work. */
async function checkServer(database: Database, address: PostgresAddress): Promise<void> {
  const [row] = await database.all({
    sql: "select current_setting('synchronous_commit') as commits, current_setting('server_encoding') as encoding",
    params: [],
  });
  if (row?.["commits"] === "off") {
    throw new StorageOpenError(
      `The database ${postgresPlaceOf(address)} has synchronous_commit off and may forget what it acknowledged. ` +
        `Turn it on for this database: alter database "${address.database}" set synchronous_commit = on.`,
    );
  }
  if (row?.["encoding"] !== "UTF8") {
    throw new StorageOpenError(
      `The database ${postgresPlaceOf(address)} has the encoding ${String(row?.["encoding"])}, which does not hold every text. Make one with the encoding UTF8.`,
    );
  }
}

/** Over a connection of its own: the others are to answer soon, and a migration may take long. */
async function migrateWithPatience(config: PoolConfig): Promise<void> {
  const pool = new PostgresPool({ ...config, max: 1, statement_timeout: MIGRATION_TIMEOUT_MS });
  try {
    await migrate(new Kysely<Schema>({ dialect: createPostgresDialect(pool, MIGRATION_TIMEOUT_MS) }), "postgres");
  } finally {
    await pool.close();
  }
}
