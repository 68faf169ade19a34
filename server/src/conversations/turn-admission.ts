import type { ApiKey } from "../access/api-key.ts";
import { rateLimitRefusal } from "../access/rate-limit-refusal.ts";
import type { Admitted, RateLimiter, RateRule } from "../access/rate-limiter.ts";
import { abortablePause } from "../lib/abortable-pause.ts";
import type { Clock } from "../lib/clock.ts";

/** Longer than that a turn does not wait for the key's rate limit. */
const LONGEST_WAIT_MS = 20_000;

export interface TurnAdmission {
  readonly rateLimiter: RateLimiter;
  readonly clock: Clock;
  readonly onRateLimited: (rule: RateRule["name"]) => void;
}

/**
 * Each turn counts as a request, so that a conversation is no way around the key's limits. One that comes too early waits, if
 * the wait is short; else the refusal is thrown that a request would get. Throws the signal's reason when it is aborted.
 */
export async function admitTurn(
  { rateLimiter, clock, onRateLimited }: TurnAdmission,
  caller: { readonly key: ApiKey; readonly remoteAddress: string | undefined },
  signal: AbortSignal,
  onWait: (ms: number) => void,
): Promise<Admitted> {
  const startedMs = clock.monotonicMs();
  for (;;) {
    const admission = await rateLimiter.admit(caller);
    if (admission.allowed) {
      if (!signal.aborted) return admission;
      admission.release?.();
      throw signal.reason;
    }
    const { waitMs, name } = admission.refusedBy;
    if (clock.monotonicMs() - startedMs + waitMs > LONGEST_WAIT_MS) {
      onRateLimited(name);
      throw rateLimitRefusal(caller.key, admission);
    }
    onWait(waitMs);
    await abortablePause(waitMs, signal);
    if (signal.aborted) throw signal.reason;
  }
}
