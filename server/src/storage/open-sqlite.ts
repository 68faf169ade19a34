import { Kysely } from "kysely";
import { ConnectionGate } from "./connection-gate.ts";
import { type Database, type Row, type Statement, StorageOpenError, StorageUnavailable } from "./database.ts";
import { databasePathOf, prepareDatabaseFile } from "./database-path.ts";
import { migrate, unknownMigrations } from "./migrations.ts";
import type { Schema } from "./schema.ts";
import { SqliteThreadDialect } from "./sqlite-dialect.ts";
import type { Call } from "./sqlite-protocol.ts";
import { SqliteThread, startSqliteWorker } from "./sqlite-thread.ts";

/** Opens the file that `sqlite:PATH` names, making it and its folder when they are missing. Throws StorageOpenError. */
export async function openSqlite(url: string, busyTimeoutMs: number): Promise<Database> {
  const path = databasePathOf(url);
  prepareDatabaseFile(path);
  const thread = new SqliteThread(startSqliteWorker());
  try {
    await thread.post({ kind: "open", path, busyTimeoutMs });
    const database = databaseOver(thread);
    const unknown = await unknownMigrations(database.query, "sqlite");
    if (unknown.length > 0) {
      throw new StorageOpenError(
        `The database ${path} was written by a newer Brikk (it has ${unknown.join(", ")}). Start that version, or set DATABASE_URL to another file.`,
      );
    }
    await migrate(database.query, "sqlite");
    return database;
  } catch (cause) {
    await thread.close();
    if (cause instanceof StorageOpenError) throw cause;
    throw new StorageOpenError(`The database ${path} cannot be opened: ${openFault(cause)}`, { cause });
  }
}

/** A Database over a thread whose connection is open. */
export function databaseOver(thread: SqliteThread): Database {
  const gate = new ConnectionGate();
  const query = new Kysely<Schema>({ dialect: new SqliteThreadDialect(thread, gate) });
  let closing: Promise<void> | undefined;
  const runTogether = async (kind: "transact" | "read", statements: readonly Statement[]): Promise<Row[][]> => {
    if (statements.length === 0) return [];
    const { texts, calls } = sharingTexts(statements);
    const results = await gate.pass(() => thread.post({ kind, texts, calls }));
    return statements.map((_, index) => results[index]?.rows ?? []);
  };
  return {
    dialect: "sqlite",
    query,
    transact: (statements) => runTogether("transact", statements),
    read: (statements) => runTogether("read", statements),
    async all(statement: Statement): Promise<Row[]> {
      const results = await gate.pass(() => thread.post({ kind: "run", sql: statement.sql, params: statement.params }));
      return results[0]?.rows ?? [];
    },
    close(): Promise<void> {
      closing ??= gate.pass(() => thread.close());
      return closing;
    },
  };
}

function sharingTexts(statements: readonly Statement[]): { texts: string[]; calls: Call[] } {
  const indexes = new Map<string, number>();
  const calls = statements.map(({ sql, params }) => {
    const text = indexes.get(sql) ?? indexes.size;
    indexes.set(sql, text);
    return { text, params };
  });
  return { texts: [...indexes.keys()], calls };
}

/** What is wrong and what to do, for the causes that a person can do something about (sqlite.org/rescode.html). */
function openFault(cause: unknown): string {
  const failure =
    cause instanceof StorageUnavailable
      ? (cause.cause as { sqliteCode?: number; message?: string } | undefined)
      : undefined;
  switch (failure?.sqliteCode) {
    case 26:
    case 11:
      return "the file is not a SQLite database, or it is damaged. Restore it from a backup, or move it away to start with an empty one.";
    case 5:
    case 6:
      return "another process holds it locked. Stop that process, then start again.";
    case 8:
      return "it can only be read. Give this user the right to write it and its folder.";
    case 13:
      return "the disk is full. Free some space, then start again.";
    default:
      return `${failure?.message ?? (cause instanceof Error ? cause.message : String(cause))}. Check the file and its folder, or set DATABASE_URL to another place.`;
  }
}
