import type { BudgetWindow } from "../access/caps.ts";
import { BrikkError } from "../errors.ts";
import { formatUsd, type NanoUsd, nanoUsd, usdNumber } from "../lib/money.ts";
import type { BudgetAccount } from "./budget-account.ts";

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

/** From what this process knows of the account. */
export function standingOf(account: BudgetAccount): BudgetStanding {
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

/** The budget in which least is left: the one that refuses. */
export function tightestOf(
  budgets: readonly BudgetStanding[],
): BudgetStanding & { hardCap: NanoUsd; remaining: NanoUsd } {
  return budgets
    .flatMap((budget) => {
      const { hardCap, remaining } = budget;
      return hardCap === undefined || remaining === undefined ? [] : { ...budget, hardCap, remaining };
    })
    .reduce((a, b) => (b.remaining < a.remaining ? b : a));
}

/** One sentence for a person, the numbers for a program. */
export function capExceeded(budgets: readonly BudgetStanding[], needed: NanoUsd, keyId: string): BrikkError {
  const { window, hardCap, spent, reserved, resetsAtMs } = tightestOf(budgets);
  const resetsAt = new Date(resetsAtMs).toISOString();
  const inFlight = reserved > 0n ? ` and $${formatUsd(reserved)} is set aside for requests in flight` : "";
  return new BrikkError(
    "hard_cap_exceeded",
    `This request may cost $${formatUsd(needed)} even with the shortest answer, which does not fit in this key's hard cap of $${formatUsd(hardCap)} a ${window}: ` +
      `$${formatUsd(spent)} is spent${inFlight}. The ${window}'s budget resets at ${resetsAt}; until then, ask for less, or ask whoever runs this gateway to raise the cap.`,
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
