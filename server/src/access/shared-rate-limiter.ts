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
  /** Given back, and Redis may not know of it. */
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
      const slots = [...leftBehind];
      leftBehind.clear();
      free(slots);
      onUp();
    },
  });
  const redis = createRedisLimitCounts(link.client, options.redisNowMs);
  const holding = setInterval(holdSlots, HOLD_INTERVAL_MS).unref();

  /** A command whose answer nobody waits for. Its failure takes the link down, which is said there. */
  const tell = (work: () => Promise<unknown>): void => {
    if (link.up) link.ask(work).catch(() => undefined);
  };

  function holdSlots(): void {
    // While Redis is down it hears of none, so none need be taken back there.
    if (!link.up) return;
    for (const slot of held) slot.maybeInRedis = true;
    for (const [keyId, slots] of byKey(held)) tell(() => redis.hold(keyId, idsOf(slots)));
  }

  /** Now, or once Redis is back; so too when the command was sent and no answer came, as it may never have run. */
  function free(slots: Iterable<Slot>): void {
    for (const [keyId, ofKey] of byKey(slots))
      link
        .ask(() => redis.release(keyId, idsOf(ofKey)))
        .catch(() => {
          for (const slot of ofKey) leftBehind.add(slot);
        });
  }

  function newSlot({ keyId, concurrentRequests }: RateLimits): Slot | undefined {
    if (concurrentRequests === undefined) return undefined;
    lastSlot += 1;
    return { id: `${instanceId}-${lastSlot}`, keyId, maybeInRedis: false };
  }

  function release(limits: RateLimits, slot: Slot): void {
    if (!held.delete(slot)) return;
    memory.release(limits);
    if (slot.maybeInRedis) free([slot]);
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
    if (slot?.maybeInRedis) free([slot]);
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

const byKey = (slots: Iterable<Slot>): Map<string, Slot[]> => Map.groupBy(slots, ({ keyId }) => keyId);
const idsOf = (slots: readonly Slot[]): string[] => slots.map(({ id }) => id);
