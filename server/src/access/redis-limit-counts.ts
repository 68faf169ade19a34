import type { Redis } from "ioredis";
import { ROUNDING } from "./leaky-bucket.ts";
import type { RateVerdict } from "./rate-limiter.ts";
import { type RateLimits, rulesOf, verdictOf } from "./rate-limits.ts";

/** How long a slot is held without word from its instance. Those of a killed instance come free after this time. */
export const SLOT_TTL_MS = 60_000;

const MICROSECONDS_PER_MINUTE = 60_000_000;

/**
 * What all scripts share. Time is the server's, in whole microseconds, which a double holds exactly; so instances whose clocks
 * differ agree. A bucket is the text `USED:AT`, gone by itself once it has drained. A server that took over with a clock behind
 * its predecessor's finds buckets of the future; they drain from its own present on.
 */
const PRELUDE = `
local function time_us()
  if ARGV[1] ~= '' then return tonumber(ARGV[1]) end
  local time = redis.call('TIME')
  return time[1] * 1000000 + time[2]
end
local function keep(key, limit, used, now)
  local ttl_ms = math.ceil(used * 60000 / limit) + 1000
  redis.call('SET', key, string.format('%.17g:%.0f', used, now), 'PX', string.format('%.0f', ttl_ms))
end
local function used_at(key, limit, now, writing)
  local bucket = redis.call('GET', key)
  if not bucket then return 0 end
  local colon = string.find(bucket, ':', 1, true)
  local used = tonumber(string.sub(bucket, 1, colon - 1))
  local elapsed = now - tonumber(string.sub(bucket, colon + 1))
  if elapsed < 0 then
    if writing then keep(key, limit, used, now) end
    return used
  end
  return math.max(0, used - elapsed * limit / ${MICROSECONDS_PER_MINUTE})
end
`;

/**
 * ARGV: time, whether to count, the slots' limit or '', a slot's id and life in ms, then for each bucket its limit and what a
 * request adds to it. KEYS: the buckets, then the slots. Gives whether it passed, what each bucket holds, and the slots in hand.
 */
const DECIDE = `${PRELUDE}
local now = time_us()
local counting = ARGV[2] == '1'
local slots = ARGV[3] ~= '' and KEYS[#KEYS] or nil
local buckets = slots and #KEYS - 1 or #KEYS
local passed = true
local used, in_hand = {}, 0
for index = 1, buckets do
  local limit = tonumber(ARGV[4 + 2 * index])
  used[index] = used_at(KEYS[index], limit, now, counting)
  if used[index] + 1 > limit + ${ROUNDING} then passed = false end
end
if slots then
  if counting then redis.call('ZREMRANGEBYSCORE', slots, '-inf', string.format('%.0f', now)) end
  in_hand = redis.call('ZCOUNT', slots, string.format('(%.0f', now), '+inf')
  if in_hand >= tonumber(ARGV[3]) then passed = false end
end
if passed and counting then
  for index = 1, buckets do
    local amount = tonumber(ARGV[5 + 2 * index])
    if amount > 0 then
      used[index] = used[index] + amount
      keep(KEYS[index], tonumber(ARGV[4 + 2 * index]), used[index], now)
    end
  end
  if slots then
    redis.call('ZADD', slots, string.format('%.0f', now + ARGV[5] * 1000), ARGV[4])
    redis.call('PEXPIRE', slots, ARGV[5])
    in_hand = in_hand + 1
  end
end
local answer = { passed and '1' or '0' }
for index = 1, buckets do answer[index + 1] = string.format('%.17g', used[index]) end
answer[buckets + 2] = tostring(in_hand)
return answer
`;

/** KEYS: a bucket. ARGV: time, limit, amount. */
const CHARGE = `${PRELUDE}
local now, limit = time_us(), tonumber(ARGV[2])
keep(KEYS[1], limit, used_at(KEYS[1], limit, now, false) + ARGV[3], now)
`;

/** KEYS: a key's slots. ARGV: time, a slot's life in ms, ids of slots that are still held. */
const HOLD = `${PRELUDE}
local expiry = string.format('%.0f', time_us() + ARGV[2] * 1000)
for index = 3, #ARGV do redis.call('ZADD', KEYS[1], expiry, ARGV[index]) end
redis.call('PEXPIRE', KEYS[1], ARGV[2])
`;

export const redisScripts = {
  brikkDecide: { lua: DECIDE },
  brikkCharge: { lua: CHARGE, numberOfKeys: 1 },
  brikkHold: { lua: HOLD, numberOfKeys: 1 },
};

type Argument = string | number;

/** A client with the scripts; ioredis makes the methods from their names. */
export type ScriptedRedis = Redis & {
  brikkDecide(keyCount: number, ...keysAndArguments: Argument[]): Promise<string[]>;
  brikkCharge(key: string, ...rest: Argument[]): Promise<unknown>;
  brikkHold(key: string, ...rest: Argument[]): Promise<unknown>;
};

/** What every rule has counted, in Redis. One command each, one atomic script each; rejects as the client does. */
export interface RedisLimitCounts {
  /** Counts the request, and takes the slot, if no rule refuses it. */
  admit(limits: RateLimits, slotId: string | undefined): Promise<RateVerdict>;
  peek(limits: RateLimits): Promise<RateVerdict>;
  charge(keyId: string, tokensPerMin: number, tokens: number): Promise<unknown>;
  /** These slots are still held, or are to be taken whatever the limit says. */
  hold(keyId: string, slotIds: readonly string[]): Promise<unknown>;
  release(keyId: string, slotIds: readonly string[]): Promise<unknown>;
  /** Resolves when the server runs scripts and takes writes. */
  probe(): Promise<unknown>;
}

/**
 * The keys of one decision share a hash tag, which puts them on one node of a cluster, as a script needs it. `nowMs` is for
 * tests that turn the time.
 */
export function createRedisLimitCounts(client: ScriptedRedis, nowMs?: () => number): RedisLimitCounts {
  const time = (): Argument => (nowMs === undefined ? "" : Math.round(nowMs() * 1_000));

  async function decide(limits: RateLimits, slotId: string | undefined, counting: boolean): Promise<RateVerdict> {
    const { keyId, requestsPerMin, tokensPerMin, concurrentRequests, address } = limits;
    const keys = [keyOf(keyId, "requests")];
    const buckets = [requestsPerMin, 1];
    if (address) {
      keys.push(keyOf(keyId, `ip:${address.group}`));
      buckets.push(address.requestsPerMin, 1);
    }
    if (tokensPerMin !== undefined) {
      keys.push(keyOf(keyId, "tokens"));
      buckets.push(tokensPerMin, 0);
    }
    const bucketCount = keys.length;
    if (concurrentRequests !== undefined) keys.push(keyOf(keyId, "slots"));
    const answer = await client.brikkDecide(
      keys.length,
      ...keys,
      time(),
      counting ? "1" : "0",
      concurrentRequests ?? "",
      slotId ?? "",
      SLOT_TTL_MS,
      ...buckets,
    );
    const used = answer.slice(1).map(Number);
    const rules = rulesOf(limits, {
      requests: used[0] ?? 0,
      addressRequests: address ? (used[1] ?? 0) : 0,
      tokens: tokensPerMin === undefined ? 0 : (used[bucketCount - 1] ?? 0),
      inHand: used[bucketCount] ?? 0,
    });
    return counting && answer[0] === "1" ? { allowed: true, rules } : verdictOf(rules);
  }

  return {
    admit: (limits, slotId) => decide(limits, slotId, true),
    peek: (limits) => decide(limits, undefined, false),
    charge: (keyId, tokensPerMin, tokens) => client.brikkCharge(keyOf(keyId, "tokens"), time(), tokensPerMin, tokens),
    hold: (keyId, slotIds) => client.brikkHold(keyOf(keyId, "slots"), time(), SLOT_TTL_MS, ...slotIds),
    release: (keyId, slotIds) => client.zrem(keyOf(keyId, "slots"), ...slotIds),
    probe: () => client.brikkCharge(keyOf("probe", "tokens"), time(), 1, 0),
  };
}

const keyOf = (keyId: string, rule: string): string => `brikk:rate:{${keyId}}:${rule}`;
