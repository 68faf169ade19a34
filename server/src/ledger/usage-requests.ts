import type { Database } from "../storage/database.ts";
import { type EventRange, eventRange } from "./event-range.ts";
import { EVENT_COLUMNS, type EventPosition, positionOf, type UsageEventRow } from "./usage-event-row.ts";
import type { UsageScope } from "./usage-scope.ts";

export interface RequestsFilter {
  readonly outcome?: UsageEventRow["outcome"] | undefined;
  readonly provider?: string | undefined;
  readonly model?: string | undefined;
}

export interface RequestsPage {
  /** Newest first. With a filter there may be fewer than asked for, or none, before the end. */
  readonly events: readonly UsageEventRow[];
  /** Where the next page begins; undefined at the end. */
  readonly next: EventPosition | undefined;
}

/**
 * How many events a page with a filter looks at. A filter that fits little would otherwise read a million events for one page,
 * with the database's thread to itself all the while.
 */
const LOOK_AT = 2_000;

/**
 * One page of requests, newest first, at the same cost wherever it stands: it begins in the index at `before`. Events that come
 * in meanwhile are on pages already read, or not yet. Throws StorageUnavailable.
 */
export async function readUsageRequests(
  database: Database,
  page: {
    readonly scope: UsageScope;
    readonly fromMs: number;
    /** The first moment that is not read any more. */
    readonly toMs: number;
    /** Where the page before this one ended. */
    readonly before: EventPosition | undefined;
    readonly limit: number;
    readonly filter: RequestsFilter;
  },
): Promise<RequestsPage> {
  const { scope, before, toMs, fromMs, limit } = page;
  const upper = before !== undefined && before.occurredAtMs < toMs ? before : { occurredAtMs: toMs, eventId: "" };
  const asked = eventRange(scope, ">=", { occurredAtMs: fromMs, eventId: "" }, upper);
  const filters = (["outcome", "provider", "model"] as const).flatMap((column) => {
    const value = page.filter[column];
    return value === undefined ? [] : [{ column, value }];
  });
  const lastLookedAt = filters.length === 0 ? undefined : await eventAt(database, asked, LOOK_AT - 1);
  const range = lastLookedAt === undefined ? asked : eventRange(scope, ">=", lastLookedAt, upper);
  const conditions = [range.condition, ...filters.map(({ column }) => `${column} = ?`)];
  const rows = await database.all({
    sql: `select ${EVENT_COLUMNS.join(", ")} from usage_events where ${conditions.join(" and ")} ${range.newestFirst} limit ?`,
    params: [...range.params, ...filters.map(({ value }) => value), limit + 1],
  });
  const found = rows as unknown as UsageEventRow[];
  const events = found.slice(0, limit);
  return { events, next: found.length > limit ? positionOf(events.at(-1)!) : lastLookedAt };
}

/** The event that many further back; undefined when there are not so many. Read from the index alone. */
async function eventAt(database: Database, range: EventRange, offset: number): Promise<EventPosition | undefined> {
  const [row] = await database.all({
    sql: `select occurred_at_ms, event_id from usage_events where ${range.condition} ${range.newestFirst} limit 1 offset ?`,
    params: [...range.params, offset],
  });
  return row && positionOf(row as Pick<UsageEventRow, "occurred_at_ms" | "event_id">);
}
