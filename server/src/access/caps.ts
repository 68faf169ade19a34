import { formatUsd, type NanoUsd } from "../lib/money.ts";

/** Where to warn and where to stop within one window. */
export interface Caps {
  readonly softCap?: NanoUsd;
  readonly hardCap?: NanoUsd;
}

/** The stretches of time that a budget may run over: UTC calendar, the week from Monday on. */
export const BUDGET_WINDOWS = ["day", "week", "month"] as const;
export type BudgetWindow = (typeof BUDGET_WINDOWS)[number];

/** The caps a key is to have. Its own two are the day's, and absent ones the settings' default; the others have none unless given. */
export interface KeyCaps extends Caps {
  readonly week?: Caps;
  readonly month?: Caps;
}

export type CapsChoice =
  | { readonly kind: "fitting"; readonly caps: KeyCaps }
  | { readonly kind: "contradictory"; readonly window: BudgetWindow; readonly reason: string };

/**
 * The caps that hold for a key. The day has the key's own, else the defaults; the week and the month have what was given. A
 * key with a hard cap of its own for the week or the month and none for the day is held to that one alone, so the defaults,
 * which would stop it sooner, do not apply. A default soft cap is never above the hard cap: less was meant by a lower one.
 */
export function effectiveCaps(caps: KeyCaps, defaults: Required<Caps>): Readonly<Record<BudgetWindow, Caps>> {
  const cappedElsewhere = caps.week?.hardCap !== undefined || caps.month?.hardCap !== undefined;
  const standIn: Caps = caps.hardCap === undefined && cappedElsewhere ? {} : defaults;
  const hardCap = caps.hardCap ?? standIn.hardCap;
  const softCap = caps.softCap ?? lowerOf(standIn.softCap, hardCap);
  return {
    day: { ...(softCap !== undefined && { softCap }), ...(hardCap !== undefined && { hardCap }) },
    week: caps.week ?? {},
    month: caps.month ?? {},
  };
}

const lowerOf = (softCap: NanoUsd | undefined, hardCap: NanoUsd | undefined): NanoUsd | undefined =>
  softCap !== undefined && hardCap !== undefined && hardCap < softCap ? hardCap : softCap;

/** Fits the caps asked for to the defaults. A soft cap over the hard cap that would hold is a contradiction: more is never given unasked. */
export function chooseCaps(asked: KeyCaps, defaults: Required<Caps>): CapsChoice {
  const effective = effectiveCaps(asked, defaults);
  for (const window of BUDGET_WINDOWS) {
    const { softCap, hardCap } = effective[window];
    if (softCap === undefined || hardCap === undefined || softCap <= hardCap) continue;
    const whose = window === "day" ? (asked.hardCap === undefined ? "default " : "") : `${window}'s `;
    return {
      kind: "contradictory",
      window,
      reason:
        `the ${window === "day" ? "" : `${window}'s `}soft cap of ${formatUsd(softCap)} USD is above the ${whose}hard cap of ` +
        `${formatUsd(hardCap)} USD; the soft cap warns before the hard cap stops, so it cannot be higher`,
    };
  }
  return { kind: "fitting", caps: asked };
}
