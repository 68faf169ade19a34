import type { HedgeConfig, PolicyConfig } from "../config.ts";
import { type NanoUsd, ZERO_USD } from "../lib/money.ts";

/** A request that may ask a second candidate beside the first. */
export interface HedgePlan extends HedgeConfig {
  readonly spending: HedgeSpending;
}

/** What was spent under a policy since the start of the process, and what of it went to those who were too late. */
export class HedgeSpending {
  #total: bigint = ZERO_USD;
  #extra: bigint = ZERO_USD;
  /** What those may cost who are being asked and may turn out too late. */
  #aside: bigint = ZERO_USD;

  add(cost: NanoUsd): void {
    this.#total += cost;
  }

  addLost(cost: NanoUsd): void {
    this.#extra += cost;
  }

  /** Sets aside what may go to waste, until that is known; false when it is more than the share. */
  setAside(cost: NanoUsd, share: number): boolean {
    const extra = this.#extra + this.#aside + cost;
    if (extra * SHARE_SCALE > this.#total * BigInt(Math.round(share * Number(SHARE_SCALE)))) return false;
    this.#aside += cost;
    return true;
  }

  giveBack(cost: NanoUsd): void {
    this.#aside -= cost;
  }
}

/** Shares are told apart to a ten-thousandth. */
const SHARE_SCALE = 10_000n;

/** By policy name. */
export function createHedgePlans(): (policy: PolicyConfig | undefined) => HedgePlan | undefined {
  const spendings = new Map<string, HedgeSpending>();
  return (policy) => {
    if (!policy?.hedge) return undefined;
    let spending = spendings.get(policy.name);
    if (!spending) {
      spending = new HedgeSpending();
      spendings.set(policy.name, spending);
    }
    return { ...policy.hedge, spending };
  };
}
