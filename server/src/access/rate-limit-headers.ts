import type { RateDecision } from "./rate-limiter.ts";

/**
 * The customary headers and the IETF pair (draft-ietf-httpapi-ratelimit-headers) of a decision. `Reset` and `t` are seconds
 * until the whole limit is there again; when the next request may come is Retry-After's to say.
 */
export function rateLimitHeaders(decision: RateDecision): Record<string, string> {
  const { limit, remaining, resetSeconds } = decision;
  return {
    "x-ratelimit-limit": String(limit),
    "x-ratelimit-remaining": String(remaining),
    "x-ratelimit-reset": String(resetSeconds),
    ratelimit: `"key-rpm";r=${remaining};t=${resetSeconds}`,
    "ratelimit-policy": `"key-rpm";q=${limit};w=60`,
  };
}
