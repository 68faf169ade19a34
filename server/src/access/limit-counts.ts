import type { Clock } from "../lib/clock.ts";
import { drained, WINDOW_MS } from "./leaky-bucket.ts";
import type { RateVerdict } from "./rate-limiter.ts";
import { type RateLimits, rulesOf, type UsedOfLimits, verdictOf } from "./rate-limits.ts";

/** What every rule has counted, in this process's memory. */
export interface LimitCounts {
  /** Counts the request, and takes a slot, if no rule refuses it. */
  admit(limits: RateLimits): RateVerdict;
  peek(limits: RateLimits): RateVerdict;
  /** Counts a request that was admitted elsewhere. */
  count(limits: RateLimits): void;
  charge(limits: RateLimits, tokens: number): void;
  /** Gives back one slot of the key. */
  release(limits: RateLimits): void;
}

/**
 * At most `maxKeys` keys are held, and as many addresses. Those whose use has drained away go first and lose nothing by it; if
 * none has, the one that was counted longest ago goes. A flood from many addresses pushes out addresses, never keys.
 */
export function createLimitCounts(options: { readonly clock: Clock; readonly maxKeys?: number }): LimitCounts {
  const { clock, maxKeys = 100_000 } = options;
  const requests = createBuckets(maxKeys);
  const tokens = createBuckets(maxKeys);
  const addresses = createBuckets(maxKeys);
  /** As many as there are requests in hand, so bounded by them. */
  const inHand = new Map<string, number>();

  const usedAt = (limits: RateLimits, nowMs: number): UsedOfLimits => ({
    requests: requests.used(limits.keyId, limits.requestsPerMin, nowMs),
    tokens: limits.tokensPerMin === undefined ? 0 : tokens.used(limits.keyId, limits.tokensPerMin, nowMs),
    addressRequests: limits.address ? addresses.used(limits.address.group, limits.address.requestsPerMin, nowMs) : 0,
    inHand: limits.concurrentRequests === undefined ? 0 : (inHand.get(limits.keyId) ?? 0),
  });

  function count(limits: RateLimits, used: UsedOfLimits, nowMs: number): UsedOfLimits {
    const { keyId, requestsPerMin, concurrentRequests, address } = limits;
    const counted = {
      requests: used.requests + 1,
      tokens: used.tokens,
      addressRequests: used.addressRequests + 1,
      inHand: used.inHand + 1,
    };
    requests.keep(keyId, requestsPerMin, counted.requests, nowMs);
    if (address) addresses.keep(address.group, address.requestsPerMin, counted.addressRequests, nowMs);
    if (concurrentRequests !== undefined) inHand.set(keyId, counted.inHand);
    return counted;
  }

  return {
    admit(limits) {
      const nowMs = clock.monotonicMs();
      const used = usedAt(limits, nowMs);
      const verdict = verdictOf(rulesOf(limits, used));
      if (!verdict.allowed) return verdict;
      return { allowed: true, rules: rulesOf(limits, count(limits, used, nowMs)) };
    },
    peek: (limits) => verdictOf(rulesOf(limits, usedAt(limits, clock.monotonicMs()))),
    count(limits) {
      const nowMs = clock.monotonicMs();
      count(limits, usedAt(limits, nowMs), nowMs);
    },
    charge({ keyId, tokensPerMin }, amount) {
      if (tokensPerMin === undefined) return;
      const nowMs = clock.monotonicMs();
      tokens.keep(keyId, tokensPerMin, tokens.used(keyId, tokensPerMin, nowMs) + amount, nowMs);
    },
    release({ keyId }) {
      const left = (inHand.get(keyId) ?? 0) - 1;
      if (left > 0) inHand.set(keyId, left);
      else inHand.delete(keyId);
    },
  };
}

interface Bucket {
  used: number;
  atMs: number;
  emptyAtMs: number;
}

const SWEEP_INTERVAL_MS = 1_000;

function createBuckets(maxKeys: number) {
  const buckets = new Map<string, Bucket>();
  let sweptAtMs = Number.NEGATIVE_INFINITY;

  function makeRoom(nowMs: number): void {
    if (buckets.size < maxKeys) return;
    if (nowMs - sweptAtMs >= SWEEP_INTERVAL_MS) {
      sweptAtMs = nowMs;
      for (const [subject, bucket] of buckets) if (bucket.emptyAtMs <= nowMs) buckets.delete(subject);
    }
    if (buckets.size < maxKeys) return;
    const longestAgo = buckets.keys().next();
    if (!longestAgo.done) buckets.delete(longestAgo.value);
  }

  return {
    used(subject: string, limit: number, nowMs: number): number {
      const bucket = buckets.get(subject);
      return bucket === undefined ? 0 : drained(bucket.used, nowMs - bucket.atMs, limit);
    },
    keep(subject: string, limit: number, used: number, nowMs: number): void {
      // Deleting first keeps the map in the order in which subjects were last counted.
      if (!buckets.delete(subject)) makeRoom(nowMs);
      buckets.set(subject, { used, atMs: nowMs, emptyAtMs: nowMs + (used * WINDOW_MS) / limit });
    },
  };
}
