import type { ApiKey } from "../access/api-key.ts";
import { BUDGET_WINDOWS, type BudgetWindow, type Caps, effectiveCaps } from "../access/caps.ts";
import { DAY_MS } from "../lib/clock.ts";
import type { NanoUsd } from "../lib/money.ts";

/**
 * What may be spent in a window. A request is held to every budget of its key. Who owns a budget is a matter of its scope: a
 * budget that several keys share has one id and stands in the list of each of them.
 */
export interface Budget {
  /** `<scope id>/<window>`, such as bk_.../day. */
  readonly id: string;
  readonly scope: "key";
  readonly scopeId: string;
  readonly window: BudgetWindow;
  /** Grows with every change of the caps. */
  readonly revision: number;
  /** Undefined: nobody is warned. */
  readonly softCap: NanoUsd | undefined;
  /** Undefined: not capped, only counted. */
  readonly hardCap: NanoUsd | undefined;
}

/** Milliseconds since the epoch; the end is the first moment after it. */
export interface TimeWindow {
  readonly startMs: number;
  readonly endMs: number;
}

/**
 * The budgets of a key: always all three windows, capped or not, so that a cap that is set later finds what was spent. At
 * least one has a hard cap (see `effectiveCaps`).
 */
export function createBudgetList(defaults: Required<Caps>): (key: ApiKey) => readonly Budget[] {
  // A key is immutable: a change makes a new one, which then has a new list.
  const lists = new WeakMap<ApiKey, readonly Budget[]>();
  return (key) => {
    let list = lists.get(key);
    if (!list) lists.set(key, (list = listOf(key, defaults)));
    return list;
  };
}

function listOf(key: ApiKey, defaults: Required<Caps>): readonly Budget[] {
  const caps = effectiveCaps(key, defaults);
  return BUDGET_WINDOWS.map((window) => ({
    id: `${key.id}/${window}`,
    scope: "key",
    scopeId: key.id,
    window,
    revision: key.revision,
    softCap: caps[window].softCap,
    hardCap: caps[window].hardCap,
  }));
}

/** The window of a kind that a moment lies in. */
export function timeWindowAt(window: BudgetWindow, epochMs: number): TimeWindow {
  const dayStartMs = epochMs - (epochMs % DAY_MS);
  switch (window) {
    case "day":
      return { startMs: dayStartMs, endMs: dayStartMs + DAY_MS };
    case "week": {
      // The epoch began on a Thursday.
      const startMs = dayStartMs - ((dayStartMs / DAY_MS + 3) % 7) * DAY_MS;
      return { startMs, endMs: startMs + 7 * DAY_MS };
    }
    case "month": {
      const day = new Date(epochMs);
      const [year, month] = [day.getUTCFullYear(), day.getUTCMonth()];
      return { startMs: Date.UTC(year, month, 1), endMs: Date.UTC(year, month + 1, 1) };
    }
    default:
      return window satisfies never;
  }
}
