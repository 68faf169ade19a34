import { uuidv7 } from "../../src/lib/ids.ts";
import { EVENT_COLUMNS, type UsageEventRow } from "../../src/ledger/usage-event-row.ts";
import type { Database, SqlValue } from "../../src/storage/database.ts";

/** Rows of the ledger, written as the ledger would have, for tests of those who read them. */
export const HOUR_MS = 3_600_000;
export const DAY_MS = 24 * HOUR_MS;
/** Monday, 23 November 2026, midnight (UTC). */
export const MONDAY_MS = Date.UTC(2026, 10, 23);

/** A usage event: all of it, but for what the test cares about, is of no account. */
export function eventRow(row: Partial<UsageEventRow> = {}): UsageEventRow {
  const occurredAtMs = row.occurred_at_ms ?? BigInt(MONDAY_MS);
  return {
    event_id: uuidv7(Number(occurredAtMs)),
    request_id: "req_test",
    key_id: "bk_test00000001",
    occurred_at_ms: occurredAtMs,
    finished_at_ms: occurredAtMs + 800n,
    operation: "chat",
    provider: "provider-a",
    model: "model-a",
    requested_model: "model-a",
    stream: 0n,
    simulated: 1n,
    outcome: "completed",
    status: 200n,
    error_code: null,
    fresh_input_tokens: 10n,
    cached_input_tokens: 3n,
    cache_write_tokens: 2n,
    audio_input_tokens: 1n,
    output_tokens: 20n,
    reasoning_tokens: 5n,
    audio_output_tokens: 4n,
    usage_source: "exact",
    cost_nano_usd: 1_000n,
    price_version: "test",
    latency_ms: 800n,
    time_to_first_token_ms: null,
    attempts: 1n,
    fallback: 0n,
    route_reason: null,
    trace_id: null,
    clamped_max_tokens: null,
    reserved_nano_usd: 2_000n,
    earlier_cost_nano_usd: 0n,
    rescue: null,
    ...row,
  };
}

export async function insertEvents(database: Database, rows: readonly UsageEventRow[]): Promise<void> {
  const sql = `insert into usage_events (${EVENT_COLUMNS.join(", ")}) values (${EVENT_COLUMNS.map(() => "?").join(", ")})`;
  await database.transact(rows.map((row) => ({ sql, params: EVENT_COLUMNS.map((column): SqlValue => row[column]) })));
}

/** Makes that many events by one statement, evenly from `fromMs` on, over keys, providers, models and outcomes. */
export async function seedEvents(
  database: Database,
  events: {
    readonly count: number;
    readonly fromMs: number;
    readonly stepMs: number;
    readonly keyIds: readonly string[];
  },
): Promise<void> {
  const { count, fromMs, stepMs, keyIds } = events;
  const keys = `case i % ${keyIds.length} ${keyIds.map((_, index) => `when ${index} then cast(? as text)`).join(" ")} end`;
  await database.transact([
    {
      sql: `with recursive n(i) as (select cast(0 as bigint) union all select i + 1 from n where i + 1 < ?)
        insert into usage_events (${EVENT_COLUMNS.join(", ")})
        select '00000000-0000-7000-8000-' || substr(cast(1000000000000 + i as text), 2), 'req_' || cast(i as text), ${keys},
          ? + i * ?, ? + i * ? + 500, 'chat',
          case when i % 10 = 9 then null when i % 3 = 0 then 'provider-b' else 'provider-a' end,
          case when i % 10 = 9 then null else 'model-' || cast(i % 4 as text) end, 'model-x', i % 2, 1,
          case when i % 10 = 9 then 'refused' when i % 50 in (6, 27) then 'cancelled' else 'completed' end, 200, null,
          i % 900, i % 7, i % 5, 0, i % 400, i % 20, 0, 'exact', i % 977 * 13, 'test', 500, null, 1, 0, null, null, null, i % 977 * 20, 0, null
        from n`,
      params: [count, ...keyIds, fromMs, stepMs, fromMs, stepMs],
    },
  ]);
}

/** The hourly roll-ups of all events there are, as far as the ledger has not made them itself. */
export async function rollUpEvents(database: Database): Promise<void> {
  await database.transact([
    {
      sql: `insert into usage_hourly (hour_start_ms, key_id, provider, model, outcome, simulated, requests, input_tokens, output_tokens, cost_nano_usd)
        select occurred_at_ms - occurred_at_ms % 3600000, key_id, coalesce(provider, ''), coalesce(model, ''), outcome, simulated, count(*),
          sum(fresh_input_tokens + cached_input_tokens + cache_write_tokens + audio_input_tokens), sum(output_tokens + audio_output_tokens), sum(cost_nano_usd)
        from usage_events group by 1, 2, 3, 4, 5, 6
        on conflict do nothing`,
      params: [],
    },
  ]);
}

/** A window of every key and day that has roll-ups, under a hard cap of a USD. */
export async function addDayWindows(database: Database): Promise<void> {
  await database.transact([
    {
      sql: `insert into budget_windows (budget_id, window_start_ms, window_end_ms, scope_id, window_kind, spent_nano_usd, leased_nano_usd,
          written_off_nano_usd, unleased_nano_usd, granted_cap_nano_usd, grant_nano_usd)
        select key_id || '/day', hour_start_ms - hour_start_ms % ${DAY_MS}, hour_start_ms - hour_start_ms % ${DAY_MS} + ${DAY_MS}, key_id, 'day',
          sum(cost_nano_usd), 0, 0, 0, 1000000000, 0
        from usage_hourly group by 1, 2, 3, 4`,
      params: [],
    },
  ]);
}
