import type { RateRule, RateRuleName } from "./rate-limiter.ts";

/**
 * GCRA, the generic cell rate algorithm (ITU-T I.371), in its form as a continuous-state leaky bucket. What was used drains away
 * at `limit` per minute, and one more passes while it fits under the limit: who was idle may use the whole limit at once and
 * then goes on at its rate. So in any stretch of t seconds no more than `limit + t * limit / 60` is counted, and there is no
 * window whose edge allows a second burst. The state, units used and when, says the same under a changed limit.
 *
 * The script in redis-limit-counts.ts does the same arithmetic.
 */
export const WINDOW_MS = 60_000;
/** Units. Rounding of floating-point sums must not turn away a request that is due. */
export const ROUNDING = 1e-7;
/** Nobody knows when a request in hand will end; by then it is worth asking again. */
const SLOT_WAIT_MS = 1_000;

/** What is still used after some time has passed. */
export const drained = (used: number, elapsedMs: number, limit: number): number =>
  elapsedMs <= 0 ? used : Math.max(0, used - (elapsedMs * limit) / WINDOW_MS);

export function bucketRule(name: RateRuleName, limit: number, used: number): RateRule {
  const fits = used + 1 <= limit + ROUNDING;
  return {
    name,
    limit,
    remaining: fits ? Math.max(1, Math.floor(limit - used + ROUNDING)) : 0,
    resetMs: used <= ROUNDING ? 0 : Math.ceil((used * WINDOW_MS) / limit),
    waitMs: fits ? 0 : Math.max(1, Math.ceil(((used + 1 - limit - ROUNDING) * WINDOW_MS) / limit)),
  };
}

export function slotsRule(limit: number, inHand: number): RateRule {
  const remaining = Math.max(0, limit - inHand);
  return {
    name: "key-concurrency",
    limit,
    remaining,
    resetMs: inHand > 0 ? SLOT_WAIT_MS : 0,
    waitMs: remaining > 0 ? 0 : SLOT_WAIT_MS,
  };
}
