import type { Constraint, Row, SqlValue } from "./database.ts";

/**
 * What passes between the main thread and the thread that owns the SQLite connection. Requests are answered in the order they
 * were sent, one answer each. A transaction is one message there and one back: its SQL texts are sent once, however many
 * statements share them.
 */
export interface Call {
  /** Index into `texts`. */
  readonly text: number;
  readonly params: readonly SqlValue[];
}

export type Task =
  | { readonly kind: "open"; readonly path: string; readonly busyTimeoutMs: number }
  | { readonly kind: "transact"; readonly texts: readonly string[]; readonly calls: readonly Call[] }
  /** The same, on one state of the database and without writing. */
  | { readonly kind: "read"; readonly texts: readonly string[]; readonly calls: readonly Call[] }
  | { readonly kind: "run"; readonly sql: string; readonly params: readonly SqlValue[] }
  | { readonly kind: "begin" }
  | { readonly kind: "commit" }
  /** Does nothing when no transaction is open. */
  | { readonly kind: "rollback" }
  | { readonly kind: "close" };

export interface Request {
  readonly id: number;
  readonly task: Task;
}

export interface RunResult {
  readonly rows: Row[];
  readonly changes: bigint;
}

export type Failure =
  | { readonly kind: "unavailable"; readonly message: string; readonly sqliteCode: number | undefined }
  | { readonly kind: "constraint"; readonly message: string; readonly constraint: Constraint }
  | { readonly kind: "rejected"; readonly message: string };

export type Reply =
  /** `results` is empty when no statement of a transaction gave rows, as most transactions only write. */
  | { readonly id: number; readonly ok: true; readonly results: RunResult[] }
  | { readonly id: number; readonly ok: false; readonly failure: Failure };
