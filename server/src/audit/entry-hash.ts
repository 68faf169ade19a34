import { hash } from "node:crypto";
import type { SqlValue } from "../storage/database.ts";
import type { AuditEntry } from "./audit-entry.ts";
import { withoutSecrets } from "./without-secrets.ts";

/** A place in the chain: an entry's number and hash. `sequence` 0 is before the first one. */
export interface ChainPlace {
  readonly sequence: number;
  readonly hash: string;
}

export const BEFORE_FIRST: ChainPlace = { sequence: 0, hash: "0".repeat(64) };

/** Everything of an entry but its place, in the order in which it is hashed. */
export const CONTENT_COLUMNS = [
  "occurred_at_ms",
  "kind",
  "actor",
  "key_id",
  "action",
  "method",
  "route",
  "target",
  "status",
  "code",
  "ip",
  "request_id",
  "details",
] as const;

export type Content = readonly (string | number | null)[];

/** Of the form's second version this would be another text. */
const FORM = "brikk-audit-1";

/**
 * An entry's hash: SHA-256 of a JSON array of the form's name, the entry's number, its columns in their order as they stand in
 * the database, and the hash of the entry before it. JSON leaves no doubt where one ends and the next begins.
 */
export const entryHash = (sequence: number, content: Content, previousHash: string): string =>
  hash("sha256", JSON.stringify([FORM, sequence, ...content, previousHash]));

/** The content of a stored row. */
export const contentOfRow = (row: Readonly<Record<string, SqlValue>>): Content =>
  CONTENT_COLUMNS.map((column) => {
    const value = row[column];
    return typeof value === "bigint" ? Number(value) : (value as string | null);
  });

/** The content as it is going to stand in the database, so that what is hashed is what is read again. */
export const contentOf = (entry: AuditEntry): Content => [
  Math.floor(entry.occurredAtMs),
  entry.kind,
  entry.actor.kind,
  stored(entry.actor.keyId),
  stored(entry.action),
  stored(entry.method),
  stored(entry.route),
  stored(entry.target),
  entry.status ?? null,
  stored(entry.code),
  stored(entry.actor.ip),
  stored(entry.actor.requestId),
  entry.details === undefined ? null : storedText(withoutSecrets.inDetails(entry.details)),
];

const stored = (text: string | undefined): string | null =>
  text === undefined ? null : storedText(withoutSecrets.inText(text));

/** Half a character and U+0000 are not kept as they are by every database. */
const storedText = (text: string): string => text.toWellFormed().replaceAll("\0", "\u{fffd}");
