import type { ApiKey } from "../access/api-key.ts";
import { type BrikkError, toBrikkError } from "../errors.ts";
import type { BudgetStanding } from "../ledger/budget-standing.ts";
import type { Preview } from "../ledger/ledger.ts";
import { mostOf } from "../ledger/request-cost.ts";
import type { NanoUsd } from "../lib/money.ts";
import { nobodyReady } from "./call-candidates.ts";
import type { CompletionRequest } from "./completion-request.ts";
import type { Candidate, Route } from "./model-router.ts";
import { spendingOf } from "./request-bound.ts";
import type { CompletionServices } from "./run-completion.ts";

/** What would become of a request if it came now. */
export interface Explanation {
  readonly budgets: readonly BudgetStanding[];
  /** Undefined when the request is refused before anybody could be chosen. */
  readonly route:
    | (Pick<Route, "reason" | "excluded" | "policy"> & { readonly candidates: readonly CandidateCost[] })
    | undefined;
  readonly worstCase: NanoUsd | undefined;
  readonly clampedMaxTokens: number | undefined;
  readonly refusal: BrikkError | undefined;
}

export interface CandidateCost {
  readonly candidate: Candidate;
  /** Why it stands where it stands. */
  readonly reason: string;
  readonly worstCase: NanoUsd;
}

/**
 * Walks the way of a request (see run-completion.ts) up to the first attempt, and sets nothing aside: no provider is called, nothing
 * is charged, nothing is written down. Throws only when the budgets cannot be read.
 */
export async function explainCompletion(
  services: Pick<CompletionServices, "ledger" | "tokenCounter"> & {
    readonly health: Pick<CompletionServices["health"], "standingOf">;
  },
  call: { readonly key: ApiKey; readonly request: CompletionRequest; readonly chooseRoute: () => Route },
): Promise<Explanation> {
  const { ledger } = services;
  let route: Route;
  let spending: ReturnType<typeof spendingOf>;
  try {
    route = call.chooseRoute();
    spending = spendingOf(services.tokenCounter, call.request, route);
  } catch (error) {
    const { budgets } = await ledger.standingNow(call.key);
    return {
      budgets,
      route: undefined,
      worstCase: undefined,
      clampedMaxTokens: undefined,
      refusal: toBrikkError(error),
    };
  }
  const preview: Preview = await ledger.preview({ key: call.key, ...spending });
  return {
    budgets: preview.budgets,
    route: {
      reason: route.reason,
      excluded: route.excluded,
      policy: route.policy,
      candidates: route.candidates.map((candidate, index) => ({
        candidate,
        reason: route.reasons[index]!,
        worstCase: mostOf([candidate.model], spending.bound),
      })),
    },
    worstCase: preview.worstCase,
    clampedMaxTokens: preview.passes ? preview.maxOutputTokens : undefined,
    refusal: preview.passes ? nobodyReady(services.health, route.candidates) : preview.refusal,
  };
}
