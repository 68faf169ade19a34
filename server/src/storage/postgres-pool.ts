import { Client, Pool, type PoolClient, type PoolConfig, type QueryResult } from "pg";
import { StorageUnavailable } from "./database.ts";
import { postgresFailureOf } from "./postgres-failure.ts";
import type { PostgresQuery } from "./postgres-statements.ts";

/**
 * A bounded number of connections, each in one caller's hands at a time. A connection that broke, or on which a transaction was
 * left open, is not given out again; the next caller gets a new one. Everything rejects with the errors of database.ts.
 */
export class PostgresPool {
  readonly #pool: Pool;
  #taken = 0;
  #closing: Promise<void> | undefined;
  #idle: (() => void) | undefined;

  constructor(config: PoolConfig) {
    this.#pool = new Pool({ ...config, pipeline: true, Client: AbandoningClient });
    // Without listeners a server that goes away would end this process. Whoever uses the connection next is told.
    this.#pool.on("error", () => {});
    this.#pool.on("connect", (client) => void client.on("error", () => {}));
  }

  /** Waits for a free connection, or makes one. Give it back with `release`. */
  async take(): Promise<PostgresSession> {
    if (this.#closing !== undefined) throw new StorageUnavailable("The database is closed.");
    this.#taken += 1;
    try {
      return new PostgresSession(await this.#pool.connect(), () => this.#giveBack());
    } catch (cause) {
      this.#giveBack();
      throw postgresFailureOf(cause).error;
    }
  }

  async use<T>(work: (session: PostgresSession) => Promise<T>): Promise<T> {
    const session = await this.take();
    try {
      return await work(session);
    } finally {
      session.release();
    }
  }

  /** Lets those who hold or wait for a connection finish, then closes all. Safe to call twice. */
  close(): Promise<void> {
    this.#closing ??= this.#drain().then(() => this.#pool.end());
    return this.#closing;
  }

  async #drain(): Promise<void> {
    if (this.#taken > 0) await new Promise<void>((resolve) => (this.#idle = resolve));
  }

  #giveBack(): void {
    this.#taken -= 1;
    if (this.#taken === 0) this.#idle?.();
  }
}

/** The driver's leaves its socket open when a server accepts it but the two do not come to terms. */
class AbandoningClient extends Client {
  override connect(): Promise<Client>;
  override connect(callback: (error: Error) => void): void;
  override connect(callback?: (error: Error) => void): Promise<Client> | void {
    if (callback === undefined) return super.connect();
    super.connect((error: Error | null) => {
      if (error !== null) this.connection.stream.destroy();
      callback(error as Error);
    });
  }
}

export class PostgresSession {
  readonly #client: PoolClient;
  readonly #onRelease: () => void;
  #spoilt = false;

  constructor(client: PoolClient, onRelease: () => void) {
    this.#client = client;
    this.#onRelease = onRelease;
  }

  /** Sends the query at once, also while others are under way; they are answered in order. */
  async run(query: PostgresQuery): Promise<QueryResult> {
    try {
      return await this.#client.query(query);
    } catch (cause) {
      const { error, spoilt } = postgresFailureOf(cause);
      this.#spoilt ||= spoilt;
      throw error;
    }
  }

  /** Puts what `send` sends into as few packets as it fits in. */
  together<T>(send: () => T): T {
    const { stream } = this.#client.connection;
    stream.cork();
    try {
      return send();
    } finally {
      stream.uncork();
    }
  }

  /** Cuts the connection when `work` is not through in time, which rejects all that waits on it. */
  async within<T>(timeoutMs: number, work: () => Promise<T>): Promise<T> {
    let late = false;
    const timer = setTimeout(() => {
      late = true;
      this.#spoilt = true;
      this.#client.connection.stream.destroy();
    }, timeoutMs);
    try {
      return await work();
    } catch (cause) {
      throw late
        ? new StorageUnavailable(`The database did not answer within ${timeoutMs / 1_000} s.`, { cause })
        : cause;
    } finally {
      clearTimeout(timer);
    }
  }

  release(): void {
    this.#client.release(this.#spoilt || this.#client.getTransactionStatus() !== "I");
    this.#onRelease();
  }
}
