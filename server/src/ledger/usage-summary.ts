import type { Clock } from "../lib/clock.ts";
import { type NanoUsd, nanoUsd } from "../lib/money.ts";
import type { Database } from "../storage/database.ts";
import { DAY_MS } from "./budgets.ts";

/** What a key used in one window. */
export interface UsageSum {
  readonly cost: NanoUsd;
  readonly requests: number;
  readonly tokens: number;
}

/** UTC calendar; the week begins on Monday (ISO 8601). */
export interface UsageSummary {
  readonly today: UsageSum;
  readonly thisWeek: UsageSum;
  readonly thisMonth: UsageSum;
}

export interface UsageWindows {
  readonly dayStartMs: number;
  readonly weekStartMs: number;
  readonly monthStartMs: number;
}

export function windowsAt(nowMs: number): UsageWindows {
  const now = new Date(nowMs);
  const dayStartMs = Date.UTC(now.getUTCFullYear(), now.getUTCMonth(), now.getUTCDate());
  const daysSinceMonday = (now.getUTCDay() + 6) % 7;
  return {
    dayStartMs,
    weekStartMs: dayStartMs - daysSinceMonday * DAY_MS,
    monthStartMs: Date.UTC(now.getUTCFullYear(), now.getUTCMonth(), 1),
  };
}

const SUM_SINCE = `select
    sum(case when hour_start_ms >= ? then cost_nano_usd else 0 end) as day_cost, sum(case when hour_start_ms >= ? then requests else 0 end) as day_requests,
    sum(case when hour_start_ms >= ? then input_tokens + output_tokens else 0 end) as day_tokens,
    sum(case when hour_start_ms >= ? then cost_nano_usd else 0 end) as week_cost, sum(case when hour_start_ms >= ? then requests else 0 end) as week_requests,
    sum(case when hour_start_ms >= ? then input_tokens + output_tokens else 0 end) as week_tokens,
    sum(case when hour_start_ms >= ? then cost_nano_usd else 0 end) as month_cost, sum(case when hour_start_ms >= ? then requests else 0 end) as month_requests,
    sum(case when hour_start_ms >= ? then input_tokens + output_tokens else 0 end) as month_tokens
  from usage_hourly where key_id = ? and hour_start_ms >= ?`;

/** Read from the hourly roll-ups, so that it stays fast however many events there are. Throws StorageUnavailable. */
export async function readUsageSummary(database: Database, clock: Clock, keyId: string): Promise<UsageSummary> {
  const { dayStartMs: day, weekStartMs: week, monthStartMs: month } = windowsAt(clock.now());
  const [row] = await database.all({
    sql: SUM_SINCE,
    params: [day, day, day, week, week, week, month, month, month, keyId, Math.min(week, month)],
  });
  const sum = (window: string): UsageSum => ({
    cost: nanoUsd(BigInt((row?.[`${window}_cost`] as bigint | null) ?? 0)),
    requests: Number(row?.[`${window}_requests`] ?? 0),
    tokens: Number(row?.[`${window}_tokens`] ?? 0),
  });
  return { today: sum("day"), thisWeek: sum("week"), thisMonth: sum("month") };
}
