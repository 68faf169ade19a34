import { DatabaseError } from "pg";
import { type Constraint, ConstraintViolation, StatementRejected, StorageUnavailable } from "./database.ts";

/** What an error of the driver means. `spoilt`: the connection it came over is of no more use. */
export interface PostgresFailure {
  readonly error: Error;
  readonly spoilt: boolean;
}

/** postgresql.org/docs/current/errcodes-appendix.html */
const CONSTRAINTS: ReadonlyMap<string, Constraint> = new Map([
  ["23502", "not-null"],
  ["23503", "foreign-key"],
  ["23505", "unique"],
  ["23514", "check"],
]);

/** "Not now", over a connection that is in order: deadlock, lost race, lock not given, cancelled by a timeout. */
const PASSING = /^(40...|55P03|57014)$/;

/**
 * "Not now" or "not here": connection faults, no resources, shut down or starting, read-only, the user or the database gone,
 * rights taken, disk and file faults, a transaction ended for idling, a statement that a pooler or a new schema dropped.
 */
const GONE = /^(08...|53...|57P..|25006|28...|3D000|42501|58...|XX00[12]|25P03|26000)$/;

/** A prepared statement of before a migration; a new connection prepares it anew. */
const isStalePlan = ({ code, message }: DatabaseError): boolean =>
  code === "0A000" && message.startsWith("cached plan");

export function postgresFailureOf(cause: unknown): PostgresFailure {
  if (!(cause instanceof DatabaseError)) {
    // Everything of ours was checked before the driver saw it, so what it throws itself is about the connection.
    const message = cause instanceof Error ? cause.message || codeOf(cause) : String(cause);
    return { error: unavailable(message ?? "unknown fault", cause), spoilt: true };
  }
  const { code = "", message } = cause;
  if (PASSING.test(code)) return { error: unavailable(message, cause), spoilt: false };
  if (GONE.test(code) || isStalePlan(cause)) return { error: unavailable(message, cause), spoilt: true };
  if (code.startsWith("23"))
    return { error: new ConstraintViolation(CONSTRAINTS.get(code) ?? "other", message), spoilt: false };
  return { error: new StatementRejected(message, { cause }), spoilt: false };
}

/** The SQLSTATE or the system's code of what went wrong, however deep it lies. */
export function codeOf(error: unknown): string | undefined {
  for (let cause = error; cause instanceof Error; cause = cause.cause) {
    if ("code" in cause && typeof cause.code === "string") return cause.code;
  }
  return undefined;
}

const unavailable = (message: string, cause: unknown): StorageUnavailable =>
  new StorageUnavailable(`The database cannot be used: ${message.replace(/\.$/, "")}.`, { cause });
