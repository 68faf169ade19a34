import { relative } from "node:path";
import { isPostgresUrl, type PostgresAddress, parsePostgresUrl } from "../lib/postgres-address.ts";
import { databasePathOf } from "./database-path.ts";

/** Where the data lives, as people are told: without user and password. Throws StorageOpenError for what is no SQLite file. */
export function databasePlaceOf(url: string): string {
  if (isPostgresUrl(url)) {
    const parsed = parsePostgresUrl(url);
    return parsed.kind === "address" ? postgresPlaceOf(parsed.address) : "postgres";
  }
  const path = databasePathOf(url);
  return relative(process.cwd(), path) || path;
}

export function postgresPlaceOf({ host, port, database }: PostgresAddress): string {
  return `postgres ${host.includes(":") ? `[${host}]` : host}:${port}/${database}`;
}
