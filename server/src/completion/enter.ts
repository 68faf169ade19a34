import type { Entry } from "./engage.ts";
import type { Candidate } from "./model-router.ts";
import type { ProviderHealth, Target } from "./provider-health.ts";
import type { CallServices } from "./run-completion.ts";

/** Why a candidate cannot be asked. */
export interface Obstacle {
  readonly candidate: Candidate;
  readonly why: "circuit open" | "rate limited" | "as much in hand as allowed" | "no more retries";
  /** Undefined: waiting for it is of no use to this request. */
  readonly availableInMs: number | undefined;
}

/** In a provider's queue, when nobody else can be asked. */
const QUEUE_MS = 5_000;

export const targetOf = (health: ProviderHealth, { connected, model }: Candidate): Target =>
  health.targetOf(connected, model.id);

/** Neither its breaker nor a queue stands before it. */
export const mayBeAskedNow = (health: ProviderHealth, candidate: Candidate): boolean => {
  const { availableInMs, provider } = targetOf(health, candidate);
  return availableInMs === 0 && provider.slots.waiting === 0;
};

/** A place and leave to ask the candidate, or why not. Rejects with the signal's reason. */
export async function enter(
  services: Pick<CallServices, "health" | "events">,
  candidate: Candidate,
  { isRetry, alone, signal }: { isRetry: boolean; alone: boolean; signal: AbortSignal },
): Promise<Entry | Obstacle> {
  if (signal.aborted) throw signal.reason;
  const target = targetOf(services.health, candidate);
  const { provider } = target;
  if (target.availableInMs > 0) return obstacleOf(candidate, target.coolingMs, target.availableInMs);
  // Who can ask somebody else does not queue.
  if (!provider.slots.takeNow() && !(alone && (await provider.slots.take(QUEUE_MS, signal)))) {
    return { candidate, why: "as much in hand as allowed", availableInMs: alone ? undefined : 0 };
  }
  if (isRetry && !provider.retries.takeRetry()) {
    provider.slots.giveBack();
    return { candidate, why: "no more retries", availableInMs: undefined };
  }
  const permit = target.admit();
  if (!permit) {
    provider.slots.giveBack();
    return obstacleOf(candidate, target.coolingMs, target.availableInMs);
  }
  if (isRetry) services.events.retried(candidate);
  else provider.retries.addCall();
  return { candidate, target, permit };
}

const obstacleOf = (candidate: Candidate, coolingMs: number, availableInMs: number): Obstacle => ({
  candidate,
  why: coolingMs > 0 ? "rate limited" : "circuit open",
  availableInMs,
});
