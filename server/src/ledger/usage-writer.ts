import { HOUR_MS } from "../lib/clock.ts";
import type { NanoUsd } from "../lib/money.ts";
import { reach } from "../lib/fault-point.ts";
import { inPieces } from "../lib/pieces.ts";
import {
  ConstraintViolation,
  type Database,
  type Row,
  type SqlValue,
  type Statement,
  StorageUnavailable,
} from "../storage/database.ts";
import { type BudgetAccount, newWindowOf } from "./budget-account.ts";
import type { BudgetStatements, WindowCost } from "./budget-statements.ts";
import type { LedgerRequest, Settlement } from "./ledger.ts";
import type { Held } from "./leases.ts";
import { EVENT_COLUMNS } from "./usage-event-row.ts";

/**
 * Writes usage events in grouped commits. While one transaction is on its way to the disk, the events that arrive wait and
 * go together in the next; each `write` resolves when its event is durable. The same transaction moves the events' cost from
 * this process' leases to the budgets' `spent` and lets the hourly roll-ups grow, so that both always equal the events.
 *
 * An event is never dropped: when the database does not take it, the group is kept and tried again until it does. The events
 * come first in their transaction, and their ids make that safe: a group is whole or absent, so if a later try finds one of
 * its events there, an earlier one had succeeded and only its answer was lost.
 */
export interface UsageWriter {
  /** The accounts are charged with the event's cost. */
  write(event: UsageEvent, accounts: readonly BudgetAccount[]): Promise<void>;
  /** False from a failed commit to the next good one. */
  readonly healthy: boolean;
  /** Resolves when nothing waits any more. */
  close(): Promise<void>;
}

export interface UsageEvent {
  readonly eventId: string;
  readonly request: LedgerRequest;
  readonly routeReason: string | null;
  readonly held: Held | undefined;
  readonly result: Settlement;
  readonly cost: NanoUsd;
  /** Of which for attempts before the one that the rest of the event is about. */
  readonly earlierCost: NanoUsd;
  readonly finishedAtMs: number;
}

export interface UsageWriterOptions {
  readonly database: Database;
  readonly statements: BudgetStatements;
  /** Whose leases are charged. */
  readonly ownerId: string;
  /** Rows of the budget windows that a commit changed. */
  readonly onCommitted?: (windows: readonly Row[]) => void;
  readonly onGroup?: (events: number) => void;
}

/** Most events in one transaction, so that none waits long behind the others. */
const MAX_GROUP = 500;
/** How long a group waits for company while events come together anyway; a lone event never waits. */
const GATHER_MS = 2;
const RETRY_MS = 250;

interface Waiting {
  readonly event: UsageEvent;
  readonly accounts: readonly BudgetAccount[];
  readonly resolve: () => void;
  readonly reject: (error: unknown) => void;
}

export function createUsageWriter(options: UsageWriterOptions): UsageWriter {
  const { database, statements } = options;
  const waiting: Waiting[] = [];
  let running: Promise<void> | undefined;
  let healthy = true;

  const statementsOf = (group: readonly Waiting[]): Statement[] => {
    const costs = new Map<BudgetAccount, bigint>();
    for (const { event, accounts } of group)
      if (event.cost > 0n) for (const account of accounts) costs.set(account, (costs.get(account) ?? 0n) + event.cost);
    const charges = Array.from(costs, ([account, cost]): WindowCost => ({
      budgetId: account.budget.id,
      startMs: account.startMs,
      cost,
    }));
    const fresh = [...costs.keys()].filter(({ known }) => !known);
    return [
      ...insertEvents(group.map(({ event }) => event)),
      ...(charges.length > 0 ? [statements.beat(options.ownerId)] : []),
      ...statements.addWindows(fresh.map(newWindowOf)),
      ...statements.lockWindows(charges),
      ...statements.settle(options.ownerId, charges),
      ...addToHours(group.map(({ event }) => event)),
    ];
  };

  const commit = async (group: readonly Waiting[]): Promise<void> => {
    const list = statementsOf(group);
    for (let tries = 1; ; tries++) {
      let rows: Row[][];
      try {
        reach("commit-wanted");
        rows = await database.transact(list);
        reach("committed");
      } catch (error) {
        if (tries > 1 && error instanceof ConstraintViolation && error.constraint === "unique") return done(group);
        if (!(error instanceof StorageUnavailable)) {
          healthy = true;
          // The database refuses an event itself: a fault of ours, which must be seen and not repeated for ever. It takes no other with it.
          if (group.length === 1) group[0]!.reject(error);
          else for (const one of group) await commit([one]);
          return;
        }
        healthy = false;
        await new Promise((resolve) => setTimeout(resolve, RETRY_MS));
        continue;
      }
      options.onCommitted?.(rows.flat());
      return done(group);
    }
  };

  const done = (group: readonly Waiting[]): void => {
    healthy = true;
    options.onGroup?.(group.length);
    for (const { event, accounts, resolve } of group) {
      // A window that nothing was charged to was not made.
      if (event.cost > 0n) for (const account of accounts) account.known = true;
      resolve();
    }
  };

  const drain = async (): Promise<void> => {
    let last = 0;
    while (waiting.length > 0) {
      if (last > 1 && waiting.length < MAX_GROUP) await new Promise((resolve) => setTimeout(resolve, GATHER_MS));
      const group = waiting.splice(0, MAX_GROUP);
      last = group.length;
      await commit(group);
    }
    running = undefined;
  };

  return {
    write: (event, accounts) =>
      new Promise((resolve, reject) => {
        waiting.push({ event, accounts, resolve, reject });
        // One turn of the event loop gathers what arrives together.
        running ??= new Promise<void>((start) => setImmediate(start)).then(drain);
      }),
    get healthy() {
      return healthy;
    },
    close: async () => {
      while (running) await running;
    },
  };
}

const EVENT_MARKS = `(${EVENT_COLUMNS.map(() => "?").join(", ")})`;

function insertEvents(events: readonly UsageEvent[]): Statement[] {
  return inPieces(events).map((piece) => ({
    sql: `insert into usage_events (${EVENT_COLUMNS.join(", ")}) values ${piece.map(() => EVENT_MARKS).join(", ")}`,
    params: piece.flatMap(columnsOf),
  }));
}

interface HourSums {
  readonly key: readonly SqlValue[];
  requests: number;
  input: number;
  output: number;
  cost: bigint;
}

/** The group's sums, in the order of their keys, so that two instances that add to the same hours never wait for each other. */
function addToHours(events: readonly UsageEvent[]): Statement[] {
  const hours = new Map<string, HourSums>();
  for (const { request, result, cost } of events) {
    const { usage } = result;
    const key: SqlValue[] = [
      request.occurredAtMs - (request.occurredAtMs % HOUR_MS),
      request.key.id,
      result.served?.model.provider ?? "",
      result.served?.model.id ?? "",
      result.outcome,
      result.served?.simulated ? 1 : 0,
    ];
    const name = key.join("\n");
    let sums = hours.get(name);
    if (!sums) hours.set(name, (sums = { key, requests: 0, input: 0, output: 0, cost: 0n }));
    sums.requests += 1;
    sums.input += usage.freshInputTokens + usage.cachedInputTokens + usage.cacheWriteTokens + usage.audioInputTokens;
    sums.output += usage.outputTokens + usage.audioOutputTokens;
    sums.cost += cost;
  }
  const sorted = [...hours].sort(([a], [b]) => (a < b ? -1 : 1)).map(([, sums]) => sums);
  return inPieces(sorted).map((piece) => ({
    sql: `insert into usage_hourly (hour_start_ms, key_id, provider, model, outcome, simulated, requests, input_tokens, output_tokens, cost_nano_usd)
      values ${piece.map(() => "(?, ?, ?, ?, ?, ?, ?, ?, ?, ?)").join(", ")}
      on conflict (hour_start_ms, key_id, provider, model, outcome, simulated) do update set
        requests = usage_hourly.requests + excluded.requests,
        input_tokens = usage_hourly.input_tokens + excluded.input_tokens,
        output_tokens = usage_hourly.output_tokens + excluded.output_tokens,
        cost_nano_usd = usage_hourly.cost_nano_usd + excluded.cost_nano_usd`,
    params: piece.flatMap(({ key, requests, input, output, cost }) => [...key, requests, input, output, cost]),
  }));
}

function columnsOf({
  eventId,
  request,
  routeReason,
  held,
  result,
  cost,
  earlierCost,
  finishedAtMs,
}: UsageEvent): SqlValue[] {
  const { usage, served } = result;
  return [
    eventId,
    request.requestId,
    request.key.id,
    request.occurredAtMs,
    finishedAtMs,
    request.operation,
    served?.model.provider ?? null,
    served?.model.id ?? null,
    request.requestedModel,
    request.stream ? 1 : 0,
    served?.simulated ? 1 : 0,
    result.outcome,
    result.status,
    result.errorCode ?? null,
    usage.freshInputTokens,
    usage.cachedInputTokens,
    usage.cacheWriteTokens,
    usage.audioInputTokens,
    usage.outputTokens,
    usage.reasoningTokens,
    usage.audioOutputTokens,
    result.usageSource,
    cost,
    served?.model.rates.version ?? null,
    finishedAtMs - request.occurredAtMs,
    result.timeToFirstTokenMs ?? null,
    result.attempts,
    result.fallback ? 1 : 0,
    routeReason,
    request.traceId,
    held?.maxOutputTokens ?? null,
    held?.amount ?? 0n,
    earlierCost,
    result.rescue ?? null,
  ];
}
