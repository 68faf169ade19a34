import type { ApiKey } from "../access/api-key.ts";
import { BrikkError } from "../errors.ts";
import type { Clock } from "../lib/clock.ts";
import { reach } from "../lib/fault-point.ts";
import { uuidv7 } from "../lib/ids.ts";
import { type NanoUsd, nanoUsd, ZERO_USD } from "../lib/money.ts";
import { type Database, StorageUnavailable } from "../storage/database.ts";
import type { WindowStanding } from "./alert-thresholds.ts";
import type { BudgetAccount } from "./budget-account.ts";
import { type BudgetStanding, capExceeded, type Standing, standingOf, tightestOf } from "./budget-standing.ts";
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
  /** Sets the worst case aside once more, for another attempt beside one that may be billed; false when it does not fit. */
  again(): Promise<boolean>;
  /** Commits what became of the request. Call it once, always. */
  settle(result: Settlement): Promise<Receipt>;
}

/** What one attempt used. */
export interface AttemptUsage {
  readonly model: CatalogueModel;
  readonly usage: Usage;
}

export interface Settlement {
  /** Attempts that failed before the one that `served` is about, and that their providers may bill all the same. */
  readonly earlier?: readonly AttemptUsage[];
  readonly served: { readonly model: CatalogueModel; readonly simulated: boolean } | undefined;
  readonly usage: Usage;
  readonly usageSource: "exact" | "estimated" | "none";
  readonly outcome: Outcome;
  readonly status: number;
  readonly errorCode: string | undefined;
  readonly attempts: number;
  readonly fallback: boolean;
  readonly timeToFirstTokenMs: number | undefined;
  /** How a stream that broke was taken up by another candidate. */
  readonly rescue?: "continue" | "restart" | undefined;
}

export type Outcome = "completed" | "truncated" | "cancelled" | "failed" | "refused";

export interface Receipt {
  readonly cost: NanoUsd;
  readonly standing: Standing;
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
  /** Told where a budget stands after a commit that changed it, and when it refuses because next to nothing is left. */
  readonly onStanding?: (standing: WindowStanding) => void;
  /** A request cost more than was set aside for it. */
  readonly onOverrun?: (request: LedgerRequest, reserved: NanoUsd, cost: NanoUsd) => void;
  /** Told of every committed group of usage events. */
  readonly onGroup?: (events: number) => void;
  /** Told of every transaction that leased or gave back. */
  readonly onTransaction?: () => void;
  readonly onWrittenOff?: (writeOff: WriteOff) => void;
  readonly onUpkeepFailed?: (error: unknown) => void;
}

/** How often a lease is asked for again because what came back meanwhile makes room; each time something has come back. */
const MOST_TRIES = 5;

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
      for (const account of leases.learn(rows)) tell(account, false);
    },
  });

  const tell = ({ budget, startMs, endMs, spent }: BudgetAccount, refusing: boolean): void => {
    const { id, scopeId, window, softCap, hardCap } = budget;
    options.onStanding?.({
      budgetId: id,
      scopeId,
      window,
      windowStartMs: startMs,
      windowEndMs: endMs,
      spent: nanoUsd(spent),
      softCap,
      hardCap,
      refusing,
    });
  };

  const standing = (key: ApiKey): Standing => ({ budgets: leases.accountsOf(key, clock.now()).map(standingOf) });

  const standingNow = async (key: ApiKey): Promise<Standing> => {
    const accounts = leases.accountsOf(key, clock.now());
    await leases.refresh(accounts);
    return { budgets: accounts.map(standingOf) };
  };

  const eventOf = (
    request: LedgerRequest,
    route: { readonly reason: string | null; readonly held?: Held },
    result: Settlement,
    cost: NanoUsd,
    earlierCost: NanoUsd = ZERO_USD,
  ): UsageEvent => ({
    eventId: uuidv7(request.occurredAtMs),
    request,
    routeReason: route.reason,
    held: route.held,
    result,
    cost,
    earlierCost,
    finishedAtMs: Math.max(request.occurredAtMs, clock.now()),
  });

  const reservationOf = (request: ReservationRequest, accounts: readonly BudgetAccount[], held: Held): Reservation => {
    let aside: bigint = held.amount;
    return {
      worstCase: held.amount,
      maxOutputTokens: held.maxOutputTokens,
      async again() {
        const { amount } = held;
        try {
          if (!leases.holdNow(accounts, amount)) {
            const more = await leases.hold({ accounts, full: amount, least: amount, shrink: () => undefined });
            if (!more) return false;
          }
        } catch (error) {
          if (error instanceof StorageUnavailable) return false;
          throw error;
        }
        aside += amount;
        return true;
      },
      async settle(result) {
        const { served, usage, usageSource } = result;
        const earlierCost = (result.earlier ?? []).reduce(
          (sum, attempt) => sum + costOf(attempt.usage, attempt.model.rates),
          0n,
        );
        // Who produced nothing charges no fee either.
        const lastCost = served === undefined || usageSource === "none" ? ZERO_USD : costOf(usage, served.model.rates);
        const cost = nanoUsd(earlierCost + lastCost);
        if (cost > aside) options.onOverrun?.(request, nanoUsd(aside), cost);
        leases.beginSettling(accounts);
        try {
          const event = eventOf(request, { reason: request.routeReason, held }, result, cost, nanoUsd(earlierCost));
          await writer.write(event, accounts);
        } catch (error) {
          // Spent, but not on record: it stays set aside, and is written off with this process' leases.
          leases.settle(accounts, nanoUsd(cost < aside ? aside - cost : 0n), ZERO_USD);
          throw error;
        }
        leases.settle(accounts, nanoUsd(aside), cost);
        reach("settled");
        return { cost, standing: standing(request.key) };
      },
    };
  };

  /** When memory does not suffice: leases what is needed; then counts the input exactly; then shortens the answer; then refuses. */
  const reserveWithLease = async (
    request: ReservationRequest,
    accounts: readonly BudgetAccount[],
    full: NanoUsd,
  ): Promise<Reservation> => {
    const { candidates } = request;
    let bound: RequestBound;
    let least: NanoUsd;
    // As it was decided on. A moment later others may have given back what this request needed.
    let budgets: readonly BudgetStanding[] = [];
    try {
      const whole = await leases.hold({ accounts, full, least: full, shrink: () => undefined });
      if (whole) return reservationOf(request, accounts, whole);
      bound = await request.tighten();
      least = mostOf(candidates, bound, SHORTEST_ANSWER_TOKENS);
      for (let tries = 0; tries < MOST_TRIES; tries += 1) {
        const part = await leases.hold({
          accounts,
          full: mostOf(candidates, bound),
          least,
          shrink: (available) => {
            budgets = accounts.map(standingOf);
            return longestWithin(candidates, bound, available);
          },
        });
        if (part) return reservationOf(request, accounts, part);
        // The lease was asked for without what came back meanwhile; with that it may suffice.
        if (tightestOf(budgets).remaining < least) break;
      }
    } catch (error) {
      throw error instanceof StorageUnavailable ? storageUnavailable(error) : error;
    }
    for (const account of accounts) if (exhausts(account)) tell(account, true);
    throw capExceeded(budgets, least, request.key.id);
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
      return writer.healthy && leases.reachable;
    },
    tick: () => leases.tick(),
    async close() {
      await writer.close();
      await leases.close();
    },
  };
}

/** A budget that refuses with so little left is used up: what is left pays for no useful answer any more. */
const exhausts = ({ budget: { hardCap }, spent }: BudgetAccount): boolean =>
  hardCap !== undefined && spent > 0n && spent * 100n >= hardCap * 95n;

const REFUSED = {
  served: undefined,
  usage: NO_USAGE,
  usageSource: "none",
  outcome: "refused",
  attempts: 0,
  fallback: false,
  timeToFirstTokenMs: undefined,
} as const;

const storageUnavailable = (cause?: unknown): BrikkError =>
  new BrikkError(
    "storage_unavailable",
    "The ledger cannot be written right now, so no cost may arise. It is tried again all the time; try again in a moment.",
    { retryAfterMs: 2_000, ...(cause !== undefined && { cause }) },
  );
