import type { NanoUsd } from "../lib/money.ts";
import { type Database, type SqlValue, type Statement, StorageUnavailable } from "../storage/database.ts";
import type { LedgerRequest, Settlement } from "./ledger.ts";

/**
 * Writes usage events in grouped commits. While one transaction is on its way to the disk, the events that arrive wait and
 * go together in the next; each `write` resolves when its event is durable. The hourly roll-ups grow in the same
 * transaction, so that they always equal the events.
 *
 * An event is never dropped: when the database does not take it, the group is kept and tried again until it does. Event ids
 * make that safe: a group whose answer was lost does not count twice.
 */
export interface UsageWriter {
  write(event: UsageEvent): Promise<void>;
  /** False from a failed commit to the next good one. */
  readonly healthy: boolean;
  /** Resolves when nothing waits any more. */
  close(): Promise<void>;
}

export interface UsageEvent {
  readonly eventId: string;
  readonly request: LedgerRequest;
  readonly routeReason: string | null;
  readonly result: Settlement;
  readonly cost: NanoUsd;
  readonly finishedAtMs: number;
}

/** Most events in one transaction, so that none waits long behind the others. */
const MAX_GROUP = 500;
/** How long a group waits for company while events come together anyway; a lone event never waits. */
const GATHER_MS = 2;
const RETRY_MS = 250;
const HOUR_MS = 3_600_000;

interface Waiting {
  readonly event: UsageEvent;
  readonly resolve: () => void;
  readonly reject: (error: unknown) => void;
}

export function createUsageWriter(database: Database): UsageWriter {
  const waiting: Waiting[] = [];
  let running: Promise<void> | undefined;
  let healthy = true;

  const commit = async (group: readonly Waiting[]): Promise<void> => {
    const statements = statementsOf(group.map(({ event }) => event));
    for (;;) {
      try {
        await database.transact(statements);
        healthy = true;
        for (const { resolve } of group) resolve();
        return;
      } catch (error) {
        if (!(error instanceof StorageUnavailable)) {
          // The database refuses an event itself: a fault of ours, which must be seen and not repeated for ever. It takes no other with it.
          if (group.length === 1) group[0]!.reject(error);
          else for (const one of group) await commit([one]);
          return;
        }
        healthy = false;
        await new Promise((resolve) => setTimeout(resolve, RETRY_MS));
      }
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
    write: (event) =>
      new Promise((resolve, reject) => {
        waiting.push({ event, resolve, reject });
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

const COLUMNS = [
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
] as const;

/** Inserts nothing when the event is there already. */
const INSERT_EVENT = `insert into usage_events (${COLUMNS.join(", ")}) values (${COLUMNS.map(() => "?").join(", ")}) on conflict (event_id) do nothing`;

/**
 * A group is one unit: all its events are new or, when it is tried again after a lost answer, all are there. So its sums are
 * added only while its first event is not, before the events themselves.
 */
const ADD_TO_HOUR = `insert into usage_hourly (hour_start_ms, key_id, provider, model, outcome, simulated, requests, input_tokens, output_tokens, cost_nano_usd)
  select ?, ?, ?, ?, ?, ?, ?, ?, ?, ? where not exists (select 1 from usage_events where event_id = ?)
  on conflict (hour_start_ms, key_id, provider, model, outcome, simulated) do update set
    requests = usage_hourly.requests + excluded.requests,
    input_tokens = usage_hourly.input_tokens + excluded.input_tokens,
    output_tokens = usage_hourly.output_tokens + excluded.output_tokens,
    cost_nano_usd = usage_hourly.cost_nano_usd + excluded.cost_nano_usd`;

function statementsOf(events: readonly UsageEvent[]): Statement[] {
  const statements: Statement[] = [];
  const hours = new Map<string, { key: SqlValue[]; requests: number; input: number; output: number; cost: bigint }>();
  for (const { request, result, cost } of events) {
    const { usage } = result;
    const hour = request.occurredAtMs - (request.occurredAtMs % HOUR_MS);
    const key: SqlValue[] = [
      hour,
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
  for (const { key, requests, input, output, cost } of hours.values())
    statements.push({ sql: ADD_TO_HOUR, params: [...key, requests, input, output, cost, events[0]!.eventId] });
  for (const event of events) statements.push({ sql: INSERT_EVENT, params: columnsOf(event) });
  return statements;
}

function columnsOf({ eventId, request, routeReason, result, cost, finishedAtMs }: UsageEvent): SqlValue[] {
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
  ];
}
