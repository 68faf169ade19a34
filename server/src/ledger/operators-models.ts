import type { Config, ModelSetting, PriceSetting } from "../config.ts";
import type { ModelCatalogueOptions, ModelTraits } from "./model-catalogue.ts";
import type { PriceOverride } from "./price-overrides.ts";

/** What the operator's file says of models, as the catalogue takes it: prices, and traits of models that it prices otherwise. */
export function operatorsModels(
  { providers, prices }: Pick<Config, "providers" | "prices">,
  now: number,
): Pick<ModelCatalogueOptions, "overrides" | "traits"> {
  const asOf = new Date(now).toISOString().slice(0, 10);
  const models = providers.flatMap(({ name: provider, models: own }) => own.map((model) => ({ provider, model })));
  return {
    overrides: [
      ...prices.map((price) => ({ ...priceOf(price.provider, price.model, price), source: "operator", asOf })),
      ...models.flatMap(({ provider, model }) =>
        model.input_usd_per_million === undefined
          ? []
          : {
              ...priceOf(provider, model.id, { ...model, input_usd_per_million: model.input_usd_per_million }),
              source: "operator",
              asOf,
            },
      ),
    ],
    traits: models.map(({ provider, model }) => traitsOf(provider, model)),
  };
}

const priceOf = (
  provider: string,
  model: string,
  setting: Pick<
    PriceSetting,
    | "kind"
    | "input_usd_per_million"
    | "cached_input_usd_per_million"
    | "output_usd_per_million"
    | "context_tokens"
    | "max_output_tokens"
  >,
): Omit<PriceOverride, "source" | "asOf"> => ({
  provider,
  model,
  kind: setting.kind,
  inputUsdPerMillion: setting.input_usd_per_million,
  cachedInputUsdPerMillion: setting.cached_input_usd_per_million,
  outputUsdPerMillion: setting.output_usd_per_million,
  contextTokens: setting.context_tokens,
  maxOutputTokens: setting.max_output_tokens,
});

const traitsOf = (provider: string, model: ModelSetting): ModelTraits => ({
  provider,
  model: model.id,
  contextTokens: model.context_tokens,
  maxOutputTokens: model.max_output_tokens,
  acceptsImages: model.images,
  reasons: model.reasons,
  qualityTier: model.quality_tier,
});
