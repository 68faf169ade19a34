import type { Clock } from "../lib/clock.ts";
import { createLimitCounts } from "./limit-counts.ts";
import type { RateLimiter } from "./rate-limiter.ts";
import { type RateLimitSettings, rateLimitsOf } from "./rate-limits.ts";

/** Limits that hold for this process alone: right for one instance. */
export function createMemoryRateLimiter(options: {
  readonly settings: RateLimitSettings;
  readonly clock: Clock;
  readonly maxKeys?: number;
}): RateLimiter {
  const counts = createLimitCounts(options);
  return {
    place: "memory",
    admit(caller) {
      const limits = rateLimitsOf(options.settings, caller);
      const verdict = counts.admit(limits);
      if (!verdict.allowed) return verdict;
      let held = limits.concurrentRequests !== undefined;
      const release = (): void => {
        if (held) counts.release(limits);
        held = false;
      };
      return {
        allowed: true,
        rules: verdict.rules,
        release: held ? release : undefined,
        charge: (tokens) => counts.charge(limits, tokens),
      };
    },
    peek: (caller) => counts.peek(rateLimitsOf(options.settings, caller)),
    close: () => Promise.resolve(),
  };
}
