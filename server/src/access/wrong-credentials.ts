import { BrikkError } from "../errors.ts";
import type { Clock } from "../lib/clock.ts";
import { addressGroup } from "./address-group.ts";
import { createLimitCounts } from "./limit-counts.ts";
import type { RateLimits } from "./rate-limits.ts";

/** How many wrong keys or tokens an address may send before nothing more is tried for it, kept in this process's memory. */
export interface WrongCredentials {
  /** The 429 for an address that has sent too many; undefined: it may try. */
  refusal(ip: string): BrikkError | undefined;
  /** One more was wrong. */
  count(ip: string): void;
}

export function createWrongCredentials(options: {
  readonly clock: Clock;
  readonly mostPerMin: number;
  /** As `details` names it. */
  readonly rule: string;
  readonly sentence: (seconds: number) => string;
}): WrongCredentials {
  const { clock, mostPerMin, rule, sentence } = options;
  const counts = createLimitCounts({ clock });
  let any = false;

  /** One bucket for each address, in the limiter's terms. */
  const limitsOf = (ip: string): RateLimits => ({
    keyId: addressGroup(ip),
    requestsPerMin: mostPerMin,
    tokensPerMin: undefined,
    concurrentRequests: undefined,
    address: undefined,
  });

  return {
    refusal(ip) {
      // Asked for every request, and nearly always of a server on which nobody was wrong yet.
      if (!any) return undefined;
      const verdict = counts.peek(limitsOf(ip));
      if (verdict.allowed) return undefined;
      const { waitMs } = verdict.refusedBy;
      const seconds = Math.ceil(waitMs / 1_000);
      return new BrikkError("rate_limit_exceeded", sentence(seconds), {
        retryAfterMs: waitMs,
        details: { scope: "ip", rule, window: "minute", limit: mostPerMin, remaining: 0, reset_seconds: seconds },
      });
    },
    count(ip) {
      any = true;
      counts.count(limitsOf(ip));
    },
  };
}
