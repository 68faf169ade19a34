import { DAY_MS, HOUR_MS } from "../lib/clock.ts";
import { type NanoUsd, nanoUsd } from "../lib/money.ts";
import type { Database, Row } from "../storage/database.ts";
import { scopeCondition, type UsageScope } from "./usage-scope.ts";

export const TOTAL_GROUPINGS = ["key", "provider", "model", "day"] as const;
export type TotalGrouping = (typeof TOTAL_GROUPINGS)[number];

export interface UsageTotal {
  readonly cost: NanoUsd;
  readonly requests: number;
  readonly inputTokens: number;
  readonly outputTokens: number;
}

export interface GroupTotal extends UsageTotal {
  /** The key's id, the provider, the model, or the day's first millisecond in digits; empty where a request reached none. */
  readonly group: string;
  /** Of a key that is known here. */
  readonly keyName: string | undefined;
}

/** Where a page of groups ended: they go by cost, and where that is the same by name. */
export interface TotalPosition {
  readonly cost: NanoUsd;
  readonly group: string;
}

export interface UsageTotals {
  readonly total: UsageTotal;
  /** Dearest first. */
  readonly groups: readonly GroupTotal[];
  readonly next: TotalPosition | undefined;
}

/** Whole hours; `toMs` is the first moment after them. */
export interface TotalBounds {
  readonly fromMs: number;
  readonly toMs: number;
}

const USUAL_DAYS = 30;
const MOST_DAYS = 366;

export type TotalBoundsChoice =
  | { readonly kind: "fitting"; readonly bounds: TotalBounds }
  | { readonly kind: "refused"; readonly reason: string };

/** Widens what was asked for to the roll-ups' hours. Without an end it is now, without a beginning 30 days before the end. */
export function chooseTotalBounds(
  asked: { readonly fromMs: number | undefined; readonly toMs: number | undefined },
  nowMs: number,
): TotalBoundsChoice {
  const toMs = Math.ceil((asked.toMs ?? nowMs + 1) / HOUR_MS) * HOUR_MS;
  const fromMs = Math.floor((asked.fromMs ?? toMs - USUAL_DAYS * DAY_MS) / HOUR_MS) * HOUR_MS;
  if (fromMs >= toMs || (asked.fromMs !== undefined && asked.toMs !== undefined && asked.fromMs >= asked.toMs))
    return {
      kind: "refused",
      reason: "from must be before to, which is itself not counted, and before now without one",
    };
  if (toMs - fromMs > MOST_DAYS * DAY_MS)
    return { kind: "refused", reason: `at most ${MOST_DAYS} days are added up at once` };
  return { kind: "fitting", bounds: { fromMs, toMs } };
}

const GROUPS: Readonly<Record<TotalGrouping, string>> = {
  key: "key_id",
  provider: "provider",
  model: "model",
  day: `cast(hour_start_ms - hour_start_ms % ${DAY_MS} as text)`,
};

const SUMS = `cast(coalesce(sum(cost_nano_usd), 0) as bigint) as cost, cast(coalesce(sum(requests), 0) as bigint) as requests,
  cast(coalesce(sum(input_tokens), 0) as bigint) as input_tokens, cast(coalesce(sum(output_tokens), 0) as bigint) as output_tokens`;

/**
 * What was used in all, and one page of what it was used by, read from the hourly roll-ups on one state of the database.
 * Groups whose cost grows between two pages move up, so that a page may miss one or repeat it unless `toMs` has passed.
 * Throws StorageUnavailable.
 */
export async function readUsageTotals(
  database: Database,
  asked: TotalBounds & {
    readonly scope: UsageScope;
    readonly groupBy: TotalGrouping;
    readonly limit: number;
    /** Where the page before this one ended. */
    readonly after: TotalPosition | undefined;
  },
): Promise<UsageTotals> {
  const { fromMs, toMs, groupBy, limit, after } = asked;
  const scope = scopeCondition(asked.scope);
  const rows = `from usage_hourly where ${scope.sql} and hour_start_ms >= ? and hour_start_ms < ?`;
  const params = [...scope.params, fromMs, toMs];
  const [[total] = [], groups = []] = await database.read([
    { sql: `select ${SUMS} ${rows}`, params },
    {
      // Byte order, so that both databases agree with each other on what is behind a position.
      sql: `select t.*, k.name as key_name
        from (select ${GROUPS[groupBy]} as grouped, ${SUMS} ${rows} group by 1) t
        left join api_keys k on ${groupBy === "key" ? "k.id = t.grouped" : "false"}
        ${after === undefined ? "" : `where t.cost < ? or (t.cost = ? and t.grouped ${BYTES[database.dialect]} > ?)`}
        order by t.cost desc, t.grouped ${BYTES[database.dialect]} limit ?`,
      params: [...params, ...(after === undefined ? [] : [after.cost, after.cost, after.group]), limit + 1],
    },
  ]);
  const page = groups.slice(0, limit).map((row): GroupTotal => ({
    ...totalOf(row),
    group: String(row["grouped"]),
    keyName: row["key_name"] === null ? undefined : String(row["key_name"]),
  }));
  const last = page.at(-1);
  return {
    total: totalOf(total ?? {}),
    groups: page,
    next: groups.length > limit && last !== undefined ? { cost: last.cost, group: last.group } : undefined,
  };
}

const BYTES = { sqlite: "collate binary", postgres: 'collate "C"' } as const;

const totalOf = (row: Row): UsageTotal => ({
  cost: nanoUsd(BigInt((row["cost"] as bigint | null | undefined) ?? 0)),
  requests: Number(row["requests"] ?? 0),
  inputTokens: Number(row["input_tokens"] ?? 0),
  outputTokens: Number(row["output_tokens"] ?? 0),
});
