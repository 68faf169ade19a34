import { isPostgresUrl } from "../lib/postgres-address.ts";
import type { Database } from "./database.ts";
import { openPostgres } from "./open-postgres.ts";
import { openSqlite } from "./open-sqlite.ts";

/**
 * Opens the database that the URL names (`sqlite:PATH` or `postgres://...`) and brings it to the newest schema. Several
 * processes may do so at once. Throws StorageOpenError, whose message is fit for a person and holds no password.
 */
export async function openDatabase(options: {
  readonly url: string;
  /** How long a write waits for another process's; then it is StorageUnavailable. */
  readonly busyTimeoutMs?: number;
  /** How long a PostgreSQL server may take over a statement or a transaction; then it is StorageUnavailable. */
  readonly answerTimeoutMs?: number;
}): Promise<Database> {
  const { url, busyTimeoutMs = 5_000, answerTimeoutMs = 10_000 } = options;
  return isPostgresUrl(url) ? openPostgres(url, { busyTimeoutMs, answerTimeoutMs }) : openSqlite(url, busyTimeoutMs);
}
