import { addressGroup } from "./address-group.ts";
import { ANONYMOUS_KEY_ID } from "./api-key.ts";
import { bucketRule, slotsRule } from "./leaky-bucket.ts";
import type { Caller, RateRule, RateVerdict } from "./rate-limiter.ts";

/** What holds where a key says nothing of its own. */
export interface RateLimitSettings {
  readonly requestsPerMin: number;
  /** Of callers without a key: per address. */
  readonly anonymousRequestsPerMin: number;
}

/** The rules that apply to one request. */
export interface RateLimits {
  readonly keyId: string;
  readonly requestsPerMin: number;
  readonly tokensPerMin: number | undefined;
  readonly concurrentRequests: number | undefined;
  /** Callers without a key share one; each address has its own share of it besides. */
  readonly address: { readonly group: string; readonly requestsPerMin: number } | undefined;
}

export function rateLimitsOf(settings: RateLimitSettings, { key, remoteAddress, withoutSlot }: Caller): RateLimits {
  return {
    keyId: key.id,
    requestsPerMin: key.rateLimitPerMin ?? settings.requestsPerMin,
    tokensPerMin: key.tokensPerMin,
    concurrentRequests: withoutSlot === true ? undefined : key.maxConcurrentRequests,
    address:
      key.id === ANONYMOUS_KEY_ID
        ? { group: addressGroup(remoteAddress), requestsPerMin: settings.anonymousRequestsPerMin }
        : undefined,
  };
}

/** What is used of each rule; 0 where the rule does not apply. */
export interface UsedOfLimits {
  readonly requests: number;
  readonly tokens: number;
  readonly addressRequests: number;
  readonly inHand: number;
}

export function rulesOf(limits: RateLimits, used: UsedOfLimits): RateRule[] {
  const rules = [bucketRule("key-rpm", limits.requestsPerMin, used.requests)];
  if (limits.address) rules.push(bucketRule("ip-rpm", limits.address.requestsPerMin, used.addressRequests));
  if (limits.tokensPerMin !== undefined) rules.push(bucketRule("key-tpm", limits.tokensPerMin, used.tokens));
  if (limits.concurrentRequests !== undefined) rules.push(slotsRule(limits.concurrentRequests, used.inHand));
  return rules;
}

/** The verdict of rules that have counted nothing yet. */
export function verdictOf(rules: readonly RateRule[]): RateVerdict {
  let refusedBy: RateRule | undefined;
  for (const rule of rules) if (rule.waitMs > (refusedBy?.waitMs ?? 0)) refusedBy = rule;
  return refusedBy === undefined ? { allowed: true, rules } : { allowed: false, rules, refusedBy };
}
