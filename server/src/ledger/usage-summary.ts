import type { BudgetWindow } from "../access/caps.ts";
import type { Clock } from "../lib/clock.ts";
import { type NanoUsd, nanoUsd } from "../lib/money.ts";
import type { Database } from "../storage/database.ts";
import { timeWindowAt } from "./budgets.ts";
import { scopeCondition, type UsageScope } from "./usage-scope.ts";

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

/** Three sums over the rows from a moment on, which is given once for each. */
const sumsSince = (window: string): string => `
    cast(sum(case when hour_start_ms >= ? then cost_nano_usd else 0 end) as bigint) as ${window}_cost,
    cast(sum(case when hour_start_ms >= ? then requests else 0 end) as bigint) as ${window}_requests,
    cast(sum(case when hour_start_ms >= ? then input_tokens + output_tokens else 0 end) as bigint) as ${window}_tokens`;

/** Read from the hourly roll-ups, so that it stays fast however many events there are. Throws StorageUnavailable. */
export async function readUsageSummary(database: Database, clock: Clock, scope: UsageScope): Promise<UsageSummary> {
  const now = clock.now();
  const [day, week, month] = [startOf("day", now), startOf("week", now), startOf("month", now)];
  const condition = scopeCondition(scope);
  const [row] = await database.all({
    sql: `select ${["day", "week", "month"].map(sumsSince).join(", ")} from usage_hourly where ${condition.sql} and hour_start_ms >= ?`,
    params: [day, day, day, week, week, week, month, month, month, ...condition.params, Math.min(week, month)],
  });
  const sum = (window: string): UsageSum => ({
    cost: nanoUsd(BigInt((row?.[`${window}_cost`] as bigint | null) ?? 0)),
    requests: Number(row?.[`${window}_requests`] ?? 0),
    tokens: Number(row?.[`${window}_tokens`] ?? 0),
  });
  return { today: sum("day"), thisWeek: sum("week"), thisMonth: sum("month") };
}

const startOf = (window: BudgetWindow, nowMs: number): number => timeWindowAt(window, nowMs).startMs;
