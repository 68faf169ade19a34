import { type NanoUsd, nanoUsd } from "../lib/money.ts";
import { type UsageBound, worstCaseCost } from "./cost.ts";
import type { CatalogueModel } from "./model-catalogue.ts";

/** The most that a request may use of each candidate. */
export interface RequestBound {
  /** Upper bound of the whole input. */
  readonly inputTokens: (model: CatalogueModel) => number;
  /** The most one answer of the model may hold; 0 for an operation that writes nothing. */
  readonly outputTokens: (model: CatalogueModel) => number;
  /** Output that is billed whatever the answer's limit says. */
  readonly extraOutputTokens: number;
  readonly choices: number;
}

/** An answer shorter than this is of no use to anybody. */
export const SHORTEST_ANSWER_TOKENS = 16;

/**
 * What a request may cost, at the dearest of its candidates; with a limit, if no answer may hold more tokens than that.
 * Grows with the limit.
 */
export function mostOf(
  candidates: readonly CatalogueModel[],
  bound: RequestBound,
  maxOutputTokens = Number.POSITIVE_INFINITY,
): NanoUsd {
  let most = 0n;
  for (const model of candidates) {
    const usage: UsageBound = {
      inputTokens: bound.inputTokens(model),
      outputTokens: Math.min(bound.outputTokens(model), maxOutputTokens) + bound.extraOutputTokens,
      choices: bound.choices,
    };
    const cost = worstCaseCost(usage, model.rates);
    if (cost > most) most = cost;
  }
  return nanoUsd(most);
}

/** The longest answer of any candidate; 0 when the operation writes nothing. */
const longestAnswer = (candidates: readonly CatalogueModel[], bound: RequestBound): number =>
  Math.max(...candidates.map((model) => bound.outputTokens(model)));

/** The longest answer that the amount pays for, and what it may cost; undefined when that is too short to be of use. */
export function longestWithin(
  candidates: readonly CatalogueModel[],
  bound: RequestBound,
  amount: NanoUsd,
): { readonly amount: NanoUsd; readonly maxOutputTokens: number } | undefined {
  let low = SHORTEST_ANSWER_TOKENS;
  let high = longestAnswer(candidates, bound) - 1;
  if (high < low || mostOf(candidates, bound, low) > amount) return undefined;
  while (low < high) {
    const middle = Math.ceil((low + high) / 2);
    if (mostOf(candidates, bound, middle) <= amount) low = middle;
    else high = middle - 1;
  }
  return { amount: mostOf(candidates, bound, low), maxOutputTokens: low };
}
