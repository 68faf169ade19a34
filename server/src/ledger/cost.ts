import { type NanoUsd, nanoUsd } from "../lib/money.ts";
import { dearest, type KindRates, type Rates } from "./rates.ts";
import { inputTokens, type Usage } from "./usage.ts";

/**
 * What a request cost: every kind at its own rate plus the fee of the request, exact in pico-USD and rounded up once, at the
 * end, to the next nano-USD. A long-context step prices the whole request, chosen by all input tokens of whatever kind, as
 * vendors bill it. Reasoning is inside the output and not billed again.
 * @throws RangeError when a count is not an integer.
 */
export function costOf(usage: Usage, rates: Rates): NanoUsd {
  const band = bandOf(inputTokens(usage), rates);
  return withFee(
    BigInt(usage.freshInputTokens) * band.freshInput +
      BigInt(usage.cachedInputTokens) * band.cachedInput +
      BigInt(usage.cacheWriteTokens) * band.cacheWrite +
      BigInt(usage.audioInputTokens) * band.audioInput +
      BigInt(usage.outputTokens) * band.output +
      BigInt(usage.audioOutputTokens) * band.audioOutput,
    rates,
  );
}

/** The most a request may use: tokens of the whole input, tokens of one answer, and how many answers it asks for (`n`). */
export interface UsageBound {
  readonly inputTokens: number;
  readonly outputTokens: number;
  readonly choices: number;
}

/**
 * What a request can cost at most: never below {@link costOf} of any usage with at most `inputTokens` in and at most
 * `outputTokens * choices` out.
 *
 * - Every token counts at the dearest rate of its direction, audio and cache writes included: which of them the vendor will
 *   report is not ours to decide (it may write a cache unasked). This costs a text model nothing, because a kind without a
 *   stated price has the dearest of the stated ones (completeRates); a model that states an audio price can be sent audio.
 * - Every long-context step the input can reach is tried, since a later step need not be the dearer one.
 * - The input counts once however many answers are asked for: vendors bill it so (their API references, at `n`).
 * @throws RangeError when a figure is not an integer.
 */
export function worstCaseCost(bound: UsageBound, rates: Rates): NanoUsd {
  const input = BigInt(bound.inputTokens);
  const output = BigInt(bound.outputTokens) * BigInt(bound.choices);
  let worst = 0n;
  for (const band of bandsWithin(bound.inputTokens, rates)) {
    const cost =
      input * dearest(band.freshInput, band.cachedInput, band.cacheWrite, band.audioInput) +
      output * dearest(band.output, band.audioOutput);
    if (cost > worst) worst = cost;
  }
  return withFee(worst, rates);
}

/** What each kind of token costs in a request with so many input tokens of whatever kind. */
export function bandOf(inputTokenCount: number, rates: Rates): KindRates {
  let band: KindRates = rates;
  let step = -1;
  for (const tier of rates.tiers ?? []) {
    if (inputTokenCount > tier.aboveInputTokens && tier.aboveInputTokens > step) {
      band = tier.rates;
      step = tier.aboveInputTokens;
    }
  }
  return band;
}

function bandsWithin(inputTokenCount: number, rates: Rates): readonly KindRates[] {
  const reachable = (rates.tiers ?? []).filter((tier) => inputTokenCount > tier.aboveInputTokens);
  return [rates, ...reachable.map((tier) => tier.rates)];
}

function withFee(picoUsd: bigint, rates: Rates): NanoUsd {
  return nanoUsd(rates.perRequest + (picoUsd + 999n) / 1000n);
}
