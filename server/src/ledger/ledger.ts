import type { ApiKey } from "../access/api-key.ts";
import { BrikkError } from "../errors.ts";
import type { Clock } from "../lib/clock.ts";
import { uuidv7 } from "../lib/ids.ts";
import { formatUsd, type NanoUsd, nanoUsd, usdNumber, ZERO_USD } from "../lib/money.ts";
import type { Database } from "../storage/database.ts";
import { costOf, worstCaseCost } from "./cost.ts";
import type { CatalogueModel } from "./model-catalogue.ts";
import type { Rates } from "./rates.ts";
import { NO_USAGE, type Usage } from "./usage.ts";
import { createUsageWriter, type UsageEvent, type UsageWriter } from "./usage-writer.ts";

/**
 * The one place where money lives. A request passes it twice:
 *
 * 1. `reserve` sets the worst case aside, against the key's day: spent + reserved <= hard cap in every state, or 402.
 * 2. `settle` turns the reservation into the actual cost: the usage event is committed first, then spent grows and the
 *    reservation is given back. Nothing is called done before `settle` has resolved.
 *
 * One process owns a SQLite ledger (see storage/instance-lock.ts), so memory may hold the day's sums; they are read from
 * the hourly roll-ups at the start. A process that dies takes its reservations with it.
 */
export interface Ledger {
  /** Throws hard_cap_exceeded, storage_unavailable. */
  reserve(request: ReservationRequest): Reservation;
  /** Writes down a request that was refused before it cost anything; resolves when durable. */
  recordRefusal(request: LedgerRequest, refusal: { status: number; errorCode: string }): Promise<void>;
  standing(key: ApiKey): Standing;
  /** False while the database does not take events; they wait in memory. */
  readonly writable: boolean;
  /** Resolves when every event handed in is committed. */
  close(): Promise<void>;
}

export interface LedgerRequest {
  readonly key: ApiKey;
  readonly requestId: string;
  readonly traceId: string;
  readonly operation: string;
  readonly requestedModel: string;
  readonly stream: boolean;
  readonly occurredAtMs: number;
}

export interface ReservationRequest extends LedgerRequest {
  readonly routeReason: string;
  /** Rates of every candidate; the dearest is reserved. */
  readonly candidates: readonly CatalogueModel[];
  readonly bound: {
    readonly inputTokens: number;
    readonly outputTokens: (model: CatalogueModel) => number;
    readonly choices: number;
  };
}

export interface Reservation {
  readonly worstCase: NanoUsd;
  /** Commits what became of the request. Call it once, always. */
  settle(result: Settlement): Promise<Receipt>;
}

export interface Settlement {
  readonly served: { readonly model: CatalogueModel; readonly simulated: boolean } | undefined;
  readonly usage: Usage;
  readonly usageSource: "exact" | "estimated" | "none";
  readonly outcome: Outcome;
  readonly status: number;
  readonly errorCode: string | undefined;
  readonly attempts: number;
  readonly fallback: boolean;
  readonly timeToFirstTokenMs: number | undefined;
}

export type Outcome = "completed" | "truncated" | "cancelled" | "failed" | "refused";

export interface Receipt {
  readonly cost: NanoUsd;
  readonly standing: Standing;
}

/** Where a key stands today (UTC). */
export interface Standing {
  readonly spent: NanoUsd;
  readonly reserved: NanoUsd;
  readonly softCap: NanoUsd;
  readonly hardCap: NanoUsd;
  readonly softCapExceeded: boolean;
  readonly hardCapExceeded: boolean;
  readonly resetsAtMs: number;
}

export const DAY_MS = 86_400_000;
const dayOf = (epochMs: number): number => epochMs - (epochMs % DAY_MS);

interface DayAccount {
  dayStartMs: number;
  spent: bigint;
  reserved: bigint;
}

export interface LedgerOptions {
  readonly database: Database;
  readonly clock: Clock;
  readonly defaultSoftCap: NanoUsd;
  readonly defaultHardCap: NanoUsd;
}

/** Opens the ledger with today's sums read from the roll-ups. Throws StorageUnavailable. */
export async function openLedger(options: LedgerOptions): Promise<Ledger> {
  const { database, clock } = options;
  const writer: UsageWriter = createUsageWriter(database);
  const accounts = new Map<string, DayAccount>();
  const today = dayOf(clock.now());
  const rows = await database.all({
    sql: "select key_id, sum(cost_nano_usd) as spent from usage_hourly where hour_start_ms >= ? group by key_id",
    params: [today],
  });
  for (const row of rows)
    accounts.set(String(row["key_id"]), { dayStartMs: today, spent: row["spent"] as bigint, reserved: 0n });

  const account = (keyId: string, now: number): DayAccount => {
    const dayStartMs = dayOf(now);
    let found = accounts.get(keyId);
    // What is in flight at midnight settles to the day it was reserved from, so a new day starts a new account.
    // A wall clock that is set back stays in the later day, or its budget would be given out twice.
    if (!found || found.dayStartMs < dayStartMs) accounts.set(keyId, (found = { dayStartMs, spent: 0n, reserved: 0n }));
    return found;
  };

  const describe = (key: ApiKey, from: DayAccount): Standing => {
    const softCap = key.softCap ?? options.defaultSoftCap;
    const hardCap = key.hardCap ?? options.defaultHardCap;
    return {
      spent: nanoUsd(from.spent),
      reserved: nanoUsd(from.reserved),
      softCap,
      hardCap,
      softCapExceeded: from.spent >= softCap,
      hardCapExceeded: from.spent >= hardCap,
      resetsAtMs: from.dayStartMs + DAY_MS,
    };
  };

  const eventOf = (
    request: LedgerRequest,
    routeReason: string | null,
    result: Settlement,
    cost: NanoUsd,
  ): UsageEvent => ({
    eventId: uuidv7(request.occurredAtMs),
    request,
    routeReason,
    result,
    cost,
    finishedAtMs: Math.max(request.occurredAtMs, clock.now()),
  });

  return {
    reserve(request) {
      if (!writer.healthy) {
        throw new BrikkError(
          "storage_unavailable",
          "The ledger cannot be written right now, so no cost may arise. It is tried again all the time; try again in a moment.",
          { retryAfterMs: 2_000 },
        );
      }
      const from = account(request.key.id, request.occurredAtMs);
      const worstCase = dearest(request);
      const { hardCap, spent, reserved, resetsAtMs } = describe(request.key, from);
      if (spent + reserved + worstCase > hardCap)
        throw capExceeded({ hardCap, spent, reserved, resetsAtMs }, worstCase);
      from.reserved += worstCase;
      return {
        worstCase,
        async settle(result) {
          const cost = result.served === undefined ? ZERO_USD : costOf(result.usage, result.served.model.rates);
          try {
            await writer.write(eventOf(request, request.routeReason, result, cost));
          } finally {
            // Spent is spent, also when the row was refused.
            from.reserved -= worstCase;
            from.spent += cost;
          }
          return { cost, standing: describe(request.key, account(request.key.id, clock.now())) };
        },
      };
    },
    recordRefusal: (request, { status, errorCode }) =>
      writer.write(eventOf(request, null, { ...REFUSED, status, errorCode }, ZERO_USD)),
    standing: (key) => describe(key, account(key.id, clock.now())),
    get writable() {
      return writer.healthy;
    },
    close: () => writer.close(),
  };
}

const REFUSED = {
  served: undefined,
  usage: NO_USAGE,
  usageSource: "none",
  outcome: "refused",
  attempts: 0,
  fallback: false,
  timeToFirstTokenMs: undefined,
} as const;

function dearest({ candidates, bound }: ReservationRequest): NanoUsd {
  let most: bigint = 0n;
  for (const model of candidates) {
    const cost = worstCaseCost(
      { inputTokens: bound.inputTokens, outputTokens: bound.outputTokens(model), choices: bound.choices },
      model.rates satisfies Rates,
    );
    if (cost > most) most = cost;
  }
  return nanoUsd(most);
}

function capExceeded(
  standing: Pick<Standing, "hardCap" | "spent" | "reserved" | "resetsAtMs">,
  needed: NanoUsd,
): BrikkError {
  const resetsAt = new Date(standing.resetsAtMs).toISOString();
  return new BrikkError(
    "hard_cap_exceeded",
    `This request may cost up to $${formatUsd(needed)}, which does not fit in this key's hard cap of $${formatUsd(standing.hardCap)} a day: ` +
      `$${formatUsd(standing.spent)} is spent and $${formatUsd(standing.reserved)} is set aside for requests in flight. The day's budget resets at ${resetsAt}.`,
    {
      details: {
        scope: "key",
        window: "day",
        limit_usd: usdNumber(standing.hardCap),
        spent_usd: usdNumber(standing.spent),
        reserved_usd: usdNumber(standing.reserved),
        needed_usd: usdNumber(needed),
        resets_at: resetsAt,
      },
    },
  );
}
