import { calcPrice, findProvider, type MatchLogic, type ModelInfo, type ModelPrice } from "@pydantic/genai-prices";
import { ZERO_USD } from "../lib/money.ts";
import {
  MODEL_FAMILIES,
  type ModelFamily,
  type ModelKind,
  type NameRule,
  PRICE_OVERRIDES,
  type PriceOverride,
  UNLISTED,
  UNPRICED,
} from "./price-overrides.ts";
import {
  completeRates,
  feeOfUsdPerThousand,
  type KindRates,
  parseUsdPerMillion,
  type Rates,
  rateOfUsdPerMillion,
} from "./rates.ts";

export type { ModelKind, PriceOverride } from "./price-overrides.ts";

export interface CatalogueModel {
  readonly provider: string;
  /** The name as it was asked for; it goes to the provider unchanged. */
  readonly id: string;
  readonly kind: ModelKind;
  readonly rates: Rates;
  /** undefined: not known. */
  readonly contextTokens: number | undefined;
  /** The longest answer the model writes; undefined: not known, or an embedding model. */
  readonly maxOutputTokens: number | undefined;
  readonly acceptsImages: boolean | undefined;
  /** The most tokens that one picture counts as. */
  readonly maxImageTokens: number;
  /** The model reads text in the tokens of this encoding; undefined: of one that cannot be counted here. */
  readonly encoding: "o200k_base" | undefined;
  /** It thinks before it speaks: the first token may take long and reasoning is billed as output. */
  readonly reasons: boolean;
  /** 1 small, 2 middling (also when not known), 3 flagship. */
  readonly qualityTier: number;
  /** Seconds since the epoch, by the date the name carries; absent when it carries none. */
  readonly created?: number;
}

export interface ModelCatalogue {
  /** The model with its price now; undefined when there is no certain price, and then it must not be called. Cheap to repeat. */
  find(provider: string, model: string): CatalogueModel | undefined;
  /** Chat and embedding models to offer of a provider, by name; find() may know more (dated names, fine-tuned models). */
  list(provider: string): readonly CatalogueModel[];
}

export interface ModelCatalogueOptions {
  /** The operator's; each wins over ours, and ours over the price package. */
  readonly overrides: readonly PriceOverride[];
  /** What the operator knows of models, whoever prices them; a model without a price stays without one. */
  readonly traits?: readonly ModelTraits[];
  /** Wall clock in milliseconds: some prices begin on a date or hold for hours of the day. */
  readonly now: () => number;
}

/** Of exactly this provider and model name (case aside). */
export interface ModelTraits {
  readonly provider: string;
  readonly model: string;
  readonly contextTokens: number | undefined;
  readonly maxOutputTokens: number | undefined;
  readonly acceptsImages: boolean | undefined;
  readonly reasons: boolean | undefined;
  readonly qualityTier: number | undefined;
}

/** Must name the version in package.json: ledger rows are explained by it. A test compares them. */
export const PRICE_PACKAGE_VERSION = "genai-prices@0.1.8";

/** Prices change at midnight or on quarters of an hour (UTC), so what was resolved is forgotten at each quarter. */
const RESOLVED_FOR_MS = 15 * 60 * 1000;
/** For models whose vendor documents nothing: above what any documented one counts. */
const MOST_IMAGE_TOKENS = 50_000;
/** Names come from callers: they must neither fill the memory nor feed long texts to the package's patterns. */
const MOST_CACHED_NAMES = 1_000;
const LONGEST_NAME = 200;

/**
 * Providers are known by the package's exact id: a host of another region or a reseller of the same models has its own
 * prices. A model is not priced, hence undefined, when the package does not know it; when it is a fine-tuned one (`ft:`) and
 * only its base model is known; when a chat model has no output price; when the package's price is zero (an operator may
 * set 0 on purpose); or when a kind that usage reports do not tell apart (pictures, video) costs more than the text rate.
 * @throws RangeError naming the override that is not a valid price.
 */
export function buildModelCatalogue({ overrides, traits = [], now }: ModelCatalogueOptions): ModelCatalogue {
  const overridden = new Map<string, CatalogueModel>();
  for (const [origin, prices] of [
    ["brikk", PRICE_OVERRIDES],
    ["override", overrides],
  ] as const) {
    for (const price of prices)
      overridden.set(keyOf(price.provider, price.model), modelOfOverride(price, origin, now()));
  }

  const traitsByKey = new Map(traits.map((entry) => [keyOf(entry.provider, entry.model), entry]));

  const found = new Map<string, CatalogueModel | undefined>();
  const listed = new Map<string, readonly CatalogueModel[]>();
  let resolvedIn = Number.NaN;

  function forgetStale(): number {
    const time = now();
    const period = Math.floor(time / RESOLVED_FOR_MS);
    if (period !== resolvedIn) {
      found.clear();
      listed.clear();
      resolvedIn = period;
    }
    return time;
  }

  function resolve(provider: string, model: string, time: number): CatalogueModel | undefined {
    const key = keyOf(provider, model);
    const override = overridden.get(key);
    const priced = override
      ? override.id === model
        ? override
        : { ...override, id: model }
      : modelOfPackage(provider, model, time);
    const known = traitsByKey.get(key);
    return priced && known ? withTraits(priced, known) : priced;
  }

  function find(provider: string, model: string): CatalogueModel | undefined {
    if (model.length > LONGEST_NAME || provider.length > LONGEST_NAME || model.trim() !== model) return undefined;
    const time = forgetStale();
    const key = `${provider}\n${model}`;
    const known = found.get(key);
    if (known !== undefined || found.has(key)) return known;
    const resolved = resolve(provider, model, time);
    if (found.size >= MOST_CACHED_NAMES) found.delete(found.keys().next().value ?? key);
    found.set(key, resolved);
    return resolved;
  }

  function list(provider: string): readonly CatalogueModel[] {
    const time = forgetStale();
    const known = listed.get(provider);
    if (known) return known;
    const models = new Map<string, CatalogueModel>();
    const ours = [...overridden.values(), ...traits.map(({ model: id, ...rest }) => ({ ...rest, id }))];
    for (const name of [
      ...namesOfPackage(provider),
      ...ours.filter((model) => model.provider === provider).map(({ id }) => id),
    ]) {
      const model = resolve(provider, name, time);
      if (model) models.set(name, model);
    }
    if (models.size === 0) return [];
    const sorted = [...models.values()].sort((a, b) => (a.id < b.id ? -1 : 1));
    listed.set(provider, sorted);
    return sorted;
  }

  return { find, list };
}

function modelOfOverride(override: PriceOverride, origin: string, time: number): CatalogueModel {
  const { provider, model } = override;
  const family = familyOf(provider, model);
  const known = entryOf(provider, model, time)?.info;
  const kind = override.kind ?? family?.kind ?? (/embed/i.test(model) ? "embedding" : "chat");
  const price = (field: OverridePriceField) => {
    const text = override[field];
    if (text === undefined) return undefined;
    const rate = parseUsdPerMillion(text);
    if (rate === undefined) {
      throw new RangeError(`price override of ${provider}/${model}: ${field} is not a decimal with at most 6 places`);
    }
    return rate;
  };
  const freshInput = price("inputUsdPerMillion");
  const output = price("outputUsdPerMillion");
  if (freshInput === undefined)
    throw new RangeError(`price override of ${provider}/${model}: inputUsdPerMillion is missing`);
  if (output === undefined && kind === "chat") {
    throw new RangeError(`price override of ${provider}/${model}: a chat model needs outputUsdPerMillion`);
  }
  const rates: Rates = {
    version: `${origin}:${override.asOf}`,
    perRequest: ZERO_USD,
    ...completeRates({
      freshInput,
      output,
      cachedInput: price("cachedInputUsdPerMillion"),
      cacheWrite: price("cacheWriteUsdPerMillion"),
      audioInput: price("audioInputUsdPerMillion"),
      audioOutput: price("audioOutputUsdPerMillion"),
    }),
  };
  const contextTokens = override.contextTokens ?? known?.context_window;
  const described = describe(provider, model, kind, rates, contextTokens, family);
  return {
    ...described,
    maxOutputTokens: override.maxOutputTokens ?? described.maxOutputTokens,
    acceptsImages: override.acceptsImages ?? described.acceptsImages,
    reasons: override.reasons ?? described.reasons,
    qualityTier: override.qualityTier ?? described.qualityTier,
  };
}

const withTraits = (model: CatalogueModel, traits: ModelTraits): CatalogueModel => ({
  ...model,
  contextTokens: traits.contextTokens ?? model.contextTokens,
  maxOutputTokens: model.kind === "embedding" ? undefined : (traits.maxOutputTokens ?? model.maxOutputTokens),
  acceptsImages: traits.acceptsImages ?? model.acceptsImages,
  reasons: traits.reasons ?? model.reasons,
  qualityTier: traits.qualityTier ?? model.qualityTier,
});

type OverridePriceField = Extract<keyof PriceOverride, `${string}UsdPerMillion`>;

function modelOfPackage(provider: string, name: string, time: number): CatalogueModel | undefined {
  if (UNPRICED.some((rule) => applies(rule, provider, name))) return undefined;
  const entry = entryOf(provider, name, time);
  if (!entry) return undefined;
  const { info, price } = entry;
  if (isFineTuned(name) && !isFineTuned(info.id)) return undefined;
  const family = familyOf(provider, name);
  const kind = family?.kind ?? (/embed/i.test(name) ? "embedding" : "chat");
  const rates = ratesOfPackage(price, kind);
  return rates && describe(provider, name, kind, rates, info.context_window, family);
}

function entryOf(provider: string, name: string, time: number): { info: ModelInfo; price: ModelPrice } | undefined {
  if (findProvider({ providerId: provider })?.id !== provider) return undefined;
  const found = calcPrice({}, name, { providerId: provider, timestamp: new Date(time) });
  return found ? { info: found.model, price: found.model_price } : undefined;
}

function describe(
  provider: string,
  id: string,
  kind: ModelKind,
  rates: Rates,
  knownContextTokens: number | undefined,
  family: ModelFamily | undefined,
): CatalogueModel {
  const contextTokens = knownContextTokens ?? family?.contextTokens;
  const longest = family?.maxOutputTokens === "context" ? contextTokens : family?.maxOutputTokens;
  const created = dateInName(id);
  return {
    provider,
    id,
    kind,
    rates,
    contextTokens,
    maxOutputTokens: kind === "embedding" ? undefined : longest,
    acceptsImages: family?.acceptsImages,
    maxImageTokens: family?.maxImageTokens ?? MOST_IMAGE_TOKENS,
    encoding: family?.encoding,
    reasons: family?.reasons ?? false,
    qualityTier: family?.qualityTier ?? 2,
    ...(created !== undefined && { created }),
  };
}

/** Price keys of the package by the kind they price; where two are given, the dearer one counts. */
const PRICE_KEYS = {
  freshInput: ["input_mtok"],
  cachedInput: ["cache_read_mtok"],
  cacheWrite: ["cache_write_mtok"],
  // Usage on the wire does not tell reasoning or citations from the rest of the output.
  output: ["output_mtok", "output_reasoning_mtok", "output_citation_mtok"],
  audioInput: ["input_audio_mtok"],
  audioOutput: ["output_audio_mtok"],
} as const;
/** Kinds that hide inside the text tokens of a usage report: such a price must not be above the text's. */
const HIDDEN_KEYS = [
  ["input_image_mtok", "input_mtok"],
  ["input_video_mtok", "input_mtok"],
  ["output_image_mtok", "output_mtok"],
  ["output_video_mtok", "output_mtok"],
] as const;

function ratesOfPackage(price: ModelPrice, kind: ModelKind): Rates | undefined {
  const input = price["input_mtok"];
  const output = price["output_mtok"];
  if (input === undefined || (output === undefined && kind === "chat")) return undefined;
  if (HIDDEN_KEYS.some(([hidden, text]) => baseOf(price[hidden]) > baseOf(price[text]))) return undefined;
  if (baseOf(input) === 0 && baseOf(output) === 0) return undefined;
  const steps = new Set(Object.values(price).flatMap((value) => tiersOf(value).map((tier) => tier.start)));
  const tiers = [...steps]
    .sort((a, b) => a - b)
    .map((start) => ({ aboveInputTokens: start, rates: kindRatesAt(price, start + 1) }));
  return {
    version: PRICE_PACKAGE_VERSION,
    perRequest: feeOfUsdPerThousand(baseOf(price["requests_kcount"])),
    ...kindRatesAt(price, 0),
    ...(tiers.length > 0 && { tiers }),
  };
}

function kindRatesAt(price: ModelPrice, inputTokenCount: number): KindRates {
  const stated = (kind: keyof typeof PRICE_KEYS) => {
    const values = PRICE_KEYS[kind]
      .map((key) => valueAt(price[key], inputTokenCount))
      .filter((value) => value !== undefined);
    return values.length === 0 ? undefined : rateOfUsdPerMillion(Math.max(...values));
  };
  return completeRates({
    freshInput: stated("freshInput") ?? rateOfUsdPerMillion(0),
    output: stated("output"),
    cachedInput: stated("cachedInput"),
    cacheWrite: stated("cacheWrite"),
    audioInput: stated("audioInput"),
    audioOutput: stated("audioOutput"),
  });
}

type Price = ModelPrice[string];

const baseOf = (price: Price): number => valueAt(price, 0) ?? 0;

function valueAt(price: Price, inputTokenCount: number): number | undefined {
  if (typeof price !== "object") return price;
  const step = tiersOf(price)
    .filter((tier) => inputTokenCount > tier.start)
    .sort((a, b) => b.start - a.start)[0];
  return step?.price ?? price.base;
}

function tiersOf(price: Price): readonly { readonly start: number; readonly price: number }[] {
  return typeof price === "object" ? price.tiers : [];
}

/** One name per model of the package: its id when its own rule takes it, preferably as `-latest`; else the first name the rule takes. */
function namesOfPackage(provider: string): readonly string[] {
  const known = findProvider({ providerId: provider });
  if (known?.id !== provider) return [];
  return known.models
    .filter((model) => model.deprecated !== true)
    .flatMap((model) => {
      const accepted = exactNames(model.match);
      const latest = accepted.find((name) => name === `${model.id}-latest`);
      const own = accepted.includes(model.id) || accepted.length === 0 ? model.id : undefined;
      return latest ?? own ?? accepted[0] ?? [];
    })
    .filter((name) => !UNLISTED.some((rule) => applies(rule, provider, name)));
}

function exactNames(rule: MatchLogic): readonly string[] {
  if ("equals" in rule) return [rule.equals];
  return "or" in rule ? rule.or.flatMap(exactNames) : [];
}

const isFineTuned = (name: string): boolean => /^ft:/i.test(name);

function familyOf(provider: string, name: string): ModelFamily | undefined {
  const base = name.replace(/^ft:/i, "");
  return MODEL_FAMILIES.find((family) => applies(family, provider, base));
}

function applies(rule: NameRule, provider: string, name: string): boolean {
  return rule.provider === provider && rule.names.test(name.toLowerCase());
}

/** The package's rules ignore case; so must an override, or a capital letter would get around it. */
const keyOf = (provider: string, model: string): string => `${provider}\n${model.toLowerCase()}`;

function dateInName(name: string): number | undefined {
  const match = /-(20\d\d)-(\d\d)-(\d\d)$/.exec(name) ?? /-(2\d)(0[1-9]|1[0-2])$/.exec(name);
  if (!match) return undefined;
  const [, year = "", month = "", day = "01"] = match;
  const time = Date.parse(`${year.padStart(4, "20")}-${month}-${day}T00:00:00Z`);
  return Number.isNaN(time) ? undefined : time / 1000;
}
