import { HOUR_MS } from "../lib/clock.ts";
import { type NanoUsd, nanoUsd } from "../lib/money.ts";
import type { Database, Row } from "../storage/database.ts";
import { EVENTS_FROM_SQL } from "./events-from.ts";

/**
 * Proves the ledger from its own rows, all read from one snapshot, so that a server may go on writing meanwhile:
 *
 * - window-spent: a budget window's `spent` is the cost of its scope's roll-ups within it plus what was written off;
 * - window-leases: its `leased` and `written_off` are the sums of its leases, and there is no lease without a window;
 * - window-cap: `spent + leased` is at most the cap under which was leased plus what no lease covered, which is part of `spent`;
 * - hour: every hourly roll-up is the sum of its events and every event is in one, from the mark `events_from_ms` on;
 * - lease-owner: who holds a lease is a known owner.
 *
 * The sums are made by the database; only faulty rows leave it.
 */
export interface LedgerVerification {
  readonly checked: {
    readonly windows: number;
    readonly leases: number;
    /** Hourly roll-ups. */
    readonly hours: number;
    readonly events: number;
    /** The cost of these events. */
    readonly cost: NanoUsd;
    /** What was counted as spent for owners that died, over all windows of days. */
    readonly writtenOff: NanoUsd;
    /** Older events were dropped, and the roll-ups before it stand for themselves; undefined when none were. */
    readonly eventsFromMs: number | undefined;
  };
  /** At most {@link FAULTS_SHOWN} of each rule. */
  readonly faults: readonly LedgerFault[];
  readonly faultCount: number;
}

export interface LedgerFault {
  readonly rule: LedgerRule;
  /** The faulty row's key: column and value. */
  readonly row: Readonly<Record<string, string | number>>;
  /** What is wrong with it, at least one. */
  readonly figures: readonly LedgerFigure[];
}

export type LedgerRule = "window-spent" | "window-leases" | "window-cap" | "hour" | "lease-owner";

export interface LedgerFigure {
  /** A column or a sum of columns; one that ends in `_nano_usd` is an amount. */
  readonly name: string;
  readonly found: bigint;
  readonly expected: bigint;
  /** The figure may also be less than expected. */
  readonly atMost: boolean;
}

const FAULTS_SHOWN = 20;

/** A rule's statement gives the keys of faulty rows, `found_*` and `expected_*` or `most_*` of each figure, and `faulty`, how many there are. */
interface Proof {
  readonly rule: LedgerRule;
  readonly key: readonly string[];
  readonly figures: readonly string[];
  readonly sql: string;
}

const BY_HOUR = "hour_start_ms, key_id, provider, model, outcome, simulated";

const PROOFS: readonly Proof[] = [
  {
    rule: "window-spent",
    key: ["budget_id", "window_start_ms"],
    figures: ["spent_nano_usd"],
    sql: `select w.budget_id, w.window_start_ms, w.spent_nano_usd as found_spent_nano_usd,
        cast(coalesce(sum(h.cost_nano_usd), 0) as bigint) + w.written_off_nano_usd as expected_spent_nano_usd, count(*) over () as faulty
      from budget_windows w left join usage_hourly h
        on h.key_id = w.scope_id and h.hour_start_ms >= w.window_start_ms and h.hour_start_ms < w.window_end_ms
      group by w.budget_id, w.window_start_ms, w.spent_nano_usd, w.written_off_nano_usd
      having w.spent_nano_usd <> coalesce(sum(h.cost_nano_usd), 0) + w.written_off_nano_usd`,
  },
  {
    rule: "window-leases",
    key: ["budget_id", "window_start_ms"],
    figures: ["leased_nano_usd", "written_off_nano_usd"],
    sql: `select budget_id, window_start_ms,
        cast(sum(window_leased) as bigint) as found_leased_nano_usd, cast(sum(lease_leased) as bigint) as expected_leased_nano_usd,
        cast(sum(window_off) as bigint) as found_written_off_nano_usd, cast(sum(lease_off) as bigint) as expected_written_off_nano_usd,
        count(*) over () as faulty
      from (select budget_id, window_start_ms, leased_nano_usd as window_leased, 0 as lease_leased, written_off_nano_usd as window_off, 0 as lease_off
          from budget_windows
        union all select budget_id, window_start_ms, 0, leased_nano_usd, 0, written_off_nano_usd from leases) both_sides
      group by budget_id, window_start_ms
      having sum(window_leased) <> sum(lease_leased) or sum(window_off) <> sum(lease_off)`,
  },
  {
    rule: "window-cap",
    key: ["budget_id", "window_start_ms"],
    figures: ["spent_and_leased_nano_usd", "unleased_nano_usd"],
    sql: `select budget_id, window_start_ms, spent_nano_usd + leased_nano_usd as found_spent_and_leased_nano_usd,
        coalesce(granted_cap_nano_usd + unleased_nano_usd, spent_nano_usd + leased_nano_usd) as most_spent_and_leased_nano_usd,
        unleased_nano_usd as found_unleased_nano_usd, spent_nano_usd as most_unleased_nano_usd, count(*) over () as faulty
      from budget_windows
      where spent_nano_usd + leased_nano_usd > granted_cap_nano_usd + unleased_nano_usd or unleased_nano_usd > spent_nano_usd`,
  },
  {
    rule: "hour",
    key: ["hour_start_ms", "key_id", "provider", "model", "outcome", "simulated"],
    figures: ["requests", "input_tokens", "output_tokens", "cost_nano_usd"],
    sql: `select ${BY_HOUR},
        cast(sum(rolled_requests) as bigint) as found_requests, cast(sum(requests) as bigint) as expected_requests,
        cast(sum(rolled_input) as bigint) as found_input_tokens, cast(sum(input) as bigint) as expected_input_tokens,
        cast(sum(rolled_output) as bigint) as found_output_tokens, cast(sum(output) as bigint) as expected_output_tokens,
        cast(sum(rolled_cost) as bigint) as found_cost_nano_usd, cast(sum(cost) as bigint) as expected_cost_nano_usd,
        count(*) over () as faulty
      from (select ${BY_HOUR}, requests as rolled_requests, 0 as requests, input_tokens as rolled_input, 0 as input,
            output_tokens as rolled_output, 0 as output, cost_nano_usd as rolled_cost, 0 as cost
          from usage_hourly where hour_start_ms >= ${EVENTS_FROM_SQL}
        union all select occurred_at_ms - occurred_at_ms % ${HOUR_MS}, key_id, coalesce(provider, ''), coalesce(model, ''), outcome, simulated,
            0, count(*), 0, sum(fresh_input_tokens + cached_input_tokens + cache_write_tokens + audio_input_tokens),
            0, sum(output_tokens + audio_output_tokens), 0, sum(cost_nano_usd)
          from usage_events where occurred_at_ms >= ${EVENTS_FROM_SQL} group by 1, 2, 3, 4, 5, 6) both_sides
      group by ${BY_HOUR}
      having sum(rolled_requests) <> sum(requests) or sum(rolled_input) <> sum(input)
        or sum(rolled_output) <> sum(output) or sum(rolled_cost) <> sum(cost)`,
  },
  {
    rule: "lease-owner",
    key: ["owner_id", "budget_id", "window_start_ms"],
    figures: ["leased_nano_usd"],
    sql: `select owner_id, budget_id, window_start_ms, leased_nano_usd as found_leased_nano_usd, cast(0 as bigint) as expected_leased_nano_usd,
        count(*) over () as faulty
      from leases l where leased_nano_usd > 0 and not exists (select 1 from lease_owners o where o.owner_id = l.owner_id)`,
  },
];

/** What was looked at; the cost is the roll-ups', which the rule of hours proves to be the events'. */
const CHECKED = `select
    (select count(*) from budget_windows) as windows,
    (select count(*) from leases) as leases,
    (select count(*) from usage_hourly where hour_start_ms >= ${EVENTS_FROM_SQL}) as hours,
    (select count(*) from usage_events where occurred_at_ms >= ${EVENTS_FROM_SQL}) as events,
    (select cast(coalesce(sum(cost_nano_usd), 0) as bigint) from usage_hourly where hour_start_ms >= ${EVENTS_FROM_SQL}) as cost,
    (select cast(coalesce(sum(written_off_nano_usd), 0) as bigint) from budget_windows where window_kind = 'day') as written_off,
    ${EVENTS_FROM_SQL} as events_from_ms`;

/** Throws StorageUnavailable. */
export async function verifyLedger(database: Database): Promise<LedgerVerification> {
  const [checkedRows = [], ...faultyRows] = await database.read([
    { sql: CHECKED, params: [] },
    ...PROOFS.map(({ sql, key }) => ({ sql: `${sql} order by ${key.join(", ")} limit ${FAULTS_SHOWN}`, params: [] })),
  ]);
  const checked = checkedRows[0]!;
  return {
    checked: {
      windows: Number(checked["windows"]),
      leases: Number(checked["leases"]),
      hours: Number(checked["hours"]),
      events: Number(checked["events"]),
      cost: nanoUsd(checked["cost"] as bigint),
      writtenOff: nanoUsd(checked["written_off"] as bigint),
      eventsFromMs: Number(checked["events_from_ms"]) || undefined,
    },
    faults: PROOFS.flatMap((proof, index) => (faultyRows[index] ?? []).map((row) => faultOf(proof, row))),
    faultCount: faultyRows.reduce((total, rows) => total + Number(rows[0]?.["faulty"] ?? 0), 0),
  };
}

function faultOf({ rule, key, figures }: Proof, row: Row): LedgerFault {
  return {
    rule,
    row: Object.fromEntries(
      key.map((column) => {
        const value = row[column];
        return [column, typeof value === "string" ? value : Number(value)];
      }),
    ),
    figures: figures.flatMap((name) => {
      const found = row[`found_${name}`] as bigint;
      const most = row[`most_${name}`];
      const expected = (most ?? row[`expected_${name}`]) as bigint;
      const atMost = most !== undefined;
      const right = atMost ? found <= expected : found === expected;
      return right ? [] : [{ name, found, expected, atMost }];
    }),
  };
}
