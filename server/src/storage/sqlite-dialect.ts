import {
  type CompiledQuery,
  type DatabaseConnection,
  type DatabaseIntrospector,
  type Dialect,
  type DialectAdapter,
  type Driver,
  type Kysely,
  type QueryCompiler,
  type QueryResult,
  SqliteAdapter,
  SqliteIntrospector,
  SqliteQueryCompiler,
} from "kysely";
import type { ConnectionGate } from "./connection-gate.ts";
import { type SqlValue, StatementRejected } from "./database.ts";
import type { SqliteThread } from "./sqlite-thread.ts";

/** Kysely over the worker thread. Transactions begin with the write lock, so that they never fail half-way for want of it. */
export class SqliteThreadDialect implements Dialect {
  readonly #thread: SqliteThread;
  readonly #gate: ConnectionGate;

  constructor(thread: SqliteThread, gate: ConnectionGate) {
    this.#thread = thread;
    this.#gate = gate;
  }

  createDriver(): Driver {
    return new ThreadDriver(this.#thread, this.#gate);
  }

  createQueryCompiler(): QueryCompiler {
    return new SqliteQueryCompiler();
  }

  createAdapter(): DialectAdapter {
    return new TransactionalAdapter();
  }

  createIntrospector(database: Kysely<unknown>): DatabaseIntrospector {
    return new SqliteIntrospector(database);
  }
}

/** SQLite's DDL is transactional; saying so makes the migrator run everything in one transaction. */
class TransactionalAdapter extends SqliteAdapter {
  override get supportsTransactionalDdl(): boolean {
    return true;
  }
}

class ThreadDriver implements Driver {
  readonly #thread: SqliteThread;
  readonly #gate: ConnectionGate;
  readonly #connection: DatabaseConnection;
  #inTransaction = false;

  constructor(thread: SqliteThread, gate: ConnectionGate) {
    this.#thread = thread;
    this.#gate = gate;
    this.#connection = new ThreadConnection(thread);
  }

  async init(): Promise<void> {}

  async acquireConnection(): Promise<DatabaseConnection> {
    this.#gate.hold();
    return this.#connection;
  }

  async beginTransaction(): Promise<void> {
    await this.#thread.post({ kind: "begin" });
    this.#inTransaction = true;
  }

  async commitTransaction(): Promise<void> {
    await this.#thread.post({ kind: "commit" });
    this.#inTransaction = false;
  }

  async rollbackTransaction(): Promise<void> {
    await this.#thread.post({ kind: "rollback" });
    this.#inTransaction = false;
  }

  async releaseConnection(): Promise<void> {
    try {
      // Left open only when its own rollback failed; nobody else's statements may land inside it.
      if (this.#inTransaction) await this.rollbackTransaction();
    } finally {
      this.#inTransaction = false;
      this.#gate.release();
    }
  }

  /** The thread is closed by the database that owns it. */
  async destroy(): Promise<void> {}
}

class ThreadConnection implements DatabaseConnection {
  readonly #thread: SqliteThread;

  constructor(thread: SqliteThread) {
    this.#thread = thread;
  }

  async executeQuery<R>(query: CompiledQuery): Promise<QueryResult<R>> {
    const [result] = await this.#thread.post({
      kind: "run",
      sql: query.sql,
      params: query.parameters as readonly SqlValue[],
    });
    if (result === undefined) return { rows: [] };
    return { rows: result.rows as R[], numAffectedRows: result.changes };
  }

  streamQuery<R>(): AsyncIterableIterator<QueryResult<R>> {
    throw new StatementRejected("Results are not streamed from SQLite; read them in pages.");
  }
}
