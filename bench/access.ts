import { subscribe, unsubscribe } from "node:diagnostics_channel";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Admitted } from "../server/src/access/rate-limiter.ts";
import { rateLimitHeaders } from "../server/src/access/rate-limit-headers.ts";
import { buildApp } from "../server/src/app.ts";
import { loadConfig } from "../server/src/config.ts";
import { buildGateway } from "../server/src/gateway.ts";
import { openDatabase } from "../server/src/storage/open-database.ts";
import { createLogger } from "../server/src/telemetry/log.ts";

/**
 * What it costs a request to be let in, rate limits apart: who calls, from where, with what signature if its key asks for one,
 * and the note for the audit trail. All hooks of the real app are run on a real request for a closed route and on one for an open
 * route, so that a step which is added later is in the difference by itself. us of CPU per request, the best of the rounds, since
 * whatever else the machine does can only add.
 */
export interface AccessCost {
  /** The hooks before the handler. */
  readonly enterUs: number;
  /** Those after the answer. */
  readonly noteUs: number;
}

const ROUNDS = 15;
const REQUESTS = 20_000;
const KEYS = 1_000;

interface AskedRequest {
  readonly url: string;
}

interface AskedReply {
  headers(values: Readonly<Record<string, string>>): unknown;
}

type Hook = (request: AskedRequest, reply: AskedReply, done: (error?: unknown) => void) => unknown;

/** An app, as far as its hooks are looked at here. */
interface Hooked {
  addHook(name: string, hook: Hook): unknown;
}

interface Held {
  readonly request: AskedRequest;
  readonly reply: AskedReply;
}

export async function measureAccess(): Promise<AccessCost> {
  const hooks: Record<"onRequest" | "onResponse", Hook[]> = { onRequest: [], onResponse: [] };
  const held = new Map<string, Held>();
  const record = (message: unknown): void => {
    const { fastify } = message as { fastify: Hooked };
    fastify.addHook("onRequest", (request, reply, done) => {
      held.set(request.url, { request, reply });
      done();
    });
    const addHook = Reflect.get(fastify, "addHook") as Hooked["addHook"];
    fastify.addHook = function (this: Hooked, name: string, hook: Hook) {
      // Those of the app itself, which every request meets.
      if (this === fastify && Object.hasOwn(hooks, name)) hooks[name as keyof typeof hooks].push(hook);
      return addHook.call(this, name, hook);
    };
  };
  const folder = mkdtempSync(join(tmpdir(), "brikk-bench-access-"));
  const config = loadConfig({
    DATABASE_URL: `sqlite:${join(folder, "brikk.db")}`,
    BRIKK_REQUIRE_AUTH: "true",
    OPENAI_API_KEY: "bench",
  });
  const database = await openDatabase({ url: config.databaseUrl });
  const logger = createLogger({ level: "silent", pretty: false });
  const gateway = await buildGateway({ config, version: "bench", logger, database, simulated: undefined });
  subscribe("fastify.initialization", record);
  const app = await buildApp(gateway);
  unsubscribe("fastify.initialization", record);
  try {
    const url = await app.listen({ host: "127.0.0.1", port: 0 });
    for (let key = 1; key < KEYS; key += 1) await gateway.keyStore.create({ name: `bench ${key}` });
    const { secret } = await gateway.keyStore.create({ name: "bench" });
    for (const path of ["/health", "/keys/me"])
      await (await fetch(`${url}${path}`, { headers: { authorization: `Bearer ${secret}` } })).arrayBuffer();
    const open = held.get("/health")!;
    const closed = held.get("/keys/me")!;

    const admitted: Admitted = {
      allowed: true,
      rules: [{ name: "key-rpm", limit: 60, remaining: 59, resetMs: 1_000, waitMs: 0 }],
      release: undefined,
      charge: () => undefined,
    };
    gateway.rateLimiter.admit = () => admitted;
    const all = (named: readonly Hook[], { request, reply }: Held): void => {
      let done = 0;
      for (const hook of named)
        hook(request, reply, (error) => {
          if (error !== undefined) throw new Error("A hook refused.", { cause: error });
          done += 1;
        });
      if (done !== named.length) throw new Error("A hook did not come to its end at once.");
    };
    const cost = bestUs({
      closed: () => all(hooks.onRequest, closed),
      open: () => all(hooks.onRequest, open),
      limitHeaders: () => void closed.reply.headers(rateLimitHeaders(admitted)),
      closedNote: () => all(hooks.onResponse, closed),
      openNote: () => all(hooks.onResponse, open),
    });
    return {
      enterUs: cost.closed - cost.open - cost.limitHeaders,
      noteUs: Math.max(0, cost.closedNote - cost.openNote),
    };
  } finally {
    await app.close();
    await gateway.close();
    await database.close();
    rmSync(folder, { recursive: true, force: true });
  }
}

/** They take turns, so that what the machine does meanwhile is spread over all of them. */
function bestUs<Name extends string>(runs: Readonly<Record<Name, () => void>>): Record<Name, number> {
  const best = Object.fromEntries(Object.keys(runs).map((name) => [name, Infinity])) as Record<Name, number>;
  for (let round = 0; round < ROUNDS; round += 1)
    for (const [name, run] of Object.entries(runs) as [Name, () => void][]) {
      const before = process.cpuUsage();
      for (let turn = 0; turn < REQUESTS; turn += 1) run();
      const { user, system } = process.cpuUsage(before);
      best[name] = Math.min(best[name], (user + system) / REQUESTS);
    }
  return best;
}
