import type { Clock } from "../lib/clock.ts";
import { ProviderError } from "../providers/provider.ts";
import type { Permit } from "../resilience/circuit-breaker.ts";
import { type Answer, attempt } from "./attempt.ts";
import type { CallHistory } from "./call-history.ts";
import type { CompletionRequest } from "./completion-request.ts";
import type { Candidate } from "./model-router.ts";
import type { Target } from "./provider-health.ts";

/** A candidate that may be asked now: its breaker's leave and a place among its provider's calls. */
export interface Entry {
  readonly candidate: Candidate;
  readonly target: Target;
  readonly permit: Permit;
}

/** An answer that has begun. Whoever takes it says, once, how it ended. */
export interface Begun {
  readonly candidate: Candidate;
  readonly answer: Answer;
  readonly ended: (fate: Fate) => void;
}

/** What became of a call, as far as it says something about its provider. */
export type Fate =
  | { readonly kind: "well" }
  | { readonly kind: "fault"; readonly error: ProviderError }
  /** The caller left, or the mistake was the caller's own. */
  | { readonly kind: "nothing" };

/** One attempt with everything that is learnt from it. */
export async function engage(
  entry: Entry,
  request: CompletionRequest,
  options: {
    readonly history: CallHistory;
    readonly clock: Clock;
    readonly maxOutputTokens: number | undefined;
    readonly signal: AbortSignal;
    readonly hedge?: true;
    readonly onFault: (candidate: Candidate, error: ProviderError) => void;
  },
): Promise<Begun> {
  const { candidate, target } = entry;
  const { history, clock, signal } = options;
  const open = history.begin(candidate, clock, options.hedge);
  target.provider.lastAskedAtMs = clock.now();
  let answer: Answer;
  try {
    answer = await attempt(
      candidate,
      { ...request, maxOutputTokens: limitOf(candidate, options.maxOutputTokens) },
      signal,
      (headers) => target.provider.heard(headers),
    );
  } catch (error) {
    open.failed(error);
    if (error instanceof ProviderError && !signal.aborted) {
      const asked = error.info.retryAfterMs;
      if (asked !== undefined && (error.fault === "rate-limited" || error.fault === "overloaded"))
        target.leaveAlone(asked);
      options.onFault(candidate, error);
    }
    leave(entry, fateOf(error, signal));
    throw error;
  }
  const ms = open.answered();
  if (answer.kind === "stream") {
    target.firstToken.add(ms);
    entry.permit.began();
  } else target.whole.add(ms);
  return {
    candidate,
    answer,
    ended: (fate) => {
      // It broke off after it had begun.
      if (fate.kind === "fault") {
        open.failed(fate.error);
        options.onFault(candidate, fate.error);
      }
      leave(entry, fate);
    },
  };
}

export function leave({ target, permit }: Entry, fate: Fate): void {
  target.provider.slots.giveBack();
  switch (fate.kind) {
    case "well":
      return permit.succeeded();
    case "fault":
      return permit.failed(fate.error.fault);
    case "nothing":
      return permit.ignored();
    default:
      return fate satisfies never;
  }
}

export function fateOf(error: unknown, signal: AbortSignal): Fate {
  if (signal.aborted || !(error instanceof ProviderError) || error.isAnswer) return { kind: "nothing" };
  // Who limits the rate and says when to come back is not failing.
  if (error.fault === "rate-limited" && error.info.retryAfterMs !== undefined) return { kind: "nothing" };
  return { kind: "fault", error };
}

/** The budget may pay for more than this candidate can write, who would refuse to be asked for it. */
const limitOf = ({ model }: Candidate, maxOutputTokens: number | undefined): number | undefined =>
  maxOutputTokens === undefined || model.maxOutputTokens === undefined
    ? maxOutputTokens
    : Math.min(maxOutputTokens, model.maxOutputTokens);
