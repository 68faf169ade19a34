import type { Database } from "../storage/database.ts";
import { eventRange } from "./event-range.ts";
import { EVENT_COLUMNS, type EventPosition, positionOf, type UsageEventRow } from "./usage-event-row.ts";
import type { UsageScope } from "./usage-scope.ts";

/** An event with its key's name; null where the key is not of this database. */
export type ExportedEvent = UsageEventRow & { readonly key_name: string | null };

/**
 * All usage events from `fromMs` to before `toMs`, oldest first, page by page, so that any number of them takes the memory of
 * one page and no statement holds the database for long. Throws StorageUnavailable.
 */
export async function* exportUsageEvents(
  database: Database,
  range: {
    readonly scope: UsageScope;
    readonly fromMs: number;
    readonly toMs: number;
    readonly pageSize?: number;
  },
): AsyncGenerator<readonly ExportedEvent[]> {
  const { scope, fromMs, toMs, pageSize = 1_000 } = range;
  // Every event has an id, so that the empty one is before the first of its millisecond.
  let after: EventPosition = { occurredAtMs: fromMs, eventId: "" };
  for (;;) {
    const { condition, params, oldestFirst } = eventRange(scope, ">", after, { occurredAtMs: toMs, eventId: "" });
    const rows = await database.all({
      sql: `select ${EVENT_COLUMNS.map((column) => `e.${column}`).join(", ")}, k.name as key_name
        from (select * from usage_events where ${condition} ${oldestFirst} limit ?) e
        left join api_keys k on k.id = e.key_id order by e.occurred_at_ms, e.event_id`,
      params: [...params, pageSize],
    });
    const page = rows as unknown as ExportedEvent[];
    if (page.length > 0) yield page;
    if (page.length < pageSize) return;
    after = positionOf(page.at(-1)!);
  }
}
