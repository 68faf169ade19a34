import type { Selectable } from "kysely";
import type { UsageEventsTable } from "../storage/schema.ts";

/** A usage event as storage gives it. */
export type UsageEventRow = Selectable<UsageEventsTable>;

/** Where an event stands in time; events of one millisecond are in the order of their ids. */
export interface EventPosition {
  readonly occurredAtMs: number;
  /** The empty id stands before every event of its millisecond. */
  readonly eventId: string;
}

/** Every column, by name: what is read does not change under a prepared statement when the table grows. */
export const EVENT_COLUMNS = [
  "event_id",
  "request_id",
  "key_id",
  "occurred_at_ms",
  "finished_at_ms",
  "operation",
  "provider",
  "model",
  "requested_model",
  "stream",
  "simulated",
  "outcome",
  "status",
  "error_code",
  "fresh_input_tokens",
  "cached_input_tokens",
  "cache_write_tokens",
  "audio_input_tokens",
  "output_tokens",
  "reasoning_tokens",
  "audio_output_tokens",
  "usage_source",
  "cost_nano_usd",
  "price_version",
  "latency_ms",
  "time_to_first_token_ms",
  "attempts",
  "fallback",
  "route_reason",
  "trace_id",
  "clamped_max_tokens",
  "reserved_nano_usd",
  "earlier_cost_nano_usd",
  "rescue",
] as const satisfies readonly (keyof UsageEventsTable)[];

export const positionOf = (row: Pick<UsageEventRow, "occurred_at_ms" | "event_id">): EventPosition => ({
  occurredAtMs: Number(row.occurred_at_ms),
  eventId: row.event_id,
});
