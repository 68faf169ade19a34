import { DAY_MS, HOUR_MS } from "../lib/clock.ts";
import { type NanoUsd, nanoUsd, ZERO_USD } from "../lib/money.ts";
import type { Database, Row } from "../storage/database.ts";
import { scopeCondition, type UsageScope } from "./usage-scope.ts";

export const INTERVALS = ["hour", "day"] as const;
export type Interval = (typeof INTERVALS)[number];

export const GROUPINGS = ["none", "provider", "model", "outcome"] as const;
export type Grouping = (typeof GROUPINGS)[number];

/** What was used in the interval that begins at `startMs` (UTC). */
export interface TimeseriesPoint {
  readonly startMs: number;
  /** The provider, model or outcome; null where a request reached none. Absent when not grouped. */
  readonly group?: string | null;
  readonly cost: NanoUsd;
  readonly requests: number;
  readonly inputTokens: number;
  readonly outputTokens: number;
}

/** Whole intervals; `toMs` is the first moment after them. */
export interface TimeseriesBounds {
  readonly fromMs: number;
  readonly toMs: number;
}

export type BoundsChoice =
  | { readonly kind: "fitting"; readonly bounds: TimeseriesBounds }
  | { readonly kind: "refused"; readonly param: "from" | "to"; readonly reason: string };

const LENGTH_MS: Readonly<Record<Interval, number>> = { hour: HOUR_MS, day: DAY_MS };
/** What is shown when nothing is asked for: a day of hours, a month of days. */
const USUAL: Readonly<Record<Interval, number>> = { hour: 24, day: 30 };
const MOST_DAYS: Readonly<Record<Interval, number>> = { hour: 31, day: 366 };

/** Widens what was asked for to whole intervals. Without an end the series ends with the interval that lasts now. */
export function chooseBounds(
  asked: { readonly fromMs: number | undefined; readonly toMs: number | undefined; readonly interval: Interval },
  nowMs: number,
): BoundsChoice {
  const { interval } = asked;
  const lengthMs = LENGTH_MS[interval];
  const toMs = Math.ceil((asked.toMs ?? nowMs + 1) / lengthMs) * lengthMs;
  const fromMs =
    asked.fromMs === undefined ? toMs - USUAL[interval] * lengthMs : Math.floor(asked.fromMs / lengthMs) * lengthMs;
  if (fromMs >= toMs || (asked.fromMs !== undefined && asked.toMs !== undefined && asked.fromMs >= asked.toMs)) {
    const end = asked.toMs === undefined ? "now, where the series ends without a to" : "to, which is itself not shown";
    return { kind: "refused", param: "from", reason: `from must be before ${end}` };
  }
  if (toMs - fromMs > MOST_DAYS[interval] * DAY_MS) {
    return {
      kind: "refused",
      param: asked.fromMs === undefined ? "to" : "from",
      reason: `by ${interval}, a series is at most ${MOST_DAYS[interval]} days long${interval === "hour" ? "; ask for less, or for interval=day" : ""}`,
    };
  }
  return { kind: "fitting", bounds: { fromMs, toMs } };
}

/**
 * What was used over time, oldest first, read from the hourly roll-ups. Ungrouped there is a point for every interval; grouped,
 * only for the pairs of interval and group that have requests. Throws StorageUnavailable.
 */
export async function readUsageTimeseries(
  database: Database,
  series: TimeseriesBounds & { readonly scope: UsageScope; readonly interval: Interval; readonly groupBy: Grouping },
): Promise<readonly TimeseriesPoint[]> {
  const { fromMs, toMs, interval, groupBy } = series;
  const scope = scopeCondition(series.scope);
  const columns = groupBy === "none" ? "1" : "1, 2";
  // Interval and grouping are of the lists above and nobody's text.
  const rows = await database.all({
    sql: `select hour_start_ms - hour_start_ms % ${LENGTH_MS[interval]} as start_ms${groupBy === "none" ? "" : `, ${groupBy} as grouped`},
        cast(sum(cost_nano_usd) as bigint) as cost, cast(sum(requests) as bigint) as requests,
        cast(sum(input_tokens) as bigint) as input_tokens, cast(sum(output_tokens) as bigint) as output_tokens
      from usage_hourly where ${scope.sql} and hour_start_ms >= ? and hour_start_ms < ? group by ${columns} order by ${columns}`,
    params: [...scope.params, fromMs, toMs],
  });
  const points = rows.map((row) => pointOf(row, groupBy));
  return groupBy === "none" ? withoutGaps(points, fromMs, toMs, LENGTH_MS[interval]) : points;
}

const pointOf = (row: Row, groupBy: Grouping): TimeseriesPoint => ({
  startMs: Number(row["start_ms"]),
  ...(groupBy !== "none" && { group: row["grouped"] === "" ? null : String(row["grouped"]) }),
  cost: nanoUsd(row["cost"] as bigint),
  requests: Number(row["requests"]),
  inputTokens: Number(row["input_tokens"]),
  outputTokens: Number(row["output_tokens"]),
});

function withoutGaps(
  points: readonly TimeseriesPoint[],
  fromMs: number,
  toMs: number,
  lengthMs: number,
): readonly TimeseriesPoint[] {
  const known = new Map(points.map((point) => [point.startMs, point]));
  return Array.from({ length: (toMs - fromMs) / lengthMs }, (_, index) => {
    const startMs = fromMs + index * lengthMs;
    return known.get(startMs) ?? { startMs, cost: ZERO_USD, requests: 0, inputTokens: 0, outputTokens: 0 };
  });
}
