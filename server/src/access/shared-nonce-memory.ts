import type { Redis } from "ioredis";
import type { Clock } from "../lib/clock.ts";
import { AHEAD_S, type NonceMemory, type NonceVerdict, WINDOW_S } from "./nonce-memory.ts";
import { openRedisLink } from "./redis-link.ts";

/** Instances whose clocks differ by up to this much hold one window together. */
const CLOCKS_DIFFER_S = 60;
const KEPT_MS = (WINDOW_S + AHEAD_S + CLOCKS_DIFFER_S) * 1_000;

/**
 * KEYS: since when nonces are remembered here, and a nonce. ARGV: when its signature was created, the present second, the
 * latest second that is present anywhere, and how long the nonce is kept in ms.
 *
 * A server that lost what it held, by a restart or a flush, has lost the first key as well. It is written anew with the present,
 * and what was created before is not taken. An instance whose clock was far ahead may have written it; the next one mends that.
 */
const TAKE = `
local since = redis.call('GET', KEYS[1])
if not since or tonumber(since) > tonumber(ARGV[3]) then
  since = ARGV[2]
  redis.call('SET', KEYS[1], since)
end
if tonumber(ARGV[1]) < tonumber(since) then return since end
if redis.call('SET', KEYS[2], '', 'NX', 'PX', ARGV[4]) then return 'new' end
return 'used'
`;

type NonceRedis = Redis & { brikkTakeNonce(...keysAndArguments: (string | number)[]): Promise<string> };

/** One hash tag, so that both keys of the script are on one node of a cluster. */
const SINCE = "brikk:{nonces}:since";

/**
 * Nonces that all instances share: one command for each signed request, one atomic script. When Redis does not answer, `take`
 * rejects: a memory of this instance alone would take what another one has taken.
 */
export async function openSharedNonceMemory(options: {
  /** redis:// or rediss:// */
  readonly url: string;
  readonly timeoutMs: number;
  readonly clock: Clock;
  /** Once on the way down, and once on the way back. */
  readonly onDown: (error: unknown) => void;
  readonly onUp: () => void;
}): Promise<NonceMemory> {
  const { url, timeoutMs, clock, onDown, onUp } = options;
  const nowS = (): number => Math.ceil(clock.now() / 1_000);
  const link = await openRedisLink({
    url,
    timeoutMs,
    // Also says since when: the first signed request then need not be refused for being older than the memory.
    probe: (client) => client.set(SINCE, nowS(), "NX"),
    onDown,
    onUp,
  });
  link.client.defineCommand("brikkTakeNonce", { lua: TAKE, numberOfKeys: 2 });
  const client = link.client as unknown as NonceRedis;
  return {
    async take({ keyId, nonce, createdS }): Promise<NonceVerdict> {
      const answer = await link.ask(() =>
        client.brikkTakeNonce(
          SINCE,
          `brikk:{nonces}:${keyId}:${nonce}`,
          createdS,
          nowS(),
          nowS() + CLOCKS_DIFFER_S,
          KEPT_MS,
        ),
      );
      return answer === "new" || answer === "used"
        ? { kind: answer }
        : { kind: "not-known", knownFromS: Number(answer) };
    },
    close: () => link.close(),
  };
}
