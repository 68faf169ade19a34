import { DatabaseSync, type StatementSync } from "node:sqlite";
import { parentPort } from "node:worker_threads";
import { bindable, checkCount } from "./bindable.ts";
import { type SqlValue, StatementRejected } from "./database.ts";
import { countPlaceholders } from "./placeholders.ts";
import { failureFrom, sqliteCode } from "./sqlite-failure.ts";
import type { Call, Reply, Request, RunResult, Task } from "./sqlite-protocol.ts";

/**
 * The thread that owns the SQLite connection; the only place where SQL runs. Commits are durable: WAL with synchronous=FULL
 * means that the log is fsynced before a commit returns.
 */
const MAX_STATEMENTS = 256;
const SQLITE_BUSY = 5;
const SQLITE_READONLY = 8;

interface Prepared {
  readonly statement: StatementSync;
  readonly placeholders: number;
  readonly givesRows: boolean;
}

const port = parentPort;
if (port === null) throw new Error("sqlite-worker.ts runs as a worker thread only");

let database: DatabaseSync | undefined;
const prepared = new Map<string, Prepared>();

port.on("message", ({ id, task }: Request) => {
  let reply: Reply;
  try {
    reply = { id, ok: true, results: perform(task) };
  } catch (error) {
    reply = { id, ok: false, failure: failureFrom(error) };
  }
  port.postMessage(reply);
  if (task.kind === "close") port.close();
});

function perform(task: Task): RunResult[] {
  switch (task.kind) {
    case "open":
      open(task.path, task.busyTimeoutMs);
      return [];
    case "transact":
      return transact(task.texts, task.calls);
    case "read":
      return read(task.texts, task.calls);
    case "run":
      return [run(task.sql, task.params)];
    case "begin":
      connection().exec("begin immediate");
      return [];
    case "commit":
      connection().exec("commit");
      return [];
    case "rollback":
      rollBack();
      return [];
    case "close":
      prepared.clear();
      database?.close();
      database = undefined;
      return [];
    default:
      return task satisfies never;
  }
}

function connection(): DatabaseSync {
  if (database === undefined) throw new StatementRejected("The database is not open.");
  return database;
}

function open(path: string, busyTimeoutMs: number): void {
  const opened = new DatabaseSync(path, { timeout: busyTimeoutMs, enableForeignKeyConstraints: true });
  try {
    setJournalToWal(opened, busyTimeoutMs);
    opened.exec("pragma synchronous = full");
    // Writes nothing, but needs everything that a write needs.
    opened.exec("begin immediate");
    opened.exec("rollback");
  } catch (error) {
    opened.close();
    throw error;
  }
  database = opened;
}

/** Turning WAL on does not always wait for the busy timeout when several processes do it at once, so the wait is made here. */
function setJournalToWal(opened: DatabaseSync, busyTimeoutMs: number): void {
  const deadline = performance.now() + busyTimeoutMs;
  for (;;) {
    try {
      const mode = opened.prepare("pragma journal_mode = wal").get()?.["journal_mode"];
      if (mode === "wal") return;
      throw new StatementRejected(
        `The database stays in journal mode "${String(mode)}" where "wal" is needed; its file system may not allow shared memory.`,
      );
    } catch (error) {
      if (sqliteCode(error) !== SQLITE_BUSY || performance.now() > deadline) throw error;
      Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 10);
    }
  }
}

function transact(texts: readonly string[], calls: readonly Call[]): RunResult[] {
  connection().exec("begin immediate");
  try {
    const results = calls.map((call) => run(texts[call.text] ?? "", call.params));
    connection().exec("commit");
    return results.some(({ rows }) => rows.length > 0) ? results : [];
  } catch (error) {
    rollBack();
    throw error;
  }
}

/** A deferred transaction sees the state at its first read to its end, and keeps no writer waiting. */
function read(texts: readonly string[], calls: readonly Call[]): RunResult[] {
  connection().exec("pragma query_only = on");
  connection().exec("begin deferred");
  try {
    return calls.map((call) => run(texts[call.text] ?? "", call.params));
  } catch (error) {
    if (sqliteCode(error) !== SQLITE_READONLY) throw error;
    throw new StatementRejected("A statement that writes was given to be read.", { cause: error });
  } finally {
    rollBack();
    connection().exec("pragma query_only = off");
  }
}

/** SQLite ends a transaction by itself on some errors, such as a full disk. */
function rollBack(): void {
  if (connection().isTransaction) connection().exec("rollback");
}

function run(sql: string, params: readonly SqlValue[]): RunResult {
  const { statement, placeholders, givesRows } = prepare(sql);
  checkCount(placeholders, params, sql);
  const values = params.map((value, index) => bindable(value, index, sql));
  if (givesRows) {
    const rows = statement.all(...values) as RunResult["rows"];
    return { rows, changes: BigInt(rows.length) };
  }
  return { rows: [], changes: BigInt(statement.run(...values).changes) };
}

/** Least recently used first, so that a caller who makes up SQL cannot grow the cache. */
function prepare(sql: string): Prepared {
  const known = prepared.get(sql);
  if (known !== undefined) {
    prepared.delete(sql);
    prepared.set(sql, known);
    return known;
  }
  const placeholders = countPlaceholders(sql);
  if (placeholders === undefined) throw new StatementRejected(`Only plain ? placeholders are accepted: ${sql}`);
  const statement = connection().prepare(sql);
  statement.setReadBigInts(true);
  const fresh = { statement, placeholders, givesRows: statement.columns().length > 0 };
  if (prepared.size >= MAX_STATEMENTS) {
    const oldest = prepared.keys().next();
    if (!oldest.done) prepared.delete(oldest.value);
  }
  prepared.set(sql, fresh);
  return fresh;
}
