import assert from "node:assert/strict";
import type { TestContext } from "node:test";
import { setTimeout as wait } from "node:timers/promises";
import { startSimulator } from "@brikk/simulator";
import { Client } from "pg";
import type { ApiKey } from "../../src/access/api-key.ts";
import { createKeyStore } from "../../src/access/key-store.ts";
import { newSecret } from "../../src/access/secret.ts";
import { systemClock } from "../../src/lib/clock.ts";
import { nanoUsd } from "../../src/lib/money.ts";
import type { Database } from "../../src/storage/database.ts";
import { openDatabase } from "../../src/storage/open-database.ts";
import { type GatewayProcess, startGatewayProcess } from "../harness/gateway-process.ts";
import { type PostgresServer, startPostgres } from "../harness/postgres-server.ts";
import { followBill } from "../harness/provider-bill.ts";
import { onPostgres } from "../storage/scratch.ts";
import { assertEachOnce, assertHolds, ledgerTotal, monthOf } from "./ledger-audit.ts";
import { startSteadyLoad, type SteadyLoad } from "./steady-load.ts";

const CALLERS = 40;
const COMERS = 10;
/** The providers are in order; a gateway that stands still must not take them for slow. */
const PATIENCE = {
  PROVIDER_TIMEOUT_SECONDS: "120",
  PROVIDER_FIRST_TOKEN_TIMEOUT_SECONDS: "120",
  PROVIDER_IDLE_TIMEOUT_SECONDS: "120",
};
const CAP = nanoUsd(2_000_000_000n);

interface Stage {
  readonly postgres: PostgresServer;
  readonly gateways: readonly GatewayProcess[];
  readonly load: SteadyLoad;
  readonly database: Database;
  readonly key: ApiKey;
  /** Callers who come now. */
  readonly comers: () => SteadyLoad;
}

/** Two gateways on a PostgreSQL of the test's own, under load; whatever happens to it meanwhile, nothing is lost or doubled. */
async function underLoad(t: TestContext, meanwhile: (stage: Stage) => Promise<void>): Promise<void> {
  const postgres = await startPostgres(t);
  // Answers take about a second, so that some are always under way.
  const simulator = await startSimulator({ firstTokenMs: 100, tokensPerSecond: 100 });
  t.after(() => simulator.close());
  const bill = followBill(simulator);
  const database = await openDatabase({ url: postgres.url });
  t.after(() => database.close());
  const { key, secret } = await createKeyStore({ database, clock: systemClock }).create({
    name: "outage",
    hardCap: CAP,
    month: { hardCap: CAP },
  });
  const gateways = await Promise.all(
    [0, 1].map(() => startGatewayProcess(t, { databaseUrl: postgres.url, simulator, environment: PATIENCE })),
  );
  const start = (callers: number): SteadyLoad =>
    startSteadyLoad(t, { callers, secret, urlOf: (caller) => gateways[caller % 2]!.url });
  const load = start(CALLERS);
  const servedBy = (gateway: number, since: number): number =>
    load.whole.slice(since).filter(({ caller }) => caller % 2 === gateway).length;
  const bothServe = async (): Promise<void> => {
    const since = load.whole.length;
    await load.until("answers of both gateways", () => servedBy(0, since) >= 60 && servedBy(1, since) >= 60);
  };

  await bothServe();
  const comers: SteadyLoad[] = [];
  await meanwhile({
    postgres,
    gateways,
    load,
    database,
    key,
    comers() {
      const some = start(COMERS);
      comers.push(some);
      return some;
    },
  });
  await bothServe();
  for (const callers of [load, ...comers]) await callers.stop();
  for (const gateway of gateways) assert.equal(await gateway.kill("SIGTERM"), 0, gateway.said());

  const whole = [load, ...comers].flatMap((callers) => callers.whole);
  await assertEachOnce(database, key.id, whole);
  await assertHolds(database);
  assert.equal(await ledgerTotal(database, key.id), bill.total, "the ledger is not what the providers billed");
  assert.deepEqual(await monthOf(database, key.id), { spent: bill.total, leased: 0n, writtenOff: 0n });
  const refusals = [load, ...comers].reduce((sum, { unavailable }) => sum + unavailable, 0);
  t.diagnostic(`${whole.length} answers, ${refusals} refusals`);
}

/** Nobody can tell whether a key is valid whose secret this process never saw. */
async function assertStrangersWait(gateways: readonly GatewayProcess[], withinMs: number): Promise<void> {
  await Promise.all(
    gateways.map(async ({ url }) => {
      const answer = await fetch(`${url}/usage/me`, {
        headers: { authorization: `Bearer ${newSecret()}` },
        signal: AbortSignal.timeout(withinMs),
      });
      assert.deepEqual(
        [answer.status, Number(answer.headers.get("retry-after")) >= 1],
        [503, true],
        await answer.text(),
      );
    }),
  );
}

onPostgres(
  "while PostgreSQL is down for 10 s new requests get 503 and never 401 or 500, those in flight end when it is back, and nothing is lost or doubled",
  (t) =>
    underLoad(t, async ({ postgres, gateways, load, comers }) => {
      await postgres.stop("kill");
      const downMs = performance.now();
      await assertStrangersWait(gateways, 2_000);
      // By now every gateway has had something to write.
      await wait(2_000);
      const late = comers();
      await late.until("refusals", () => late.unavailable >= 10 * COMERS);
      const ready = await fetch(`${gateways[0]!.url}/health/ready`);
      assert.equal(ready.status, 503, await ready.text());
      await wait(10_000 - (performance.now() - downMs));
      assert.ok(late.longestRefusalMs < 1_000, `a refusal took ${late.longestRefusalMs} ms`);
      const upMs = performance.now();
      await postgres.start();
      // What had left the gateway when the server went may take a moment to be read here.
      const done = [...load.whole, ...late.whole].filter(({ endedMs }) => endedMs > downMs + 500 && endedMs < upMs);
      assert.deepEqual(done, [], "an answer was called done while nothing could be written");
    }),
);

onPostgres("connections that are cut again and again lose nothing", (t) =>
  underLoad(t, async ({ postgres }) => {
    const admin = new Client({ connectionString: postgres.url });
    await admin.connect();
    const endMs = performance.now() + 60_000;
    let cut = 0;
    while (cut <= 20) {
      assert.ok(performance.now() < endMs, `${cut} connections were cut`);
      const { rowCount } = await admin.query(
        "select pg_terminate_backend(pid) from pg_stat_activity where application_name = 'brikk' and backend_type = 'client backend'",
      );
      cut += rowCount ?? 0;
      await wait(50);
    }
    await admin.end();
  }),
);

onPostgres(
  "while PostgreSQL stands still every request is answered in bounded time, and all goes on when it moves again",
  (t) =>
    underLoad(t, async ({ postgres, gateways, comers }) => {
      const admin = new Client({ connectionString: postgres.url });
      await admin.connect();
      const { rows } = await admin.query<{ pid: number }>(
        "select pid from pg_stat_activity where pid <> pg_backend_pid() union select split_part(pg_read_file('postmaster.pid'), e'\n', 1)::int",
      );
      await admin.end();
      const signal = (name: NodeJS.Signals): void => {
        for (const { pid } of rows) {
          try {
            process.kill(pid, name);
          } catch (error) {
            // A connection may have ended by itself.
            assert.equal((error as NodeJS.ErrnoException).code, "ESRCH");
          }
        }
      };
      signal("SIGSTOP");
      try {
        const stillMs = performance.now();
        const early = comers();
        // The key of those who have none: nothing was ever leased of its budget, so these wait for the database.
        const unleased = gateways.map(async ({ url }) => {
          const answer = await fetch(`${url}/v1/chat/completions`, {
            method: "POST",
            headers: { "content-type": "application/json" },
            body: JSON.stringify({
              model: "gpt-4o-mini",
              max_tokens: 20,
              messages: [{ role: "user", content: "Hello" }],
            }),
            signal: AbortSignal.timeout(30_000),
          });
          return answer.status;
        });
        await assertStrangersWait(gateways, 20_000);
        // A statement gets 11 s; from then on nobody waits for the next one.
        await wait(13_000 - (performance.now() - stillMs));
        const late = comers();
        await late.until("refusals", () => late.unavailable >= 10 * COMERS);
        assert.ok(late.longestRefusalMs < 1_000, `a refusal took ${late.longestRefusalMs} ms`);
        assert.deepEqual(await Promise.all(unleased), [503, 503]);
        t.diagnostic(`of the early, ${early.unavailable} were refused, after ${early.longestRefusalMs} ms at most`);
      } finally {
        signal("SIGCONT");
      }
    }),
);

onPostgres(
  "a gateway that stood still until another gave it up goes on where it was, and what was written off for it is redeemed",
  (t) =>
    underLoad(t, async ({ gateways, database, key }) => {
      const [sleeper] = gateways;
      void sleeper!.kill("SIGSTOP");
      let lost = 0n;
      try {
        const endMs = performance.now() + 40_000;
        while (lost === 0n) {
          assert.ok(performance.now() < endMs, "it was never given up");
          await wait(250);
          lost = (await monthOf(database, key.id)).writtenOff;
        }
      } finally {
        void sleeper!.kill("SIGCONT");
      }
      t.diagnostic(`${lost} nano-USD were written off for a while`);
    }),
);
