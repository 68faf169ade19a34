import type { ApiKey } from "../access/api-key.ts";
import type { BudgetWindow } from "../access/caps.ts";
import { BrikkError } from "../errors.ts";
import type { Clock } from "../lib/clock.ts";
import { reach } from "../lib/fault-point.ts";
import { uuidv7 } from "../lib/ids.ts";
import { formatUsd, type NanoUsd, nanoUsd, usdNumber, ZERO_USD } from "../lib/money.ts";
import { type Database, StorageUnavailable } from "../storage/database.ts";
import type { WindowStanding } from "./alert-thresholds.ts";
import type { BudgetAccount } from "./budget-account.ts";
import { createBudgetStatements } from "./budget-statements.ts";
import { createBudgetList } from "./budgets.ts";
import { costOf } from "./cost.ts";
import { type Held, openLeases, type WriteOff } from "./leases.ts";
import type { CatalogueModel } from "./model-catalogue.ts";
import { longestWithin, mostOf, type RequestBound, SHORTEST_ANSWER_TOKENS } from "./request-cost.ts";
import { NO_USAGE, type Usage } from "./usage.ts";
import { createUsageWriter, type UsageEvent } from "./usage-writer.ts";

/**
 * The one place where money lives. A request passes it twice:
 *
 * 1. `reserve` sets the worst case aside in every budget of the key, or in none: from the slices that this process leased
 *    (see leases.ts), at once where they suffice. What does not fit is first counted more exactly, then shortened, then refused.
 * 2. `settle` turns the reservation into the actual cost: the usage event is committed together with the budgets it is paid
 *    from, and what was set aside beyond it is free again. Nothing is called done before `settle` has resolved.
 *
 * In every state, whatever dies: spent + leased <= hard cap in the database, reserved <= leased in this process.
 */
export interface Ledger {
  /** A promise only when memory alone cannot say. Throws or rejects with hard_cap_exceeded, storage_unavailable. */
  reserve(request: ReservationRequest): Reservation | Promise<Reservation>;
  /** Writes down a request that was refused before it cost anything; resolves when durable. Rejects with storage_unavailable. */
  recordRefusal(request: LedgerRequest, refusal: { status: number; errorCode: string }): Promise<void>;
  /** Where a key stands, from memory: what other instances did since the last commit of this one is not in it. */
  standing(key: ApiKey): Standing;
  /** Where a key stands, asked of the database. Throws StorageUnavailable. */
  standingNow(key: ApiKey): Promise<Standing>;
  /** What would become of a request, asked of the database: nothing is set aside. Throws StorageUnavailable. */
  preview(
    request: Omit<ReservationRequest, keyof LedgerRequest | "routeReason"> & { readonly key: ApiKey },
  ): Promise<Preview>;
  /** False while the database does not take events; they wait in memory. */
  readonly writable: boolean;
  /** One round of upkeep of the leases; runs by itself once a second. */
  tick(): Promise<void>;
  /** Resolves when every event handed in is committed and what was leased is given back. */
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
  /** All who may serve; the dearest is reserved. */
  readonly candidates: readonly CatalogueModel[];
  readonly bound: RequestBound;
  /** A lower bound that is as certain, found with more work; the same where there is none. */
  readonly tighten: () => Promise<RequestBound>;
}

export interface Reservation {
  readonly worstCase: NanoUsd;
  /** Set when the rest of the budget pays for a shorter answer only. */
  readonly maxOutputTokens: number | undefined;
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

/** One budget in its current window (UTC). */
export interface BudgetStanding {
  readonly window: BudgetWindow;
  readonly spent: NanoUsd;
  /** Set aside for requests in flight, and leased by other instances. */
  readonly reserved: NanoUsd;
  readonly softCap: NanoUsd | undefined;
  readonly hardCap: NanoUsd | undefined;
  /** hard cap - spent - reserved, never below zero; undefined without a hard cap. */
  readonly remaining: NanoUsd | undefined;
  readonly softCapExceeded: boolean;
  readonly hardCapExceeded: boolean;
  readonly resetsAtMs: number;
}

/** Where a key stands: day, week and month, in that order. */
export interface Standing {
  readonly budgets: readonly BudgetStanding[];
}

export type Preview = { readonly budgets: readonly BudgetStanding[]; readonly worstCase: NanoUsd } & (
  | { readonly passes: true; readonly maxOutputTokens: number | undefined }
  | { readonly passes: false; readonly refusal: BrikkError }
);

export interface LedgerOptions {
  readonly database: Database;
  readonly clock: Clock;
  readonly defaultSoftCap: NanoUsd;
  readonly defaultHardCap: NanoUsd;
  /** Nobody else serves from this database. */
  readonly soleOwner: boolean;
  /** An instance that was not heard of for so long is given up, and what it had leased is written off. */
  readonly silentAfterMs?: number;
  /** Told after a commit where every budget that it changed stands. */
  readonly onCommitted?: (standing: WindowStanding) => void;
  /** A request cost more than was set aside for it. */
  readonly onOverrun?: (request: LedgerRequest, reserved: NanoUsd, cost: NanoUsd) => void;
  /** Told of every committed group of usage events. */
  readonly onGroup?: (events: number) => void;
  /** Told of every transaction that leased or gave back. */
  readonly onTransaction?: () => void;
  readonly onWrittenOff?: (writeOff: WriteOff) => void;
  readonly onUpkeepFailed?: (error: unknown) => void;
}

/** Opens the ledger with where the budgets stand. Throws StorageUnavailable. */
export async function openLedger(options: LedgerOptions): Promise<Ledger> {
  const { database, clock } = options;
  const statements = createBudgetStatements(database.dialect);
  const budgetsOf = createBudgetList({ softCap: options.defaultSoftCap, hardCap: options.defaultHardCap });
  const leases = await openLeases({ ...options, statements, budgetsOf });
  const writer = createUsageWriter({
    database,
    statements,
    ownerId: leases.ownerId,
    ...(options.onGroup && { onGroup: options.onGroup }),
    onCommitted: (rows) => {
      for (const { budget, startMs, endMs, spent } of leases.learn(rows)) {
        const { id, scopeId, window, softCap, hardCap } = budget;
        options.onCommitted?.({
          budgetId: id,
          scopeId,
          window,
          windowStartMs: startMs,
          windowEndMs: endMs,
          spent: nanoUsd(spent),
          softCap,
          hardCap,
        });
      }
    },
  });

  const standing = (key: ApiKey): Standing => ({ budgets: leases.accountsOf(key, clock.now()).map(describe) });

  const standingNow = async (key: ApiKey): Promise<Standing> => {
    const accounts = leases.accountsOf(key, clock.now());
    await leases.refresh(accounts);
    return { budgets: accounts.map(describe) };
  };

  const eventOf = (
    request: LedgerRequest,
    route: { readonly reason: string | null; readonly held?: Held },
    result: Settlement,
    cost: NanoUsd,
  ): UsageEvent => ({
    eventId: uuidv7(request.occurredAtMs),
    request,
    routeReason: route.reason,
    held: route.held,
    result,
    cost,
    finishedAtMs: Math.max(request.occurredAtMs, clock.now()),
  });

  const reservationOf = (request: ReservationRequest, accounts: readonly BudgetAccount[], held: Held): Reservation => ({
    worstCase: held.amount,
    maxOutputTokens: held.maxOutputTokens,
    async settle(result) {
      const { served, usage, usageSource } = result;
      // Who produced nothing charges no fee either.
      const cost = served === undefined || usageSource === "none" ? ZERO_USD : costOf(usage, served.model.rates);
      if (cost > held.amount) options.onOverrun?.(request, held.amount, cost);
      leases.beginSettling(accounts);
      try {
        await writer.write(eventOf(request, { reason: request.routeReason, held }, result, cost), accounts);
      } catch (error) {
        // Spent, but not on record: it stays set aside, and is written off with this process' leases.
        leases.settle(accounts, nanoUsd(cost < held.amount ? held.amount - cost : 0n), ZERO_USD);
        throw error;
      }
      leases.settle(accounts, held.amount, cost);
      reach("settled");
      return { cost, standing: standing(request.key) };
    },
  });

  /** When memory does not suffice: leases what is needed; then counts the input exactly; then shortens the answer; then refuses. */
  const reserveWithLease = async (
    request: ReservationRequest,
    accounts: readonly BudgetAccount[],
    full: NanoUsd,
  ): Promise<Reservation> => {
    const { candidates } = request;
    let bound: RequestBound;
    try {
      const whole = await leases.hold({ accounts, full, least: full, shrink: () => undefined });
      if (whole) return reservationOf(request, accounts, whole);
      bound = await request.tighten();
      const part = await leases.hold({
        accounts,
        full: mostOf(candidates, bound),
        least: mostOf(candidates, bound, SHORTEST_ANSWER_TOKENS),
        shrink: (available) => longestWithin(candidates, bound, available),
      });
      if (part) return reservationOf(request, accounts, part);
    } catch (error) {
      throw error instanceof StorageUnavailable ? storageUnavailable(error) : error;
    }
    throw capExceeded(accounts.map(describe), mostOf(candidates, bound, SHORTEST_ANSWER_TOKENS), request.key.id);
  };

  return {
    reserve(request) {
      if (!writer.healthy) throw storageUnavailable();
      const accounts = leases.accountsOf(request.key, request.occurredAtMs);
      const full = mostOf(request.candidates, request.bound);
      return leases.holdNow(accounts, full)
        ? reservationOf(request, accounts, { amount: full })
        : reserveWithLease(request, accounts, full);
    },

    async recordRefusal(request, { status, errorCode }) {
      // Waiting for the database would hold every refusal back, in memory, for as long as it is away.
      if (!writer.healthy) throw storageUnavailable();
      await writer.write(eventOf(request, { reason: null }, { ...REFUSED, status, errorCode }, ZERO_USD), []);
    },

    standing,
    standingNow,

    async preview({ key, candidates, bound, tighten }) {
      const { budgets } = await standingNow(key);
      const room = tightestOf(budgets).remaining;
      const worstCase = mostOf(candidates, bound);
      if (worstCase <= room) return { budgets, worstCase, passes: true, maxOutputTokens: undefined };
      const exact = await tighten();
      if (mostOf(candidates, exact) <= room) return { budgets, worstCase, passes: true, maxOutputTokens: undefined };
      const shorter = longestWithin(candidates, exact, room);
      if (shorter) return { budgets, worstCase, passes: true, maxOutputTokens: shorter.maxOutputTokens };
      const refusal = capExceeded(budgets, mostOf(candidates, exact, SHORTEST_ANSWER_TOKENS), key.id);
      return { budgets, worstCase, passes: false, refusal };
    },

    get writable() {
      return writer.healthy;
    },
    tick: () => leases.tick(),
    async close() {
      await writer.close();
      await leases.close();
    },
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

function describe(account: BudgetAccount): BudgetStanding {
  const { budget, spent, leased, slice, reserved, endMs } = account;
  const { softCap, hardCap, window } = budget;
  // What this process has leased and not reserved is there for the next request. The database may have counted a reservation as
  // spent already whose commit this process has not heard of; that is in `spent`, and in `reserved` for a moment more.
  const taken = leased - slice + reserved;
  const aside = taken > 0n ? taken : 0n;
  return {
    window,
    spent: nanoUsd(spent),
    reserved: nanoUsd(aside),
    softCap,
    hardCap,
    remaining: hardCap === undefined ? undefined : nanoUsd(hardCap > spent + aside ? hardCap - spent - aside : 0n),
    softCapExceeded: softCap !== undefined && spent >= softCap,
    hardCapExceeded: hardCap !== undefined && spent >= hardCap,
    resetsAtMs: endMs,
  };
}

const storageUnavailable = (cause?: unknown): BrikkError =>
  new BrikkError(
    "storage_unavailable",
    "The ledger cannot be written right now, so no cost may arise. It is tried again all the time; try again in a moment.",
    { retryAfterMs: 2_000, ...(cause !== undefined && { cause }) },
  );

/** The budget in which least is left: the one that refuses. */
function tightestOf(budgets: readonly BudgetStanding[]): BudgetStanding & { hardCap: NanoUsd; remaining: NanoUsd } {
  return budgets
    .flatMap((budget) => {
      const { hardCap, remaining } = budget;
      return hardCap === undefined || remaining === undefined ? [] : { ...budget, hardCap, remaining };
    })
    .reduce((a, b) => (b.remaining < a.remaining ? b : a));
}

/** One sentence for a person, the numbers for a program. */
function capExceeded(budgets: readonly BudgetStanding[], needed: NanoUsd, keyId: string): BrikkError {
  const { window, hardCap, spent, reserved, resetsAtMs } = tightestOf(budgets);
  const resetsAt = new Date(resetsAtMs).toISOString();
  const inFlight = reserved > 0n ? ` and $${formatUsd(reserved)} is set aside for requests in flight` : "";
  return new BrikkError(
    "hard_cap_exceeded",
    `This request may cost $${formatUsd(needed)} even with the shortest answer, which does not fit in this key's hard cap of $${formatUsd(hardCap)} a ${window}: ` +
      `$${formatUsd(spent)} is spent${inFlight}. The ${window}'s budget resets at ${resetsAt}.`,
    {
      details: {
        scope: "key",
        key_id: keyId,
        window,
        limit_usd: usdNumber(hardCap),
        spent_usd: usdNumber(spent),
        reserved_usd: usdNumber(reserved),
        needed_usd: usdNumber(needed),
        resets_at: resetsAt,
      },
    },
  );
}
