import { formatUsd, type NanoUsd } from "../lib/money.ts";

/** The caps a key is to have; absent: the setting's default. */
export interface Caps {
  readonly softCap?: NanoUsd;
  readonly hardCap?: NanoUsd;
}

export type CapsChoice =
  | { readonly kind: "fitting"; readonly caps: Caps }
  | { readonly kind: "contradictory"; readonly reason: string };

/**
 * Fits the caps asked for to the defaults. A hard cap under the default soft cap brings the soft cap down with it, because
 * less was meant; a soft cap over the hard cap that would hold is a contradiction, because more is never given unasked.
 */
export function chooseCaps(asked: Caps, defaults: Required<Caps>): CapsChoice {
  const { softCap, hardCap } = asked;
  const effectiveHardCap = hardCap ?? defaults.hardCap;
  if (softCap === undefined) {
    return {
      kind: "fitting",
      caps: hardCap !== undefined && hardCap < defaults.softCap ? { softCap: hardCap, hardCap } : asked,
    };
  }
  if (softCap <= effectiveHardCap) return { kind: "fitting", caps: asked };
  return {
    kind: "contradictory",
    reason:
      `the soft cap of ${formatUsd(softCap)} USD is above the ${hardCap === undefined ? "default " : ""}hard cap of ` +
      `${formatUsd(effectiveHardCap)} USD; the soft cap warns before the hard cap stops, so it cannot be higher`,
  };
}
