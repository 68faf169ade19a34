import { shownUtcTime } from "../lib/utc-time.ts";
import type { Database, Row, SqlValue } from "../storage/database.ts";
import type { EntryKind } from "./audit-entry.ts";

/** One entry as it is shown to people. */
export interface ShownEntry {
  readonly sequence: number;
  /** UTC. */
  readonly at: string;
  readonly kind: EntryKind;
  readonly actor: string;
  readonly key_id: string | null;
  readonly action: string | null;
  readonly method: string | null;
  readonly route: string | null;
  readonly target: string | null;
  readonly status: number | null;
  readonly code: string | null;
  readonly ip: string | null;
  readonly request_id: string | null;
  readonly details: Readonly<Record<string, unknown>> | null;
  readonly hash: string;
}

/** Entries must fit all that is given. */
export interface EntryFilter {
  readonly kind?: EntryKind | undefined;
  readonly actor?: string | undefined;
  readonly keyId?: string | undefined;
  readonly ip?: string | undefined;
  readonly requestId?: string | undefined;
  readonly target?: string | undefined;
  readonly status?: number | undefined;
  readonly code?: string | undefined;
  /** What it begins with, as with `key.`. */
  readonly action?: string | undefined;
  /** What it begins with, as with `/admin`. */
  readonly route?: string | undefined;
}

/** A place in the list. */
export interface EntryPosition {
  readonly occurredAtMs: number;
  readonly sequence: number;
}

export interface EntriesPage {
  /** Newest first. With a filter there may be fewer than asked for, or none, before the end. */
  readonly entries: readonly ShownEntry[];
  /** Where the next page begins; undefined at the end. */
  readonly next: EntryPosition | undefined;
}

/**
 * How many entries a page looks at. A filter that fits little would otherwise read millions for one page, with SQLite's thread to
 * itself all the while.
 */
const LOOK_AT = 5_000;

interface Condition {
  readonly sql: string;
  readonly params: readonly SqlValue[];
}

const NEWEST_FIRST = "order by occurred_at_ms desc, sequence desc";

/**
 * One page, newest first, at the same cost wherever it stands: it begins in an index. Entries that come in meanwhile are on pages
 * already read, or not yet; one that waited in its instance's queue may come in behind the reader. Throws StorageUnavailable.
 */
export async function readEntries(
  database: Database,
  page: {
    readonly filter: EntryFilter;
    readonly fromMs: number;
    /** The first moment that is not read any more. */
    readonly toMs: number;
    /** Where the page before this one ended. */
    readonly before: EntryPosition | undefined;
    readonly limit: number;
  },
): Promise<EntriesPage> {
  const { filter, fromMs, toMs, before, limit } = page;
  const upper = before !== undefined && before.occurredAtMs < toMs ? before : { occurredAtMs: toMs, sequence: 0 };
  const range = [atOrAfter({ occurredAtMs: fromMs, sequence: 0 }), placesBefore(upper)];
  const { indexed, others } = conditionsOf(filter);
  const base = indexed === undefined ? range : [indexed, ...range];
  const last = others.length === 0 ? undefined : await entryAt(database, base, LOOK_AT - 1);
  const conditions = [...base, ...(last === undefined ? [] : [atOrAfter(last)]), ...others];
  const rows = await database.all({
    sql: `select * from audit_entries where ${textOf(conditions)} ${NEWEST_FIRST} limit ?`,
    params: [...paramsOf(conditions), limit + 1],
  });
  const found = rows.slice(0, limit);
  return { entries: found.map(shownEntry), next: rows.length > limit ? positionOf(found.at(-1)!) : last };
}

/** The entry that many further back; undefined when there are not so many. Read from the index alone. */
async function entryAt(
  database: Database,
  conditions: readonly Condition[],
  offset: number,
): Promise<EntryPosition | undefined> {
  const [row] = await database.all({
    sql: `select occurred_at_ms, sequence from audit_entries where ${textOf(conditions)} ${NEWEST_FIRST} limit 1 offset ?`,
    params: [...paramsOf(conditions), offset],
  });
  return row && positionOf(row);
}

const atOrAfter = ({ occurredAtMs, sequence }: EntryPosition): Condition => ({
  sql: "(occurred_at_ms, sequence) >= (?, ?)",
  params: [occurredAtMs, sequence],
});

const placesBefore = ({ occurredAtMs, sequence }: EntryPosition): Condition => ({
  sql: "(occurred_at_ms, sequence) < (?, ?)",
  params: [occurredAtMs, sequence],
});

/** At most one has an index of its own beside the time's; the others are looked at entry by entry. */
function conditionsOf(filter: EntryFilter): { readonly indexed: Condition | undefined; readonly others: Condition[] } {
  const { kind } = filter;
  const equal = (column: string, value: SqlValue | undefined): Condition[] =>
    value === undefined ? [] : [{ sql: `${column} = ?`, params: [value] }];
  const begins = (column: string, prefix: string | undefined): Condition[] =>
    prefix === undefined
      ? []
      : [{ sql: `substr(${column}, 1, length(cast(? as text))) = ?`, params: [prefix, prefix] }];
  const all = [
    ...equal("key_id", filter.keyId),
    // In the words of the index of all that are no requests, so that the database can tell that it will do.
    ...(kind === undefined || kind === "request"
      ? []
      : [{ sql: "kind = ? and kind <> 'request'", params: [kind] } satisfies Condition]),
    ...(filter.action === undefined ? [] : [{ sql: "action is not null", params: [] } satisfies Condition]),
  ];
  const [indexed, ...others] = all;
  return {
    indexed,
    others: [
      ...others,
      ...(kind === "request" ? equal("kind", kind) : []),
      ...equal("request_id", filter.requestId),
      ...equal("ip", filter.ip),
      ...equal("actor", filter.actor),
      ...equal("target", filter.target),
      ...equal("status", filter.status),
      ...equal("code", filter.code),
      ...begins("action", filter.action),
      ...begins("route", filter.route),
    ],
  };
}

const textOf = (conditions: readonly Condition[]): string => conditions.map(({ sql }) => sql).join(" and ");

const paramsOf = (conditions: readonly Condition[]): SqlValue[] => conditions.flatMap(({ params }) => params);

const positionOf = (row: Row): EntryPosition => ({
  occurredAtMs: Number(row["occurred_at_ms"]),
  sequence: Number(row["sequence"]),
});

function shownEntry(row: Row): ShownEntry {
  const { occurredAtMs, sequence } = positionOf(row);
  const text = (column: string): string | null => row[column] as string | null;
  return {
    sequence,
    at: shownUtcTime(occurredAtMs),
    kind: row["kind"] as EntryKind,
    actor: String(row["actor"]),
    key_id: text("key_id"),
    action: text("action"),
    method: text("method"),
    route: text("route"),
    target: text("target"),
    status: row["status"] === null ? null : Number(row["status"]),
    code: text("code"),
    ip: text("ip"),
    request_id: text("request_id"),
    details: detailsOf(text("details")),
    hash: String(row["hash"]),
  };
}

/** Somebody may have put something else there, and the list must still be read to find that. */
function detailsOf(text: string | null): ShownEntry["details"] {
  if (text === null) return null;
  try {
    return JSON.parse(text) as ShownEntry["details"];
  } catch {
    return { unreadable: text };
  }
}
