import type { AuditTrail } from "../audit/audit-trail.ts";
import type { Config } from "../config.ts";
import type { Clock } from "../lib/clock.ts";
import type { Database } from "../storage/database.ts";

/** What a command does once its arguments are understood and the database is open. */
export type Command = (parts: {
  readonly database: Database;
  readonly config: Config;
  readonly clock: Clock;
  /** Puts on record what a command changes. */
  readonly audit: AuditTrail;
  /** Writes a line to standard error at once, for who waits. */
  readonly tell: (line: string) => void;
  /** A secret that whoever types or pipes it in does not want on a command line, which every process of the machine can read. */
  readonly readSecret: (prompt: string) => Promise<string>;
}) => Promise<Printout>;

export interface Printout {
  /** For standard output; in pieces where it may be long, each made when the one before it is written. */
  readonly text: string | AsyncIterable<string>;
  /** A sentence for standard error, beside the text. */
  readonly note?: string;
  /** 1: the command was carried out, and what it found is not as it should be. */
  readonly exitCode?: 0 | 1;
}
