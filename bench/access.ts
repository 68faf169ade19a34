import { subscribe, unsubscribe } from "node:diagnostics_channel";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout } from "node:timers/promises";
import type { Admitted } from "../server/src/access/rate-limiter.ts";
import { rateLimitHeaders } from "../server/src/access/rate-limit-headers.ts";
import { buildApp } from "../server/src/app.ts";
import { loadConfig } from "../server/src/config.ts";
import { buildGateway } from "../server/src/gateway.ts";
import { openDatabase } from "../server/src/storage/open-database.ts";
import { createLogger } from "../server/src/telemetry/log.ts";

/**
 * What it costs a request to be let in, rate limits apart: who calls, from where, with what signature if its key asks for one;
 * and to be put on record, its part of a group's commit included. All hooks of the real app are run on a real request for a
 * closed route and on one for an open route, so that a step which is added later is in the difference by itself. us of CPU per
 * request over all threads, the best of the rounds, since whatever else the machine does can only add.
 */
export interface AccessCost {
  readonly enterUs: number;
  readonly auditUs: number;
}

const ROUNDS = 9;
const REQUESTS = 20_000;
/** As many as may wait to be written down; then they are, while nothing else happens. */
const BATCH = 500;
const WRITE_MS = 15;
const KEYS = 1_000;

interface AskedRequest {
  readonly url: string;
}

interface AskedReply {
  headers(values: Readonly<Record<string, string>>): unknown;
  readonly raw: { emit(event: "close"): boolean };
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
  const hooks: Hook[] = [];
  const held = new Map<string, Held>();
  const record = (message: unknown): void => {
    const { fastify } = message as { fastify: Hooked };
    fastify.addHook("onRequest", (request, reply, done) => {
      held.set(request.url, { request, reply });
      done();
    });
    const addHook: Hooked["addHook"] = Reflect.get(fastify, "addHook");
    fastify.addHook = function (this: Hooked, name: string, hook: Hook) {
      // Those of the app itself, which every request meets.
      if (this === fastify && name === "onRequest") hooks.push(hook);
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
    const { audit } = gateway;
    const note = audit.noteRequest.bind(audit);
    const unnoted = (): void => undefined;
    const ask = ({ request, reply }: Held): void => {
      let done = 0;
      for (const hook of hooks)
        hook(request, reply, (error) => {
          if (error !== undefined) throw new Error("A hook refused.", { cause: error });
          done += 1;
        });
      if (done !== hooks.length) throw new Error("A hook did not come to its end at once.");
      reply.raw.emit("close");
    };
    const cost = await bestUs({
      open: () => ask(open),
      limitHeaders: () => void closed.reply.headers(rateLimitHeaders(admitted)),
      closed: () => {
        audit.noteRequest = unnoted;
        ask(closed);
      },
      audited: () => {
        audit.noteRequest = note;
        ask(closed);
      },
    });
    return {
      enterUs: cost.closed - cost.open - cost.limitHeaders,
      auditUs: cost.audited - cost.closed,
    };
  } finally {
    await app.close();
    await gateway.close();
    await database.close();
    rmSync(folder, { recursive: true, force: true });
  }
}

/** They take turns, so that what the machine does meanwhile is spread over all of them. */
async function bestUs<Name extends string>(runs: Readonly<Record<Name, () => void>>): Promise<Record<Name, number>> {
  const best = Object.fromEntries(Object.keys(runs).map((name) => [name, Infinity])) as Record<Name, number>;
  for (let round = 0; round < ROUNDS; round += 1)
    for (const [name, run] of Object.entries(runs) as [Name, () => void][]) {
      const before = process.cpuUsage();
      for (let asked = 0; asked < REQUESTS; asked += BATCH) {
        for (let turn = 0; turn < BATCH; turn += 1) run();
        await setTimeout(WRITE_MS);
      }
      const { user, system } = process.cpuUsage(before);
      best[name] = Math.min(best[name], (user + system) / REQUESTS);
    }
  return best;
}
