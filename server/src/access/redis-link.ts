import { Redis } from "ioredis";
import { redisScripts, type ScriptedRedis } from "./redis-limit-counts.ts";

const CONNECT_TIMEOUT_MS = 1_000;
/** A server that hangs does not close its end either. */
const DISCONNECT_TIMEOUT_MS = 100;
const PROBE_INTERVAL_MS = 500;
const MAX_PROBE_INTERVAL_MS = 30_000;
/** Up for less than this, it may be about to fail again. */
const SETTLED_MS = 10_000;
/** A timer that fires this much late says that this thread was busy, and nothing about the server. */
const BUSY_THREAD_MS = 20;

/**
 * A connection that is either up or down:
 *
 *   up   -> the first command that fails or takes longer than its timeout, or a connection that cannot be made -> down
 *   down -> nothing is asked; a probe in the background every half second (less often when it was up only shortly) -> up
 *
 * So while the server is down nobody waits for it.
 */
export interface RedisLink {
  readonly client: ScriptedRedis;
  readonly up: boolean;
  /** Rejects at once when the link is down, and within about the timeout when the server does not answer. */
  ask<Answer>(work: () => Promise<Answer>): Promise<Answer>;
  close(): Promise<void>;
}

export interface RedisLinkOptions {
  readonly url: string;
  /** A command that takes longer is given up: the limit can be decided without it. */
  readonly timeoutMs: number;
  readonly probe: (client: ScriptedRedis) => Promise<unknown>;
  /** Once on the way down, and once on the way back. */
  readonly onDown: (error: unknown) => void;
  readonly onUp: () => void;
}

/** Resolves when the first attempt to reach the server has succeeded or failed, within a few seconds. Never rejects. */
export async function openRedisLink({ url, timeoutMs, probe, onDown, onUp }: RedisLinkOptions): Promise<RedisLink> {
  const client = new Redis(url, {
    lazyConnect: true,
    connectTimeout: CONNECT_TIMEOUT_MS,
    disconnectTimeout: DISCONNECT_TIMEOUT_MS,
    retryStrategy: (attempts) => Math.min(50 * 2 ** attempts, PROBE_INTERVAL_MS),
    // What cannot be sent now is decided in memory now; sent later it would count what was never asked.
    enableOfflineQueue: false,
    autoResendUnfulfilledCommands: false,
    // Rejects what a broken connection leaves unanswered; without it such a command never settles, and the pipelines behind it wait.
    maxRetriesPerRequest: 0,
    enableAutoPipelining: true,
    // The scripts' answers are plain strings, and servers from before RESP3 do as well.
    protocol: 2,
    disableClientInfo: true,
    scripts: redisScripts,
  }) as ScriptedRedis;

  let state: "starting" | "up" | "down" | "closed" = "starting";
  let upSinceMs = Number.NEGATIVE_INFINITY;
  let probeIntervalMs = PROBE_INTERVAL_MS;
  let probeTimer: NodeJS.Timeout | undefined;

  function goDown(error: unknown): void {
    if (state !== "up" && state !== "starting") return;
    const relapsed = performance.now() - upSinceMs < SETTLED_MS;
    probeIntervalMs = relapsed ? Math.min(2 * probeIntervalMs, MAX_PROBE_INTERVAL_MS) : PROBE_INTERVAL_MS;
    state = "down";
    // A connection that swallowed a command may swallow the next ones too.
    if (error instanceof RedisTimeout) reconnect();
    probeTimer = setTimeout(tryAgain, probeIntervalMs).unref();
    onDown(error);
  }

  function goUp(): void {
    if (state === "closed") return;
    const wasDown = state === "down";
    state = "up";
    upSinceMs = performance.now();
    if (wasDown) onUp();
  }

  function reconnect(): void {
    if (client.status === "ready") client.disconnect(true);
  }

  function tryAgain(): void {
    within(timeoutMs, probe(client)).then(goUp, (error: unknown) => {
      if (state === "closed") return;
      if (error instanceof RedisTimeout) reconnect();
      probeTimer = setTimeout(tryAgain, probeIntervalMs).unref();
    });
  }

  client.on("error", goDown);
  try {
    await within(CONNECT_TIMEOUT_MS + timeoutMs, client.connect());
    await within(CONNECT_TIMEOUT_MS + timeoutMs, probe(client));
    goUp();
  } catch (error) {
    goDown(error);
  }

  return {
    client,
    get up() {
      return state === "up";
    },
    async ask(work) {
      if (state !== "up") throw new Error("Redis is not asked while it is down.");
      try {
        return await within(timeoutMs, work());
      } catch (error) {
        goDown(error);
        throw error;
      }
    },
    async close() {
      const wasUp = state === "up";
      state = "closed";
      clearTimeout(probeTimer);
      // Answered in order, so what was asked before has arrived.
      if (wasUp) await within(timeoutMs, probe(client)).catch(() => undefined);
      client.disconnect();
    },
  };
}

class RedisTimeout extends Error {
  override readonly name = "RedisTimeout";

  constructor(timeoutMs: number) {
    super(`No answer within ${timeoutMs} ms.`);
  }
}

function within<Answer>(timeoutMs: number, work: Promise<Answer>): Promise<Answer> {
  return new Promise((resolve, reject) => {
    let dueMs = performance.now() + timeoutMs;
    const expire = (): void => {
      if (performance.now() - dueMs < BUSY_THREAD_MS) return reject(new RedisTimeout(timeoutMs));
      dueMs = performance.now() + timeoutMs;
      timer = setTimeout(expire, timeoutMs);
    };
    let timer = setTimeout(expire, timeoutMs);
    work.then(resolve, reject).finally(() => clearTimeout(timer));
  });
}
