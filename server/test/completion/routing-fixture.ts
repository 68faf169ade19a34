import { readCompletionRequest, type CompletionRequest } from "../../src/completion/completion-request.ts";
import type { Candidate, Route } from "../../src/completion/model-router.ts";
import type { TargetStanding } from "../../src/completion/provider-health.ts";
import { requestFacts, type RequestFacts } from "../../src/completion/request-facts.ts";
import type { Contender } from "../../src/completion/wish.ts";
import type { PolicyConfig } from "../../src/config.ts";
import type { CatalogueModel } from "../../src/ledger/model-catalogue.ts";
import { completeRates, parseUsdPerMillion } from "../../src/ledger/rates.ts";
import { parseJsonDocument } from "../../src/lib/json-document.ts";
import { ZERO_USD } from "../../src/lib/money.ts";
import type { Operation, Provider } from "../../src/providers/provider.ts";
import type { ConnectedProvider } from "../../src/providers/provider-set.ts";

export const ALL_WELL: TargetStanding = {
  state: "closed",
  availableInMs: 0,
  errorRate: undefined,
  firstTokenP50Ms: undefined,
  firstTokenP95Ms: undefined,
};

/** What a router reads of a provider, which it never calls. */
export function connectedProvider(
  name: string,
  { defaultModel = "m", unfit = () => undefined }: { readonly defaultModel?: string; readonly unfit?: Unfit } = {},
): ConnectedProvider {
  const provider: Partial<Provider> = { name, defaultModel, simulated: true, unfit };
  return { provider: provider as Provider } as ConnectedProvider;
}

type Unfit = NonNullable<Provider["unfit"]>;

/** The router's own body, with more or other members. */
export const chatRequest = (body: object = {}): CompletionRequest => requestOf("chat", body);

function requestOf(operation: Operation, body: object = {}): CompletionRequest {
  const base = { model: "m", messages: [{ role: "user", content: "Why is the sky blue?" }] };
  return readCompletionRequest(operation, parseJsonDocument(Buffer.from(JSON.stringify({ ...base, ...body }))));
}

export const factsOf = (body: object = {}, operation: Operation = "chat"): RequestFacts =>
  requestFacts(requestOf(operation, body));

export interface ModelTraits extends Partial<Omit<CatalogueModel, "rates" | "id" | "provider">> {
  /** USD per million tokens. */
  readonly input?: string;
  readonly output?: string;
  readonly unfit?: Unfit;
}

/** "provider/model" with what matters of it; else a chat model of the second tier at 1 and 2 USD. */
function candidateOf(name: string, { input = "1", output = "2", unfit, ...traits }: ModelTraits = {}): Candidate {
  const [provider = "", id = ""] = name.split("/");
  return {
    connected: connectedProvider(provider, unfit ? { unfit } : {}),
    model: {
      provider,
      id,
      kind: "chat",
      contextTokens: undefined,
      maxOutputTokens: undefined,
      acceptsImages: undefined,
      maxImageTokens: 1_000,
      encoding: undefined,
      reasons: false,
      qualityTier: 2,
      rates: {
        version: "test",
        perRequest: ZERO_USD,
        ...completeRates({ freshInput: parseUsdPerMillion(input)!, output: parseUsdPerMillion(output)! }),
      },
      ...traits,
    },
  };
}

export const contenderOf = (
  name: string,
  traits: ModelTraits = {},
  standing: Partial<TargetStanding> = {},
  weight = 1,
): Contender => ({ candidate: candidateOf(name, traits), standing: { ...ALL_WELL, ...standing }, weight, place: 1 });

interface PolicyTraits extends Partial<Omit<PolicyConfig, "maxPrice">> {
  readonly name: string;
  /** Each with the weight of 1. */
  readonly models?: readonly string[];
  readonly maxInputPrice?: string;
  readonly maxOutputPrice?: string;
}

export const policyOf = ({ models = [], maxInputPrice, maxOutputPrice, ...policy }: PolicyTraits): PolicyConfig => ({
  candidates: models.map((model) => ({ model, weight: 1 })),
  strategy: "order",
  appliesTo: [],
  maxPrice:
    maxInputPrice === undefined && maxOutputPrice === undefined
      ? undefined
      : { inputUsdPerMillion: maxInputPrice, outputUsdPerMillion: maxOutputPrice },
  hedge: undefined,
  ...policy,
});

export const named = (route: Pick<Route, "candidates">): string[] =>
  route.candidates.map(({ model }) => `${model.provider}/${model.id}`);
