import type { ApiKey } from "../access/api-key.ts";
import { rateLimitRefusal } from "../access/rate-limit-refusal.ts";
import type { Admitted, Caller, RateLimiter, RateRule } from "../access/rate-limiter.ts";
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
 * the wait is short; else the refusal is thrown that a request would get. Who calls is asked anew after every wait, as a key may
 * lose its rights in it. Throws the signal's reason when it is aborted, and whatever `callerNow` throws.
 */
export async function admitTurn(
  { rateLimiter, clock, onRateLimited }: TurnAdmission,
  callerNow: () => Caller,
  signal: AbortSignal,
  onWait: (ms: number) => void,
): Promise<{ readonly key: ApiKey; readonly admission: Admitted }> {
  const startedMs = clock.monotonicMs();
  for (;;) {
    const caller = callerNow();
    const admission = await rateLimiter.admit(caller);
    if (admission.allowed) {
      if (!signal.aborted) return { key: caller.key, admission };
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
