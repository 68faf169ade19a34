import type { Constraint } from "./database.ts";
import type { Failure } from "./sqlite-protocol.ts";

/**
 * Primary result codes (sqlite.org/rescode.html) that say "not now" or "not this file" and nothing about the statement:
 * BUSY, LOCKED, NOMEM, READONLY, IOERR, CORRUPT, FULL, CANTOPEN, PROTOCOL, NOTADB.
 */
const UNAVAILABLE = new Set([5, 6, 7, 8, 10, 11, 13, 14, 15, 26]);
const SQLITE_CONSTRAINT = 19;

/** Extended codes: the kind of constraint stands in the second byte. */
const CONSTRAINTS: ReadonlyMap<number, Constraint> = new Map([
  [275, "check"],
  [787, "foreign-key"],
  [1299, "not-null"],
  [1555, "unique"],
  [2067, "unique"],
  [2579, "unique"],
  [3091, "type"],
]);

/** The primary SQLite result code that an error carries, if it came from SQLite. */
export function sqliteCode(error: unknown): number | undefined {
  const extended = extendedCode(error);
  return extended === undefined ? undefined : extended & 0xff;
}

function extendedCode(error: unknown): number | undefined {
  if (error instanceof Error && "errcode" in error && typeof error.errcode === "number") return error.errcode;
  return undefined;
}

/** An error of the worker thread in the form in which it crosses to the main thread. */
export function failureFrom(error: unknown): Failure {
  const message = error instanceof Error ? error.message : String(error);
  const code = sqliteCode(error);
  if (code !== undefined && UNAVAILABLE.has(code)) return { kind: "unavailable", message, sqliteCode: code };
  if (code === SQLITE_CONSTRAINT)
    return { kind: "constraint", message, constraint: CONSTRAINTS.get(extendedCode(error) ?? 0) ?? "other" };
  return { kind: "rejected", message };
}
