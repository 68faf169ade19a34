import type { SqlValue } from "../storage/database.ts";
import type { EventPosition } from "./usage-event-row.ts";
import type { UsageScope } from "./usage-scope.ts";

/** A stretch of a scope's events in the order of time, as SQL. */
export interface EventRange {
  readonly condition: string;
  readonly params: readonly SqlValue[];
  readonly oldestFirst: string;
  readonly newestFirst: string;
}

/**
 * The events from `lower` on, or only those after it, up to before `upper`. The key is a part of both bounds and of the order
 * rather than a condition of its own, so that its index alone can answer: PostgreSQL otherwise takes a key's events for evenly
 * spread and walks through those of all keys, which takes for ever for one that has been silent.
 */
export function eventRange(
  scope: UsageScope,
  from: ">=" | ">",
  lower: EventPosition,
  upper: EventPosition,
): EventRange {
  const key = scope === "all-keys" ? [] : [scope.keyId];
  const columns = [...key.map(() => "key_id"), "occurred_at_ms", "event_id"];
  const [names, marks] = [columns.join(", "), columns.map(() => "?").join(", ")];
  return {
    condition: `(${names}) ${from} (${marks}) and (${names}) < (${marks})`,
    params: [lower, upper].flatMap(({ occurredAtMs, eventId }) => [...key, occurredAtMs, eventId]),
    oldestFirst: `order by ${names}`,
    newestFirst: `order by ${columns.map((column) => `${column} desc`).join(", ")}`,
  };
}
