import type { Kysely } from "kysely";
import type { Schema } from "./schema.ts";

/** Integers go in as a whole number or a bigint and always come back as a bigint. */
export type SqlValue = string | number | bigint | null | Uint8Array;

/**
 * SQL with `?` placeholders, one per parameter, that both databases understand. PostgreSQL takes a placeholder's type from
 * where it stands; where that says nothing, as in a bare `select ?`, it is text unless it is cast: `cast(? as bigint)`.
 */
export interface Statement {
  readonly sql: string;
  readonly params: readonly SqlValue[];
}

export type Row = Record<string, SqlValue>;

export type DialectName = "sqlite" | "postgres";

/**
 * The one handle on storage. Everything that goes wrong arrives as one of the errors below; whoever sees StorageUnavailable
 * knows nothing about the outcome of a transaction that was under way, except that it is whole or absent.
 */
export interface Database {
  readonly dialect: DialectName;
  /** Builder for admin reads, migrations and cold writes. A transaction opened here holds up everything else in SQLite until it ends. */
  readonly query: Kysely<Schema>;
  /**
   * Runs the statements in order in one transaction and resolves with the rows of each. When it resolves they are on the disk;
   * when it rejects none of them took effect (or, after StorageUnavailable, possibly all of them). Never lands inside a
   * transaction of `query`.
   */
  transact(statements: readonly Statement[]): Promise<Row[][]>;
  /**
   * Runs statements that only read, in order, all on the one state that the database had at the first of them, and resolves
   * with the rows of each. No writer waits for it, except that this process' own SQLite connection does one thing at a time.
   * It may take minutes.
   */
  read(statements: readonly Statement[]): Promise<Row[][]>;
  /** Runs one statement and gives its rows. */
  all(statement: Statement): Promise<Row[]>;
  /** Lets what was asked before finish, then closes. Later calls reject with StorageUnavailable. Safe to call twice. */
  close(): Promise<void>;
}

/** The database cannot be used: gone, full, locked, too slow, read-only or broken. Trying again later may help. */
export class StorageUnavailable extends Error {
  override readonly name = "StorageUnavailable";
}

export type Constraint = "unique" | "foreign-key" | "not-null" | "check" | "type" | "other";

/** The database refused a row because a rule of the schema forbids it. */
export class ConstraintViolation extends Error {
  override readonly name = "ConstraintViolation";
  readonly constraint: Constraint;

  constructor(constraint: Constraint, message: string) {
    super(message);
    this.constraint = constraint;
  }
}

/** The statement itself is wrong (its text, or the number or kind of its parameters): a fault in Brikk. */
export class StatementRejected extends Error {
  override readonly name = "StatementRejected";
}

/** The database cannot be opened at all. The message names the place, what is wrong and what to do; fit for a person. */
export class StorageOpenError extends Error {
  override readonly name = "StorageOpenError";
}
