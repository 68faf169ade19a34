import assert from "node:assert/strict";
import { suite, type TestContext, test } from "node:test";
import { startSimulator } from "@brikk/simulator";
import { Agent } from "undici";
import type { ApiKey } from "../../src/access/api-key.ts";
import { createKeyStore } from "../../src/access/key-store.ts";
import { openLedger } from "../../src/ledger/ledger.ts";
import { systemClock } from "../../src/lib/clock.ts";
import { FAULT_POINTS, type FaultPoint } from "../../src/lib/fault-point.ts";
import { nanoUsd } from "../../src/lib/money.ts";
import type { Database } from "../../src/storage/database.ts";
import { ask, MODELS } from "../harness/callers.ts";
import { type GatewayProcess, startGatewayProcess } from "../harness/gateway-process.ts";
import { followBill, type ProviderBill } from "../harness/provider-bill.ts";
import { assertSound } from "../ledger/ledger-fixture.ts";
import { scratchDatabase } from "../storage/scratch.ts";
import { assertEachOnce, monthOf, type Whole } from "./ledger-audit.ts";

const PRELOAD = new URL("../harness/kill-at-fault-point.ts", import.meta.url);
const CALLERS = 8;
/** Some hundred answers, and the first alert after a few. */
const CAP = nanoUsd(20_000_000n);
const SOFT_CAP = nanoUsd(200_000n);

type Mode = "plain" | "streamed";

/** How a step is come to: by serving, by being told to stop, or by starting after another process was killed. */
const WAYS: Readonly<Record<FaultPoint, "serve" | "stop" | "start">> = {
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
  readonly key: ApiKey;
  readonly whole: readonly Whole[];
  readonly bill: ProviderBill;
}

/** Asks with a few callers at once until the gateway is gone. */
async function askUntilGone(gateway: GatewayProcess, secret: string, mode: Mode, onWhole: (count: number) => void): Promise<Whole[]> {
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
      if (reply.kind === "refused") assert.ok(reply.status === 402 || reply.error.code === "draining", JSON.stringify(reply.error));
      else if (reply.kind === "whole") onWhole(whole.push(reply));
    }
  };
  await Promise.all(Array.from({ length: CALLERS }, caller));
  await agent.destroy();
  return whole;
}

/** Starts a gateway that dies at the point, and serves until it does. */
async function liveAndDie(t: TestContext, databaseUrl: string, database: Database, mode: Mode, killAt: string): Promise<Life> {
  const simulator = await startSimulator({ firstTokenMs: 0, tokensPerSecond: 0 });
  const bill = followBill(simulator);
  const { key, secret } = await createKeyStore({ database, clock: systemClock }).create({
    name: killAt,
    hardCap: CAP,
    softCap: SOFT_CAP,
    month: { hardCap: CAP },
  });
  const gateway = await startGatewayProcess(t, {
    databaseUrl,
    simulator,
    preload: PRELOAD,
    environment: { BRIKK_TEST_KILL_AT: killAt },
  });
  const point = killAt.split(":")[0] as FaultPoint;
  const whole = await askUntilGone(gateway, secret, mode, (count) => {
    if (count === 10 && WAYS[point] === "stop") void gateway.kill("SIGTERM");
    if (count === 25 && WAYS[point] === "start") void gateway.kill("SIGKILL");
    assert.ok(count < 2_000, `${killAt} is never reached`);
  });
  assert.equal(await gateway.ended, "SIGKILL", `${killAt}: ${gateway.said()}`);
  await simulator.close();
  return { key, whole, bill };
}

/** What must be true once the dead are missed. */
async function verify(database: Database, { key, whole, bill }: Life): Promise<void> {
  await assertSound(database);
  await assertEachOnce(database, key.id, whole);
  const { spent, leased } = await monthOf(database, key.id);
  assert.equal(leased, 0n, "a lease is stuck");
  assert.ok(spent <= CAP, `${spent} of ${CAP} is spent`);
  assert.ok(bill.total <= spent, `the providers billed ${bill.total}, and ${spent} is spent`);
}

async function killEverywhere(t: TestContext, mode: Mode): Promise<void> {
  const { database, url } = await scratchDatabase(t);
  const simulator = await startSimulator({ firstTokenMs: 0, tokensPerSecond: 0 });
  t.after(() => simulator.close());
  let answers = 0;
  for (const point of FAULT_POINTS) {
    const pass = WAYS[point] === "serve" && mode === "streamed" ? 3 : 1;
    const killAt = `${point}:${pass}`;
    await t.test(killAt, async (t) => {
      const life = await liveAndDie(t, url, database, mode, killAt);
      answers += life.whole.length;
      if (WAYS[point] === "start")
        await assert.rejects(
          startGatewayProcess(t, { databaseUrl: url, simulator, preload: PRELOAD, environment: { BRIKK_TEST_KILL_AT: killAt } }),
          /ended with SIGKILL/,
        );
      const next = await startGatewayProcess(t, { databaseUrl: url, simulator });
      await verify(database, life);
      assert.equal(await next.kill("SIGTERM"), 0);
    });
  }
  t.diagnostic(`${answers} answers received whole`);
}

for (const mode of ["plain", "streamed"] as const)
  test(`killed at any step of the path, nothing is lost or doubled, no lease stays and the cap holds: ${mode} (SQLite)`, (t) => killEverywhere(t, mode));
