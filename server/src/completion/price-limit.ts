import type { PolicyConfig } from "../config.ts";
import type { CatalogueModel } from "../ledger/model-catalogue.ts";
import { parseUsdPerMillion } from "../ledger/rates.ts";
import type { PicoUsdPerToken } from "../lib/money.ts";
import { expectedRates } from "./expected-cost.ts";
import type { RequestFacts } from "./request-facts.ts";

/** By which figures the model is dearer than the policy allows; undefined when it is not. */
export function abovePrice(model: CatalogueModel, { maxPrice }: PolicyConfig, facts: RequestFacts): string | undefined {
  const rates = expectedRates(model, facts);
  const faults = [
    ["input", rates.freshInput, maxPrice?.inputUsdPerMillion] as const,
    ["output", rates.output, maxPrice?.outputUsdPerMillion] as const,
  ].flatMap(([direction, rate, limit]) =>
    limit !== undefined && rate > limitOf(limit)
      ? [`${direction} at ${usdPerMillion(rate)} USD per million tokens, above the policy's ${limit}`]
      : [],
  );
  return faults.length === 0 ? undefined : faults.join("; ");
}

function limitOf(usdPerMillionTokens: string): PicoUsdPerToken {
  const limit = parseUsdPerMillion(usdPerMillionTokens);
  if (limit === undefined) throw new RangeError(`not a price: ${usdPerMillionTokens}`);
  return limit;
}

/** 1 USD per million tokens is 1,000,000 pico-USD per token. */
const usdPerMillion = (rate: PicoUsdPerToken): number => Number(rate) / 1e6;
