import assert from "node:assert/strict";
import { suite, type TestContext } from "node:test";
import { startSimulator } from "@brikk/simulator";
import { Agent } from "undici";
import type { ApiKey } from "../../src/access/api-key.ts";
import { createKeyStore } from "../../src/access/key-store.ts";
import { openLedger } from "../../src/ledger/ledger.ts";
import { systemClock } from "../../src/lib/clock.ts";
import { FAULT_POINTS, type MoneyPoint } from "../../src/lib/fault-point.ts";
import { nanoUsd } from "../../src/lib/money.ts";
import type { Database, DialectName } from "../../src/storage/database.ts";
import { ask, MODELS } from "../harness/callers.ts";
import { type GatewayProcess, startGatewayProcess } from "../harness/gateway-process.ts";
import { followBill, type ProviderBill } from "../harness/provider-bill.ts";
import { onEachDatabase, runChild, type ScratchDatabase, scratchDatabase, sourceUrl } from "../storage/scratch.ts";
import { assertEachOnce, assertHolds, monthOf, type Whole } from "./ledger-audit.ts";

const PRELOAD = new URL("../harness/kill-at-fault-point.ts", import.meta.url);
const CALLERS = 8;
/** Some hundred answers, and the first alert after a few. */
const CAP = nanoUsd(20_000_000n);
const SOFT_CAP = nanoUsd(200_000n);

type Mode = "plain" | "streamed";

/** How a step is come to: by serving, by being told to stop, or by starting after another process was killed. */
const WAYS: Readonly<Record<MoneyPoint, "serve" | "stop" | "start">> = {
  "lease-wanted": "serve",
  "lease-granted": "serve",
  reserved: "serve",
  "answer-begun": "serve",
  "answer-received": "serve",
  "commit-wanted": "serve",
  committed: "serve",
  settled: "serve",
  "alert-wanted": "serve",
  "alert-written": "serve",
  "release-wanted": "stop",
  released: "stop",
  "write-off-wanted": "start",
  "written-off": "start",
};

/** One life of a gateway that ended in the middle of something. */
interface Life {
  readonly killAt: string;
  readonly key: ApiKey;
  readonly whole: readonly Whole[];
  readonly bill: ProviderBill;
}

/** Asks with a few callers at once until the gateway is gone. */
async function askUntilGone(
  gateway: GatewayProcess,
  secret: string,
  mode: Mode,
  onWhole: (count: number) => void,
): Promise<Whole[]> {
  const agent = new Agent({ connections: CALLERS });
  const whole: Whole[] = [];
  let asked = 0;
  const caller = async (): Promise<void> => {
    for (;;) {
      const turn = asked++;
      const reply = await ask(agent, gateway.url, secret, {
        model: MODELS[turn % 2]!,
        stream: mode === "streamed",
        content: `Question ${turn}`,
        maxTokens: 200,
      });
      if (reply.kind === "gone") return;
      // It may say that the cap is met or that it is stopping, and nothing else.
      if (reply.kind === "refused")
        assert.ok(reply.status === 402 || reply.error.code === "draining", JSON.stringify(reply.error));
      else if (reply.kind === "whole") onWhole(whole.push(reply));
    }
  };
  await Promise.all(Array.from({ length: CALLERS }, caller));
  await agent.destroy();
  return whole;
}

/** Runs a gateway that dies at the point, after what is to be done once it has started. */
async function liveAndDie(
  t: TestContext,
  { database, url: databaseUrl }: ScratchDatabase,
  mode: Mode,
  killAt: string,
  onStarted: () => Promise<void>,
): Promise<Life> {
  const simulator = await startSimulator({ firstTokenMs: 0, tokensPerSecond: 0 });
  t.after(() => simulator.close());
  const bill = followBill(simulator);
  const { key, secret } = await createKeyStore({ database, clock: systemClock }).create({
    name: killAt,
    hardCap: CAP,
    softCap: SOFT_CAP,
    month: { hardCap: CAP },
  });
  const start = (environment: Record<string, string> = {}): Promise<GatewayProcess> =>
    startGatewayProcess(t, { databaseUrl, simulator, preload: PRELOAD, environment });
  const deadly = { BRIKK_TEST_KILL_AT: killAt };
  const way = WAYS[killAt.split(":")[0] as MoneyPoint];
  const gateway = await start(way === "start" ? {} : deadly);
  await onStarted();
  const whole = await askUntilGone(gateway, secret, mode, (count) => {
    if (count === 10 && way === "stop") void gateway.kill("SIGTERM");
    if (count === 10 && way === "start") void gateway.kill("SIGKILL");
    assert.ok(count < 1_000, `${killAt} is never passed`);
  });
  assert.equal(await gateway.ended, "SIGKILL", `${killAt}: ${gateway.said()}`);
  if (way === "start") {
    if (database.dialect === "sqlite") await assert.rejects(start(deadly), /ended with SIGKILL/);
    else await dieWritingOff(t, databaseUrl, killAt);
  }
  await simulator.close();
  return { killAt, key, whole, bill };
}

/** What must be true once the dead are missed. */
async function verify(database: Database, { killAt, key, whole, bill }: Life): Promise<void> {
  await assertHolds(database);
  await assertEachOnce(database, key.id, whole);
  const { spent, leased } = await monthOf(database, key.id);
  assert.equal(leased, 0n, `${killAt}: a lease is stuck`);
  assert.ok(spent <= CAP, `${killAt}: ${spent} of ${CAP} is spent`);
  assert.ok(bill.total <= spent, `${killAt}: the providers billed ${bill.total}, and ${spent} is spent`);
}

/** What the dead held is written off; a gateway does so 15 s after it heard of them last, and this at once. */
async function missTheDead(database: Database): Promise<void> {
  const ledger = await openLedger({
    database,
    clock: systemClock,
    defaultSoftCap: SOFT_CAP,
    defaultHardCap: CAP,
    soleOwner: false,
    silentAfterMs: 0,
  });
  await ledger.tick();
  await ledger.close();
}

/** A process of the ledger alone that dies while it writes off what the dead held. */
async function dieWritingOff(t: TestContext, databaseUrl: string, killAt: string): Promise<void> {
  const child = runChild(
    t,
    `process.env.BRIKK_TEST_KILL_AT = ${JSON.stringify(killAt)};
     await import(${JSON.stringify(PRELOAD.href)});
     const { openDatabase } = await import(${JSON.stringify(sourceUrl("storage/open-database.ts"))});
     const { openLedger } = await import(${JSON.stringify(sourceUrl("ledger/ledger.ts"))});
     const { systemClock } = await import(${JSON.stringify(sourceUrl("lib/clock.ts"))});
     const database = await openDatabase({ url: ${JSON.stringify(databaseUrl)} });
     const caps = { defaultSoftCap: 1n, defaultHardCap: 1n };
     const ledger = await openLedger({ database, clock: systemClock, ...caps, soleOwner: false, silentAfterMs: 0 });
     await ledger.tick();`,
  );
  const { code, stderr } = await child.ended;
  assert.equal(code, null, `${killAt} is never passed: ${stderr}`);
}

async function killEverywhere(t: TestContext, dialect: DialectName, mode: Mode): Promise<void> {
  const scratch = await scratchDatabase(t, dialect);
  const { database } = scratch;
  let lives = 0;
  let answers = 0;
  let verifyLast = async (): Promise<void> => {};
  for (const point of FAULT_POINTS) {
    const pass = WAYS[point] === "serve" && mode === "streamed" ? 3 : 1;
    const life = await liveAndDie(t, scratch, mode, `${point}:${pass}`, verifyLast);
    lives += 1;
    answers += life.whole.length;
    verifyLast = () => verify(database, life);
    // On SQLite the next start does it.
    if (dialect === "postgres") await missTheDead(database);
  }
  const simulator = await startSimulator();
  t.after(() => simulator.close());
  const survivor = await startGatewayProcess(t, { databaseUrl: scratch.url, simulator });
  await verifyLast();
  assert.equal(await survivor.kill("SIGTERM"), 0);
  assert.deepEqual(await database.all({ sql: "select * from lease_owners", params: [] }), []);
  t.diagnostic(`${lives} lives, ${answers} answers received whole`);
}

suite(
  "killed at any step of the path, nothing is lost or doubled, no lease stays and the cap holds",
  { concurrency: 2 },
  () => {
    for (const mode of ["plain", "streamed"] as const)
      onEachDatabase(mode, (t, dialect) => killEverywhere(t, dialect, mode));
  },
);
