import { BrikkError } from "../errors.ts";
import { ANONYMOUS_KEY_ID, type ApiKey } from "./api-key.ts";
import type { RateRule, Refused } from "./rate-limiter.ts";

/** The 429 of a decision: one sentence for a person, the rule and its numbers for a program. */
export function rateLimitRefusal(key: ApiKey, { refusedBy }: Refused): BrikkError {
  const { name, limit, remaining, waitMs } = refusedBy;
  const seconds = Math.ceil(waitMs / 1_000);
  return new BrikkError("rate_limit_exceeded", sentence(key, refusedBy, seconds), {
    retryAfterMs: waitMs,
    details: {
      scope: name === "ip-rpm" ? "ip" : "key",
      rule: name,
      window: name === "key-concurrency" ? null : "minute",
      limit,
      remaining,
      reset_seconds: seconds,
    },
  });
}

function sentence(key: ApiKey, { name, limit }: RateRule, seconds: number): string {
  switch (name) {
    case "key-rpm":
      return key.id === ANONYMOUS_KEY_ID
        ? `Callers without a key share ${limit} requests a minute, and they are used up. The next one is accepted in ${seconds} s; a key of your own has its own limit.`
        : `This key may make ${limit} requests a minute, and they are used up. The next one is accepted in ${seconds} s.`;
    case "ip-rpm":
      return `Callers without a key may make ${limit} requests a minute from one address, and yours has used them up. The next one is accepted in ${seconds} s; a key of your own has its own limit.`;
    case "key-tpm":
      return `This key may use ${limit} tokens a minute, and its requests have used them up. The next one is accepted in ${seconds} s.`;
    case "key-concurrency":
      return `This key may have ${limit === 1 ? "1 request" : `${limit} requests`} in hand at once, and has. The next one is accepted when one of them ends.`;
    default:
      return name satisfies never;
  }
}
