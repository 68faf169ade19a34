import type { NanoUsd } from "../lib/money.ts";
import type { BudgetAlertsTable } from "../storage/schema.ts";

/** Where a budget window stands, over all instances. */
export interface WindowStanding {
  /** `<scope id>/<window>`, such as bk_.../day. */
  readonly budgetId: string;
  /** Whose budget it is: the key's id. */
  readonly scopeId: string;
  readonly window: "day" | "week" | "month";
  readonly windowStartMs: number;
  readonly windowEndMs: number;
  readonly spent: NanoUsd;
  readonly softCap: NanoUsd | undefined;
  readonly hardCap: NanoUsd | undefined;
  /** A request was refused because next to nothing is left: the cap is reached, though its last bit was not spent. */
  readonly refusing?: boolean;
}

export type AlertName = BudgetAlertsTable["alert"];

/** A threshold that a window passed, and how it stood then. */
export interface BudgetAlert extends WindowStanding {
  /** A UUIDv7. */
  readonly alertId: string;
  readonly alert: AlertName;
  readonly createdAtMs: number;
}

/** Every threshold, in the order of its bit in a set of them. */
const NAMES: readonly AlertName[] = ["soft_cap", "hard_cap_50", "hard_cap_80", "hard_cap_100"];
const SOFT_CAP = 0b0001;
const HARD_CAP_50 = 0b0010;
const HARD_CAP_80 = 0b0100;
const HARD_CAP_100 = 0b1000;

/** The share of the hard cap at which an alert is due; null for the soft cap. */
export const hardCapPercent: Readonly<Record<AlertName, 50 | 80 | 100 | null>> = {
  soft_cap: null,
  hard_cap_50: 50,
  hard_cap_80: 80,
  hard_cap_100: 100,
};

/**
 * The thresholds at or below what is spent, as a set of bits. Asked after every settlement, so it makes as few bigints as it can.
 * Nothing is passed by spending nothing: a cap of 0 shuts a key on purpose and is no news.
 */
export function passedThresholds({
  spent,
  softCap,
  hardCap,
  refusing = false,
}: Pick<WindowStanding, "spent" | "softCap" | "hardCap" | "refusing">): number {
  if (spent <= 0n) return 0;
  let passed = softCap !== undefined && spent >= softCap ? SOFT_CAP : 0;
  if (hardCap === undefined || spent * 2n < hardCap) return passed;
  passed |= HARD_CAP_50;
  if (spent * 5n >= hardCap * 4n) passed |= HARD_CAP_80;
  if (spent >= hardCap || refusing) passed |= HARD_CAP_100;
  return passed;
}

/** The names in a set of thresholds. */
export const namesOf = (thresholds: number): AlertName[] => NAMES.filter((_, bit) => (thresholds & (1 << bit)) !== 0);
