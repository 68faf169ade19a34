import type { PolicyConfig } from "../config.ts";
import { BrikkError } from "../errors.ts";
import type { CatalogueModel, ModelCatalogue } from "../ledger/model-catalogue.ts";
import type { ConnectedProvider, ProviderSet } from "../providers/provider-set.ts";
import { type Forbidden, forbiddenBy, modelNotAllowed, type ModelRights, namesAt } from "./allowed-models.ts";
import { wrongKind } from "./candidate-fitness.ts";
import type { CompletionRequest } from "./completion-request.ts";
import type { TargetStanding } from "./provider-health.ts";
import { rankCandidates } from "./rank-candidates.ts";
import { requestFacts } from "./request-facts.ts";
import type { Contender, LanguagePreferences, Preference, Wish } from "./wish.ts";

/** A provider and model that may serve a request. */
export interface Candidate {
  readonly connected: ConnectedProvider;
  readonly model: CatalogueModel;
}

/** Candidates in the order in which they are asked, and why. */
export interface Route {
  readonly candidates: readonly [Candidate, ...Candidate[]];
  readonly reason: string;
  /** Beside `candidates`: why each stands where it stands. */
  readonly reasons: readonly string[];
  /** Who was thought of and may not serve this request. */
  readonly excluded: readonly ExcludedModel[];
  /** The operator's policy that made the route. */
  readonly policy: PolicyConfig | undefined;
}

export interface ExcludedModel {
  readonly provider: string;
  readonly model: string;
  readonly reason: string;
}

/** What may be chosen freely among the providers' default models. */
export interface RouterWish {
  readonly preference: Preference;
  /** BCP 47; its language decides. */
  readonly language?: string | undefined;
  /** A provider, which is asked first, or a policy of the operator's. */
  readonly policy?: string | undefined;
}

/**
 * Each throws what the caller is told when there is no route: model_not_found, model_not_allowed, model_price_unknown,
 * invalid_request, no_provider_available. No candidate of a route is one that the key may not use, so whoever asks a route's
 * candidates and nobody else (fallbacks, hedges, rescues) keeps to the key's rights.
 */
export interface ModelRouter {
  /**
   * The candidates for models named by the caller, in the caller's order, or for `brikk/NAME`. A single model is never swapped
   * for another, unless a policy's `appliesTo` has it.
   */
  byName(names: readonly [string, ...string[]], request: CompletionRequest, rights: ModelRights): Route;
  /**
   * The candidates for a wish; every configured provider's default model is one. Where the key may not use that, those of the
   * provider's models that the key's list names stand in.
   */
  byWish(wish: RouterWish, request: CompletionRequest, rights: ModelRights): Route;
  /** A provider's default model and no other, whatever policies say. */
  byProvider(connected: ConnectedProvider, rights: ModelRights): Route;
}

const ROUTER_PREFIX = "brikk/";
const PREFERENCES: readonly Preference[] = ["auto", "balanced", "cheap", "quality"];
/** The ledger's rows, logs and a header carry it. */
const LONGEST_REASON = 200;

export function createModelRouter(options: {
  providers: ProviderSet;
  catalogue: () => ModelCatalogue;
  languages: LanguagePreferences;
  policies: () => readonly PolicyConfig[];
  standingOf: (provider: string, model: string) => TargetStanding;
  random: () => number;
}): ModelRouter {
  const { providers, catalogue, languages, policies, standingOf, random } = options;

  const priced = (connected: ConnectedProvider, name: string): Resolution => {
    const provider = connected.provider.name;
    const model = catalogue().find(provider, name);
    return model ? { kind: "found", candidate: { connected, model } } : { kind: "unpriced", provider, model: name };
  };

  const forbidden = ({ model }: Candidate, rights: ModelRights): Forbidden | undefined =>
    forbiddenBy(rights, model, providers.known);

  /** A name alone means the first provider that offers it, and among several one that the key may use. */
  const resolve = (name: string, rights: ModelRights): Resolution => {
    const slash = name.indexOf("/");
    const named = slash > 0 ? providers.find(name.slice(0, slash)) : undefined;
    if (named) return priced(named, name.slice(slash + 1));
    let first: Resolution | undefined;
    for (const connected of providers.all) {
      const model = catalogue().find(connected.provider.name, name);
      if (!model) continue;
      const found: Resolution = { kind: "found", candidate: { connected, model } };
      if (!forbidden(found.candidate, rights)) return found;
      first ??= found;
    }
    if (providers.all.length === 0) throw nobodyConfigured();
    return first ?? { kind: "unknown", name };
  };

  /** A provider's default model, or what the key may use in its place. */
  const choicesOf = (connected: ConnectedProvider, rights: ModelRights): readonly Resolution[] => {
    const { name, defaultModel } = connected.provider;
    const byDefault = priced(connected, defaultModel);
    if (byDefault.kind === "found" && !forbidden(byDefault.candidate, rights)) return [byDefault];
    const others = namesAt(name, rights.allowedModels ?? [], providers.known)
      .map((model) => priced(connected, model))
      .filter((other) => other.kind === "found" && !forbidden(other.candidate, rights));
    return [byDefault, ...others];
  };

  const usable = (candidate: Candidate, rights: ModelRights, param: string): Candidate => {
    const rule = forbidden(candidate, rights);
    if (rule === undefined) return candidate;
    const { provider, id } = candidate.model;
    throw modelNotAllowed(`The model ${provider}/${id.slice(0, 200)}`, rule, param);
  };

  const rank = (
    listed: readonly Listed[],
    wish: Wish,
    { request, rights }: { readonly request: CompletionRequest; readonly rights: ModelRights },
  ): Route => {
    const contenders: Contender[] = [];
    const excluded: ExcludedModel[] = [];
    const allowed: Candidate[] = [];
    let rule: Forbidden | undefined;
    for (const [index, { resolution, weight }] of listed.entries()) {
      if (resolution.kind !== "found") {
        excluded.push(excludedBy(resolution));
        continue;
      }
      const { candidate } = resolution;
      const { provider, id } = candidate.model;
      const forbids = forbidden(candidate, rights);
      if (forbids) {
        rule ??= forbids;
        excluded.push({ provider, model: id, reason: `is not among the key's ${forbids.rule}` });
        continue;
      }
      allowed.push(candidate);
      const mismatch = wrongKind(candidate.model, request.operation);
      if (mismatch !== undefined) excluded.push({ provider, model: id, reason: mismatch });
      // Whoever is named twice is asked at its first place.
      else if (!contenders.some((other) => isSame(other.candidate, candidate)))
        contenders.push({ candidate, standing: standingOf(provider, id), weight, place: index + 1 });
    }
    if (allowed.length === 0 && rule) throw modelNotAllowed(whatIsChosenFrom(wish), rule, "model");
    if (contenders.length === 0) refuseWrongKind(allowed, request);
    const ranking = rankCandidates(contenders, wish, { facts: requestFacts(request), languages, random });
    for (const { candidate, reason } of ranking.excluded)
      excluded.push({ provider: candidate.model.provider, model: candidate.model.id, reason });
    const policy = wish.kind === "policy" ? wish.policy : undefined;
    const [first, ...others] = ranking.ranked;
    if (!first) throw nobodyLeft(policy, excluded);
    return {
      candidates: [first.candidate, ...others.map(({ candidate }) => candidate)],
      reason: shortened(ranking.reason),
      reasons: ranking.ranked.map(({ reason }) => reason),
      excluded,
      policy,
    };
  };

  const byPolicy = (
    policy: PolicyConfig,
    asked: { readonly request: CompletionRequest; readonly rights: ModelRights },
    insteadOf?: string,
  ): Route =>
    rank(
      policy.candidates.map(({ model, weight }) => ({ resolution: resolve(model, asked.rights), weight })),
      { kind: "policy", policy, insteadOf },
      asked,
    );

  const findPolicy = (name: string): PolicyConfig | undefined => policies().find((policy) => policy.name === name);

  /** A policy may stand in for a model that no provider here offers, so the names are compared first. */
  const policyInsteadOf = (name: string, rights: ModelRights): PolicyConfig | undefined => {
    const named = policies().find(({ appliesTo }) => appliesTo.includes(name));
    if (named) return named;
    const meant = policies().some(({ appliesTo }) => appliesTo.length > 0) ? resolve(name, rights) : undefined;
    if (meant?.kind !== "found") return undefined;
    return policies().find(({ appliesTo }) =>
      appliesTo.some((other) => {
        const resolution = resolve(other, rights);
        return resolution.kind === "found" && isSame(resolution.candidate, meant.candidate);
      }),
    );
  };

  const byWish = (wish: RouterWish, request: CompletionRequest, rights: ModelRights): Route => {
    const { preference, language } = wish;
    if (providers.all.length === 0) throw nobodyConfigured();
    const provider = wish.policy === undefined ? undefined : providers.find(wish.policy)?.provider.name;
    const policy = provider === undefined ? findPolicy(wish.policy ?? preference) : undefined;
    if (policy) return byPolicy(policy, { request, rights });
    if (wish.policy !== undefined && provider === undefined) throw unknownPolicy(wish.policy);

    const choices = providers.all.flatMap((connected) => choicesOf(connected, rights)).map(unweighted);
    // Where none has a price, what is wrong is said as if the first had been named.
    if (choices.every(({ resolution }) => resolution.kind !== "found")) foundOrRefused(choices[0]!.resolution);
    return rank(choices, { kind: "preference", preference, language, provider }, { request, rights });
  };

  const unknownPolicy = (name: string): BrikkError => {
    const all = [...providers.all.map(({ provider }) => provider.name), ...policies().map((policy) => policy.name)];
    return new BrikkError(
      "invalid_request",
      `"${name.slice(0, 64)}" is neither a configured provider nor a policy; there ${all.length === 1 ? "is" : "are"} ${all.join(", ")}.`,
      { param: "policy" },
    );
  };

  const byRouterName = (name: string, request: CompletionRequest, rights: ModelRights): Route => {
    const policy = findPolicy(name);
    if (policy) return byPolicy(policy, { request, rights });
    const preference = PREFERENCES.find((one) => one === name);
    if (preference !== undefined) return byWish({ preference }, request, rights);
    const all = [...new Set([...PREFERENCES, ...policies().map((one) => one.name)])];
    throw new BrikkError(
      "model_not_found",
      `The router knows ${all.map((one) => ROUTER_PREFIX + one).join(", ")}; "${ROUTER_PREFIX}${name.slice(0, 200)}" is none of them.`,
      { param: "model" },
    );
  };

  return {
    byWish,
    byProvider: (connected, rights) => {
      const candidate = foundOrRefused(priced(connected, connected.provider.defaultModel));
      return single(usable(candidate, rights, "agent"), "provider named by the caller");
    },
    byName: (names, request, rights) => {
      const [first] = names;
      if (first.startsWith(ROUTER_PREFIX)) {
        if (names.length > 1)
          throw new BrikkError(
            "invalid_request",
            `${first.slice(0, 200)} lets the router choose, so \`models\` has no place beside it. Name a model, or leave \`models\` out.`,
            { param: "models" },
          );
        return byRouterName(first.slice(ROUTER_PREFIX.length), request, rights);
      }
      const policy = names.length === 1 ? policyInsteadOf(first, rights) : undefined;
      if (policy) return byPolicy(policy, { request, rights }, first);
      if (names.length === 1) {
        const candidate = usable(foundOrRefused(resolve(first, rights)), rights, "model");
        refuseWrongKind([candidate], request);
        return single(candidate, "model named by the caller");
      }
      const named = names.map((name) => resolve(name, rights));
      for (const [index, resolution] of named.entries())
        usable(foundOrRefused(resolution), rights, index === 0 ? "model" : "models");
      return rank(named.map(unweighted), { kind: "given" }, { request, rights });
    },
  };
}

type Resolution =
  | { readonly kind: "found"; readonly candidate: Candidate }
  | { readonly kind: "unpriced"; readonly provider: string; readonly model: string }
  | { readonly kind: "unknown"; readonly name: string };

interface Listed {
  readonly resolution: Resolution;
  readonly weight: number;
}

const unweighted = (resolution: Resolution): Listed => ({ resolution, weight: 1 });

function excludedBy(missing: Exclude<Resolution, { readonly kind: "found" }>): ExcludedModel {
  if (missing.kind === "unpriced")
    return {
      provider: missing.provider,
      model: missing.model,
      reason: "has no price, so its cost cannot be held to a budget",
    };
  const slash = missing.name.indexOf("/");
  return {
    provider: slash > 0 ? missing.name.slice(0, slash) : "none",
    model: missing.name.slice(slash + 1),
    reason: "no configured provider offers it",
  };
}

function foundOrRefused(resolution: Resolution): Candidate {
  switch (resolution.kind) {
    case "found":
      return resolution.candidate;
    case "unpriced":
      throw new BrikkError(
        "model_price_unknown",
        `The model "${resolution.model}" of ${resolution.provider} has no price, so its cost cannot be held to a budget. The operator can set one in the file that BRIKK_CONFIG names.`,
        { param: "model", details: { provider: resolution.provider, model: resolution.model } },
      );
    case "unknown":
      throw new BrikkError(
        "model_not_found",
        `No configured provider offers the model "${resolution.name.slice(0, 200)}". GET /v1/models lists what there is; "provider/model" names one exactly.`,
        { param: "model" },
      );
    default:
      return resolution satisfies never;
  }
}

/** Of the first one, when it does something else than what is asked. */
function refuseWrongKind([first]: readonly Candidate[], { operation }: CompletionRequest): void {
  const mismatch = first && wrongKind(first.model, operation);
  if (mismatch === undefined) return;
  const { provider, id } = first!.model;
  throw new BrikkError("invalid_request", `${provider}/${id} ${mismatch}.`, { param: "model" });
}

const nobodyConfigured = (): BrikkError =>
  new BrikkError("no_provider_available", "No provider is configured on this server.");

function whatIsChosenFrom(wish: Wish): string {
  if (wish.kind === "policy") return `Every model of the policy "${wish.policy.name}"`;
  return "Every model that the router would choose from";
}

function nobodyLeft(policy: PolicyConfig | undefined, excluded: readonly ExcludedModel[]): BrikkError {
  const reasons = excluded.map(({ provider, model, reason }) => `${provider}/${model} (${reason})`).join(", ");
  return new BrikkError(
    "no_provider_available",
    `${policy ? `The policy "${policy.name}"` : "This server"} has no model that may serve this request: ${reasons}.`,
    { details: { policy: policy?.name ?? null, excluded } },
  );
}

const single = (candidate: Candidate, reason: string): Route => ({
  candidates: [candidate],
  reason,
  reasons: [reason],
  excluded: [],
  policy: undefined,
});

const shortened = (reason: string): string =>
  reason.length > LONGEST_REASON ? `${reason.slice(0, LONGEST_REASON - 3)}...` : reason;

const isSame = (a: Candidate, b: Candidate): boolean =>
  a.model.provider === b.model.provider && a.model.id === b.model.id;
