import type { PolicyConfig } from "../config.ts";
import { BrikkError } from "../errors.ts";
import type { CatalogueModel, ModelCatalogue } from "../ledger/model-catalogue.ts";
import type { ConnectedProvider, ProviderSet } from "../providers/provider-set.ts";

/** A provider and model that may serve a request. */
export interface Candidate {
  readonly connected: ConnectedProvider;
  readonly model: CatalogueModel;
}

/** Candidates in the order in which they are asked, and why. */
export interface Route {
  readonly candidates: readonly [Candidate, ...Candidate[]];
  readonly reason: string;
  readonly policy?: PolicyConfig | undefined;
}

export type Preference = "auto" | "cheap" | "quality";

/** What may be chosen freely among the providers' default models. */
export interface RouterWish {
  readonly preference: Preference;
  /** BCP 47; the first subtag decides. */
  readonly language?: string | undefined;
  /** A provider's name. */
  readonly provider?: string | undefined;
}

export interface ModelRouter {
  /** The candidates for models named by the caller, in the caller's order. Throws model_not_found, model_price_unknown. */
  byName(names: readonly [string, ...string[]]): Route;
  /** The candidates for a wish; every configured provider is one. */
  byWish(wish: RouterWish): Route;
}

const ROUTER_PREFIX = "brikk/";

/** Languages that a provider is asked for first; the others go to the first provider configured. */
export type LanguagePreferences = Readonly<Record<string, string>>;

export function createModelRouter(options: {
  providers: ProviderSet;
  catalogue: () => ModelCatalogue;
  languages: LanguagePreferences;
}): ModelRouter {
  const { providers, catalogue, languages } = options;

  const priced = (connected: ConnectedProvider, name: string): Candidate => {
    const model = catalogue().find(connected.provider.name, name);
    if (model) return { connected, model };
    throw new BrikkError(
      "model_price_unknown",
      `The model "${name}" of ${connected.provider.name} has no price, so its cost cannot be held to a budget. The operator can set one in the file that BRIKK_CONFIG names.`,
      { param: "model", details: { provider: connected.provider.name, model: name } },
    );
  };

  const resolve = (name: string): Candidate => {
    const slash = name.indexOf("/");
    const connected = slash > 0 ? providers.find(name.slice(0, slash)) : undefined;
    if (connected) return priced(connected, name.slice(slash + 1));
    for (const candidate of providers.all) {
      const model = catalogue().find(candidate.provider.name, name);
      if (model) return { connected: candidate, model };
    }
    throw new BrikkError(
      "model_not_found",
      `No configured provider offers the model "${name.slice(0, 200)}". GET /v1/models lists what there is; "provider/model" names one exactly.`,
      {
        param: "model",
      },
    );
  };

  const byWish = (wish: RouterWish): Route => {
    if (providers.all.length === 0)
      throw new BrikkError("no_provider_available", "No provider is configured on this server.");
    const candidates = providers.all.map((connected) => priced(connected, connected.provider.defaultModel));
    const language = wish.language?.toLowerCase().split("-")[0];
    const { order, reason } = rank(candidates, wish, language, languages);
    return { candidates: order as [Candidate, ...Candidate[]], reason };
  };

  return {
    byWish,
    byName: (names) => {
      const [first] = names;
      if (first.startsWith(ROUTER_PREFIX)) {
        const preference = first.slice(ROUTER_PREFIX.length);
        if (names.length > 1)
          throw new BrikkError(
            "invalid_request",
            `${first.slice(0, 200)} lets the router choose, so \`models\` has no place beside it. Name a model, or leave \`models\` out.`,
            { param: "models" },
          );
        if (preference === "auto" || preference === "cheap" || preference === "quality") return byWish({ preference });
        throw new BrikkError(
          "model_not_found",
          `The router knows brikk/auto, brikk/cheap and brikk/quality; "${first.slice(0, 200)}" is none of them.`,
          { param: "model" },
        );
      }
      const candidates = names.map(resolve) as [Candidate, ...Candidate[]];
      return {
        candidates,
        reason: names.length === 1 ? "model named by the caller" : "models named by the caller, in order",
      };
    },
  };
}

function rank(
  candidates: readonly Candidate[],
  wish: RouterWish,
  language: string | undefined,
  languages: LanguagePreferences,
): { order: Candidate[]; reason: string } {
  const first = (name: string): Candidate[] =>
    [...candidates].sort(
      (a, b) => Number(b.connected.provider.name === name) - Number(a.connected.provider.name === name),
    );
  if (wish.provider !== undefined) {
    if (!candidates.some((candidate) => candidate.connected.provider.name === wish.provider)) {
      throw new BrikkError(
        "invalid_request",
        `The policy "${wish.provider}" is no configured provider; there ${candidates.length === 1 ? "is" : "are"} ${candidates.map((candidate) => candidate.connected.provider.name).join(", ")}.`,
        { param: "policy" },
      );
    }
    return { order: first(wish.provider), reason: `policy ${wish.provider}` };
  }
  switch (wish.preference) {
    case "cheap":
      return {
        order: [...candidates].sort((a, b) => comparePrice(a.model, b.model)),
        reason: "cheapest by price per token",
      };
    case "quality":
      return {
        order: [...candidates].sort(
          (a, b) => b.model.qualityTier - a.model.qualityTier || comparePrice(b.model, a.model),
        ),
        reason: "best quality tier",
      };
    case "auto": {
      const preferred = language === undefined ? undefined : languages[language];
      if (preferred !== undefined) return { order: first(preferred), reason: `language ${language}` };
      return {
        order: [...candidates],
        reason:
          language === undefined
            ? "first configured provider"
            : `language ${language} has no preference; first configured provider`,
      };
    }
    default:
      return wish.preference satisfies never;
  }
}

/** Input and output weighed alike, as nothing is known of the answer's length yet. */
function comparePrice(a: CatalogueModel, b: CatalogueModel): number {
  const difference = a.rates.freshInput + a.rates.output - (b.rates.freshInput + b.rates.output);
  return difference < 0n ? -1 : difference > 0n ? 1 : 0;
}
