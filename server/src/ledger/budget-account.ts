import type { NewWindow } from "./budget-statements.ts";
import type { Budget, TimeWindow } from "./budgets.ts";

/** How long a slice is kept although nothing is reserved from it. */
const IDLE_MS = 2_000;

/**
 * One budget in one window as this process sees it: the slice it holds, what is reserved from the slice, and where the whole
 * budget stood when the database last said. Amounts are nano-USD.
 *
 * `slice` is what this process may still spend. It grows when a lease is granted and shrinks by the cost of every settled
 * request and by what is given back. Reservations are set aside inside it, so what can be reserved is `slice - reserved`.
 */
export class BudgetAccount {
  budget: Budget;
  readonly startMs: number;
  readonly endMs: number;
  /** Spent by everybody, as the database last said. */
  spent: bigint;
  /** Leased by everybody, this process included, as the database last said. */
  leased: bigint;
  slice = 0n;
  reserved = 0n;
  /** Claims that wait for a lease on it; who comes later must not overtake them. */
  awaited = 0;
  /** Settlements on their way: the database may have taken their cost from the lease already, `slice` has not. */
  settling = 0;
  /** The database has the window's row. */
  known: boolean;

  /**
   * The database may count more as leased here than `slice`: a transaction's outcome is not known, the slice was cut, or it
   * went back while a settlement was on its way.
   */
  unsure = false;
  /** The last lease brought less than was wanted: asking again at once would bring nothing. Until the next tick. */
  dry = false;

  /** The most that was reserved at once lately; halves with every tick. */
  #peak = 0n;
  /** Settled since the last tick, and the smoothed sum of a tick. */
  #spentSinceTick = 0n;
  #spending = 0n;
  /** The newest reservation: what the next one will probably need. */
  #latest = 0n;
  #usedAtMs = 0;

  constructor(budget: Budget, window: TimeWindow, standing?: { spent: bigint; leased: bigint }) {
    this.budget = budget;
    this.startMs = window.startMs;
    this.endMs = window.endMs;
    this.spent = standing?.spent ?? 0n;
    this.leased = standing?.leased ?? 0n;
    this.known = standing !== undefined;
  }

  /**
   * Caps may change while the window runs. What was leased under a higher cap is not reserved from any more. A request that
   * began before the change still comes with the old ones, which say nothing.
   */
  takeBudget(budget: Budget): void {
    if (budget.revision < this.budget.revision) return;
    const lowered =
      budget.hardCap !== undefined && (this.budget.hardCap === undefined || budget.hardCap < this.budget.hardCap);
    this.budget = budget;
    if (!lowered || this.slice <= this.reserved) return;
    this.slice = this.reserved;
    this.unsure = true;
  }

  /** A lease of so much was granted. One under a cap that was lowered meanwhile goes back. */
  takeLease(granted: bigint, hardCap: bigint): void {
    if (this.budget.hardCap !== undefined && this.budget.hardCap < hardCap) this.unsure = true;
    else this.slice += granted;
  }

  /** What may be reserved without asking the database. */
  get available(): bigint {
    return this.slice - this.reserved;
  }

  fits(amount: bigint): boolean {
    return this.budget.hardCap === undefined || this.slice - this.reserved >= amount;
  }

  hold(amount: bigint, nowMs: number): void {
    this.reserved += amount;
    this.#latest = amount;
    this.#usedAtMs = nowMs;
    if (this.reserved > this.#peak) this.#peak = this.reserved;
  }

  /** The cost is committed; the rest of the reservation is free again. */
  settle(amount: bigint, cost: bigint): void {
    this.reserved -= amount;
    // More than the slice can only be spent beyond a reservation; the database has counted that as spent without a lease.
    this.slice = cost > this.slice ? 0n : this.slice - cost;
    this.#spentSinceTick += cost;
  }

  /** Little is left for the next request; a lease should be taken before it comes. */
  get runsLow(): boolean {
    if (this.budget.hardCap === undefined || this.dry) return false;
    const { available } = this;
    return available < this.#latest / 2n || available < this.#spending / 4n;
  }

  /** How much more than what is needed at once a lease should bring: about a second of spending, and room for the usual reservations. */
  spareWanted(needed: bigint): bigint {
    const usual = this.#peak > this.reserved ? this.#peak - this.reserved : 0n;
    return max(this.#spending + usual, this.#latest, needed);
  }

  tick(): void {
    this.dry = false;
    this.#spending = (this.#spending + this.#spentSinceTick * 3n) / 4n;
    this.#spentSinceTick = 0n;
    this.#peak = max(this.reserved, this.#peak / 2n);
  }

  /** What of the slice should be kept; the rest is for others. Nothing but the reservations when idle or when the window is over. */
  worthKeeping(nowMs: number, wallNowMs: number): bigint {
    if (wallNowMs >= this.endMs || nowMs - this.#usedAtMs > IDLE_MS) return this.reserved;
    return max(this.reserved, this.#peak) + 2n * max(this.#spending, this.#latest);
  }

  /** Nothing of this process hangs on it any more, and nothing did lately. */
  get quiet(): boolean {
    return this.slice === 0n && this.reserved === 0n && !this.unsure && this.#peak === 0n && this.#spending === 0n;
  }
}

/** The account's row before anybody spent from it. */
export const newWindowOf = ({ budget, startMs, endMs }: BudgetAccount): NewWindow => ({
  budgetId: budget.id,
  scopeId: budget.scopeId,
  window: budget.window,
  startMs,
  endMs,
});

function max(first: bigint, ...others: readonly bigint[]): bigint {
  return others.reduce((most, amount) => (amount > most ? amount : most), first);
}
