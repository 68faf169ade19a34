import type { RateRule, RateVerdict } from "./rate-limiter.ts";

/**
 * What a decision says of itself in headers: the customary X-RateLimit-*, for the requests rule with the least left; the IETF's
 * pair (draft-ietf-httpapi-ratelimit-headers), for every rule that has a window; and OpenAI's names, which its SDKs' users read.
 *
 * `Reset` and `t` are the seconds until the whole limit is there again; of a rule with nothing left, until one more would pass,
 * which on a refusal is Retry-After's moment, as the draft asks. OpenAI's resets are always for the whole limit.
 */
export function rateLimitHeaders({ rules }: RateVerdict): Record<string, string> {
  let requests = rules[0]!;
  let tokens: RateRule | undefined;
  let standing = "";
  let policy = "";
  for (const rule of rules) {
    if (rule.name === "key-concurrency") continue;
    if (rule.name === "key-tpm") tokens = rule;
    else if (rule.remaining < requests.remaining || rule.waitMs > requests.waitMs) requests = rule;
    const comma = policy === "" ? "" : ", ";
    standing += `${comma}"${rule.name}";r=${rule.remaining};t=${secondsShown(rule)}`;
    policy += `${comma}"${rule.name}";q=${rule.limit};${rule.name === "key-tpm" ? 'qu="tokens";' : ""}w=60`;
  }
  const limit = String(requests.limit);
  const remaining = String(requests.remaining);
  const headers: Record<string, string> = {
    "x-ratelimit-limit": limit,
    "x-ratelimit-remaining": remaining,
    "x-ratelimit-reset": String(secondsShown(requests)),
    ratelimit: standing,
    "ratelimit-policy": policy,
    "x-ratelimit-limit-requests": limit,
    "x-ratelimit-remaining-requests": remaining,
    "x-ratelimit-reset-requests": duration(requests.resetMs),
  };
  if (tokens) {
    headers["x-ratelimit-limit-tokens"] = String(tokens.limit);
    headers["x-ratelimit-remaining-tokens"] = String(tokens.remaining);
    headers["x-ratelimit-reset-tokens"] = duration(tokens.resetMs);
  }
  return headers;
}

const secondsShown = (rule: RateRule): number => Math.ceil((rule.waitMs > 0 ? rule.waitMs : rule.resetMs) / 1_000);

/** As OpenAI writes it: `20ms`, `1s`, `6m0s`, `1h0m0s`. */
function duration(ms: number): string {
  if (ms > 0 && ms < 1_000) return `${ms}ms`;
  const seconds = Math.ceil(ms / 1_000);
  if (seconds < 60) return `${seconds}s`;
  const minutes = Math.floor(seconds / 60);
  if (minutes < 60) return `${minutes}m${seconds % 60}s`;
  return `${Math.floor(minutes / 60)}h${minutes % 60}m${seconds % 60}s`;
}
