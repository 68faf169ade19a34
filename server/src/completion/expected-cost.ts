import { bandOf, costOf } from "../ledger/cost.ts";
import type { CatalogueModel } from "../ledger/model-catalogue.ts";
import type { KindRates } from "../ledger/rates.ts";
import { NO_USAGE } from "../ledger/usage.ts";
import type { NanoUsd } from "../lib/money.ts";
import type { RequestFacts } from "./request-facts.ts";

/** How long an answer is taken to be that nobody has limited. */
const EXPECTED_ANSWER_TOKENS = 500;
/** The same where a model thinks before it speaks, as thoughts are billed like what is said. */
const EXPECTED_THINKING_TOKENS = 2_000;

/**
 * About what the request will cost at the model, to compare it with others: nothing is reserved or charged by it. A limit
 * that the caller has set counts as the answer's length, and a picture as the most that its vendor counts.
 */
export function expectedCost(model: CatalogueModel, facts: RequestFacts): NanoUsd {
  return costOf(
    {
      ...NO_USAGE,
      freshInputTokens: textTokens(model, facts),
      audioInputTokens: facts.expectedAudioTokens,
      outputTokens: facts.operation === "embeddings" ? 0 : answerTokens(model, facts) * facts.choices,
    },
    model.rates,
  );
}

/** The model's rates for an input of the request's length. */
export const expectedRates = (model: CatalogueModel, facts: RequestFacts): KindRates =>
  bandOf(textTokens(model, facts) + facts.expectedAudioTokens, model.rates);

const textTokens = (model: CatalogueModel, facts: RequestFacts): number =>
  facts.expectedTextTokens + facts.images * model.maxImageTokens;

function answerTokens(model: CatalogueModel, facts: RequestFacts): number {
  const expected = facts.maxOutputTokens ?? (model.reasons ? EXPECTED_THINKING_TOKENS : EXPECTED_ANSWER_TOKENS);
  return Math.min(expected, model.maxOutputTokens ?? expected);
}
