import type { PolicyConfig } from "../config.ts";
import type { Candidate } from "./model-router.ts";
import type { TargetStanding } from "./provider-health.ts";
import type { RequestFacts } from "./request-facts.ts";

/** Who might serve, and how it fares. */
export interface Contender {
  readonly candidate: Candidate;
  readonly standing: TargetStanding;
  /** For a policy that draws by weight. */
  readonly weight: number;
  /** In the list it is from, counted from 1 before anybody was taken out. */
  readonly place: number;
}

export type Preference = "auto" | "cheap" | "quality" | "balanced";

/** What the order is to go by. */
export type Wish =
  /** The caller's own order. */
  | { readonly kind: "given" }
  | {
      readonly kind: "preference";
      readonly preference: Preference;
      /** BCP 47; its language decides. */
      readonly language: string | undefined;
      /** Whoever is to be asked first whatever else is preferred. */
      readonly provider: string | undefined;
    }
  | {
      readonly kind: "policy";
      readonly policy: PolicyConfig;
      /** The model that the caller named, where the policy stands in for it. */
      readonly insteadOf: string | undefined;
    };

export interface WishContext {
  readonly facts: RequestFacts;
  readonly languages: LanguagePreferences;
  /** From 0 to below 1, evenly spread. */
  readonly random: () => number;
}

/** Languages that a provider is asked for first; the others have no preference. */
export type LanguagePreferences = Readonly<Record<string, string>>;
