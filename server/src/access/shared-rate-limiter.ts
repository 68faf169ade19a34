import type { Clock } from "../lib/clock.ts";
import { randomBase62 } from "../lib/ids.ts";
import { createLimitCounts } from "./limit-counts.ts";
import type { Admission, Admitted, RateLimiter } from "./rate-limiter.ts";
import { type RateLimits, type RateLimitSettings, rateLimitsOf } from "./rate-limits.ts";
import { createRedisLimitCounts, SLOT_TTL_MS } from "./redis-limit-counts.ts";
import { openRedisLink } from "./redis-link.ts";

/** Twice may fail before a slot is lost. */
const HOLD_INTERVAL_MS = SLOT_TTL_MS / 3;

export interface SharedRateLimiterOptions {
  readonly settings: RateLimitSettings;
  /** redis:// or rediss:// */
  readonly url: string;
  /** How long a decision may wait for Redis before it is taken in memory. */
  readonly timeoutMs: number;
  readonly clock: Clock;
  readonly maxKeys?: number;
  /** Once on the way down, and once on the way back. */
  readonly onDown: (error: unknown) => void;
  readonly onUp: () => void;
  /** The time in Redis, in place of the server's own: for tests that turn it. */
  readonly redisNowMs?: () => number;
}

interface Slot {
  readonly id: string;
  readonly keyId: string;
  /** Redis has it, or may have it: a command whose answer never came may have run. */
  maybeInRedis: boolean;
}

/**
 * Limits that hold over all instances, counted in Redis: one command for each decision.
 *
 * What this instance admits it also counts in memory. When Redis is down, the same limits go on there, knowing what this
 * instance itself has let through and has in hand. What was counted meanwhile is not brought to Redis later; slots are: those
 * in hand are taken, those given back are freed.
 *
 * A slot in Redis lives for a minute and is renewed while it is held, so those of a killed instance come free by themselves.
 */
export async function openSharedRateLimiter(options: SharedRateLimiterOptions): Promise<RateLimiter> {
  const { settings, url, timeoutMs, onDown, onUp } = options;
  const memory = createLimitCounts(options);
  const held = new Set<Slot>();
  /** Given back while Redis could not be told. */
  const leftBehind = new Set<Slot>();
  const instanceId = randomBase62(12);
  let lastSlot = 0;

  const link = await openRedisLink({
    url,
    timeoutMs,
    probe: (client) => createRedisLimitCounts(client, options.redisNowMs).probe(),
    onDown,
    onUp: () => {
      holdSlots();
      eachKey(leftBehind, (keyId, ids) => redis.release(keyId, ids));
      leftBehind.clear();
      onUp();
    },
  });
  const redis = createRedisLimitCounts(link.client, options.redisNowMs);
  const holding = setInterval(holdSlots, HOLD_INTERVAL_MS).unref();

  /** A command whose answer nobody waits for. Its failure takes the link down, which is said there. */
  const tell = (work: () => Promise<unknown>): void => {
    if (link.up) link.ask(work).catch(() => undefined);
  };

  function eachKey(slots: Iterable<Slot>, work: (keyId: string, ids: string[]) => Promise<unknown>): void {
    for (const [keyId, ofKey] of Map.groupBy(slots, (slot) => slot.keyId))
      tell(() =>
        work(
          keyId,
          ofKey.map(({ id }) => id),
        ),
      );
  }

  function holdSlots(): void {
    for (const slot of held) slot.maybeInRedis = true;
    eachKey(held, (keyId, ids) => redis.hold(keyId, ids));
  }

  function newSlot({ keyId, concurrentRequests }: RateLimits): Slot | undefined {
    if (concurrentRequests === undefined) return undefined;
    lastSlot += 1;
    return { id: `${instanceId}-${lastSlot}`, keyId, maybeInRedis: false };
  }

  function release(limits: RateLimits, slot: Slot): void {
    if (!held.delete(slot)) return;
    memory.release(limits);
    forget(slot);
  }

  function forget(slot: Slot): void {
    if (!slot.maybeInRedis) return;
    if (link.up) tell(() => redis.release(slot.keyId, [slot.id]));
    else leftBehind.add(slot);
  }

  function admitted(limits: RateLimits, slot: Slot | undefined, rules: Admitted["rules"]): Admitted {
    if (slot) held.add(slot);
    return {
      allowed: true,
      rules,
      release: slot && (() => release(limits, slot)),
      charge: (tokens) => {
        const { keyId, tokensPerMin } = limits;
        if (tokensPerMin === undefined) return;
        memory.charge(limits, tokens);
        tell(() => redis.charge(keyId, tokensPerMin, tokens));
      },
    };
  }

  function admitInMemory(limits: RateLimits, slot: Slot | undefined): Admission {
    const verdict = memory.admit(limits);
    if (verdict.allowed) return admitted(limits, slot, verdict.rules);
    if (slot) forget(slot);
    return verdict;
  }

  async function admitInRedis(limits: RateLimits, slot: Slot | undefined): Promise<Admission> {
    if (slot) slot.maybeInRedis = true;
    try {
      const verdict = await link.ask(() => redis.admit(limits, slot?.id));
      if (!verdict.allowed) return verdict;
      memory.count(limits);
      return admitted(limits, slot, verdict.rules);
    } catch {
      return admitInMemory(limits, slot);
    }
  }

  return {
    get place() {
      return link.up ? "redis" : "memory-while-redis-is-down";
    },
    admit(caller) {
      const limits = rateLimitsOf(settings, caller);
      const slot = newSlot(limits);
      return link.up ? admitInRedis(limits, slot) : admitInMemory(limits, slot);
    },
    peek(caller) {
      const limits = rateLimitsOf(settings, caller);
      if (!link.up) return memory.peek(limits);
      return link.ask(() => redis.peek(limits)).catch(() => memory.peek(limits));
    },
    close() {
      clearInterval(holding);
      return link.close();
    },
  };
}
