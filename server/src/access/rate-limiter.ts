import type { Clock } from "../lib/clock.ts";

const WINDOW_MS = 60_000;
const SWEEP_INTERVAL_MS = 1_000;
/** Rounding of floating-point sums must not turn away a request that is due. */
const ROUNDING_MS = 1e-6;

export interface RateDecision {
  readonly allowed: boolean;
  /** Requests per minute, and the most that may come at once. */
  readonly limit: number;
  /** How many more would pass right now. */
  readonly remaining: number;
  /** Until the whole limit is there again, if nothing more comes; rounded up. */
  readonly resetSeconds: number;
  /** Until the next request would pass; 0 when one would pass now. Rounded up. */
  readonly retryAfterMs: number;
}

/** A seam: limits in memory hold per process; shared ones stand behind the same call. */
export interface RateLimiter {
  /** Counts one request of the subject if it may pass. A limit of 0 lets nothing pass. */
  take(subject: string, limitPerMin: number): RateDecision;
}

/**
 * GCRA, the generic cell rate algorithm (ITU-T I.371), in memory. A subject that was idle may send its whole limit at once and
 * then one request per `60 s / limit`; so in any stretch of t seconds no more than `limit + t * limit / 60` pass, and there is
 * no window whose edge allows a second burst. State is one number per subject: its theoretical arrival time, the moment at
 * which its debt is paid.
 *
 * At most `maxKeys` subjects are held. Those whose debt is paid go first and lose nothing by it; if all are in debt, the one
 * that was let through longest ago goes.
 */
export function createRateLimiter(options: { readonly clock: Clock; readonly maxKeys?: number }): RateLimiter {
  const { clock, maxKeys = 100_000 } = options;
  const arrivals = new Map<string, number>();
  let sweptAtMs = Number.NEGATIVE_INFINITY;

  function makeRoom(nowMs: number): void {
    if (arrivals.size < maxKeys) return;
    if (nowMs - sweptAtMs >= SWEEP_INTERVAL_MS) {
      sweptAtMs = nowMs;
      for (const [subject, arrivalMs] of arrivals) if (arrivalMs <= nowMs) arrivals.delete(subject);
    }
    if (arrivals.size < maxKeys) return;
    const longestAgo = arrivals.keys().next();
    if (!longestAgo.done) arrivals.delete(longestAgo.value);
  }

  return {
    take(subject, limitPerMin) {
      const nowMs = clock.monotonicMs();
      if (limitPerMin <= 0)
        return { allowed: false, limit: 0, remaining: 0, resetSeconds: WINDOW_MS / 1_000, retryAfterMs: WINDOW_MS };
      const stepMs = WINDOW_MS / limitPerMin;
      const arrivalMs = Math.max(arrivals.get(subject) ?? nowMs, nowMs);
      const nextArrivalMs = arrivalMs + stepMs;
      const waitMs = msUntil(nextArrivalMs - WINDOW_MS, nowMs);
      if (waitMs > 0) {
        return {
          allowed: false,
          limit: limitPerMin,
          remaining: 0,
          resetSeconds: secondsUntil(arrivalMs, nowMs),
          retryAfterMs: waitMs,
        };
      }
      // Deleting first keeps the map in the order in which subjects were last let through.
      if (!arrivals.delete(subject)) makeRoom(nowMs);
      arrivals.set(subject, nextArrivalMs);
      const remaining = Math.max(0, Math.floor((WINDOW_MS - (nextArrivalMs - nowMs) + ROUNDING_MS) / stepMs));
      return {
        allowed: true,
        limit: limitPerMin,
        remaining,
        resetSeconds: secondsUntil(nextArrivalMs, nowMs),
        retryAfterMs: msUntil(nextArrivalMs + stepMs - WINDOW_MS, nowMs),
      };
    },
  };
}

/** Whole milliseconds from now on, rounded up; 0 when the moment has come. */
const msUntil = (thenMs: number, nowMs: number): number => Math.max(0, Math.ceil(thenMs - nowMs - ROUNDING_MS));

const secondsUntil = (thenMs: number, nowMs: number): number => Math.ceil(msUntil(thenMs, nowMs) / 1_000);
