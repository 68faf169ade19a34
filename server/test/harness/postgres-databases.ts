import { createHash, randomBytes } from "node:crypto";
import { readdirSync, readFileSync } from "node:fs";
import { after } from "node:test";
import { Pool } from "pg";
import { openDatabase } from "../../src/storage/open-database.ts";
import { findPostgresPrograms } from "./postgres-binaries.ts";
import { launchPostgres } from "./postgres-server.ts";

/**
 * Databases of their own for tests, on one server for the whole run: `npm test` starts it and hands its address over in
 * BRIKK_TEST_POSTGRES; a test file that runs alone starts one, which ends with it. Someone whose platform has no PostgreSQL
 * among the dependencies may name a server of his own there, by a user that may make databases.
 */
const given = process.env["BRIKK_TEST_POSTGRES"];

/** Why tests on PostgreSQL cannot run, where nobody insists that they do. */
export const noPostgres: string | undefined =
  given === undefined && findPostgresPrograms() === undefined && process.env["BRIKK_NO_SKIP"] !== "1"
    ? `no PostgreSQL for ${process.platform}-${process.arch} among the dependencies; name a server in BRIKK_TEST_POSTGRES`
    : undefined;

export interface PostgresDatabase {
  readonly url: string;
  /** Says that it is of no more use. */
  readonly drop: () => void;
}

/** Dropped when the next one is made or the file ends: hooks of a test run in their order, and later ones may still close it. */
const dropped = new Set<string>();
after(dropAll);

/** A new database: with Brikk's tables, or with nothing in it. */
export async function createPostgresDatabase(kind: "migrated" | "empty" = "migrated"): Promise<PostgresDatabase> {
  const { serverUrl, pool } = await (server ??= connect());
  await dropAll();
  const name = `brikk_${randomBytes(8).toString("hex")}`;
  const template = kind === "empty" ? "template0" : await (migrated ??= ensureMigrated());
  await pool.query(`create database ${name} template ${template}`);
  return {
    url: urlOf(serverUrl, name),
    drop: () => void dropped.add(name),
  };
}

async function dropAll(): Promise<void> {
  for (const name of dropped) {
    dropped.delete(name);
    await (await server)?.pool.query(`drop database if exists ${name} with (force)`);
  }
}

let server: Promise<{ readonly serverUrl: string; readonly pool: Pool }> | undefined;
let migrated: Promise<string> | undefined;

async function connect(): Promise<{ serverUrl: string; pool: Pool }> {
  const serverUrl = given ?? (await launchPostgres()).url;
  const pool = new Pool({ connectionString: serverUrl, max: 2, allowExitOnIdle: true });
  // The server may be gone before this process is.
  pool.on("error", () => {});
  return { serverUrl, pool };
}

const MIGRATIONS = new URL("../../src/storage/migrations/", import.meta.url);

/** Made by whichever process comes first; copying it takes a fraction of the time that the migrations take. */
async function ensureMigrated(): Promise<string> {
  const { serverUrl, pool } = await (server ??= connect());
  // Named after what made it, for a server that outlives this version of the migrations.
  const hash = createHash("sha256");
  for (const file of readdirSync(MIGRATIONS).toSorted()) hash.update(readFileSync(new URL(file, MIGRATIONS)));
  const template = `brikk_migrated_${hash.digest("hex").slice(0, 16)}`;
  const client = await pool.connect();
  try {
    await client.query("select pg_advisory_lock(7201)");
    const { rowCount } = await client.query("select 1 from pg_database where datname = $1", [template]);
    if (rowCount === 0) {
      const unfinished = `${template}_unfinished`;
      await client.query(`drop database if exists ${unfinished} with (force)`);
      await client.query(`create database ${unfinished} template template0`);
      await (await openDatabase({ url: urlOf(serverUrl, unfinished) })).close();
      await client.query(`alter database ${unfinished} rename to ${template}`);
    }
    return template;
  } finally {
    await client.query("select pg_advisory_unlock(7201)");
    client.release();
  }
}

function urlOf(serverUrl: string, database: string): string {
  const url = new URL(serverUrl);
  url.pathname = database;
  return url.href;
}
