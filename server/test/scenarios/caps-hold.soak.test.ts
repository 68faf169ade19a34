import assert from "node:assert/strict";
import type { TestContext } from "node:test";
import { setTimeout as wait } from "node:timers/promises";
import { type SimulatorOptions, startSimulator } from "@brikk/simulator";
import type { ApiKey } from "../../src/access/api-key.ts";
import { createKeyStore } from "../../src/access/key-store.ts";
import { systemClock } from "../../src/lib/clock.ts";
import { type NanoUsd, nanoUsd } from "../../src/lib/money.ts";
import type { Database, DialectName } from "../../src/storage/database.ts";
import { type GatewayProcess, startGatewayProcess } from "../harness/gateway-process.ts";
import { followBill, type ProviderBill } from "../harness/provider-bill.ts";
import { onEachDatabase, onPostgres, scratchDatabase } from "../storage/scratch.ts";
import { crowd } from "./crowd.ts";
import { assertEachOnce, assertHolds, ledgerTotal, monthOf } from "./ledger-audit.ts";

const CALLERS = 300;
/** About 1,500 answers of the simulator. */
const CAP = nanoUsd(60_000_000n);

interface Stage {
  readonly database: Database;
  readonly key: ApiKey;
  readonly secret: string;
  readonly bill: ProviderBill;
  readonly start: () => Promise<GatewayProcess>;
}

/** A database with one capped key, and both vendors. */
async function setStage(t: TestContext, dialect: DialectName, cap: NanoUsd, pace: SimulatorOptions): Promise<Stage> {
  const simulator = await startSimulator(pace);
  t.after(() => simulator.close());
  const { database, url: databaseUrl } = await scratchDatabase(t, dialect);
  const created = await createKeyStore({ database, clock: systemClock }).create({
    name: "crowd",
    hardCap: cap,
    softCap: nanoUsd(cap / 2n),
    month: { hardCap: cap },
  });
  return {
    database,
    ...created,
    bill: followBill(simulator),
    start: () => startGatewayProcess(t, { databaseUrl, simulator }),
  };
}

const percent = (part: bigint, whole: bigint): string => `${(Number((part * 10_000n) / whole) / 100).toFixed(2)} %`;

async function capHolds(t: TestContext, dialect: DialectName, processes: number): Promise<void> {
  const { database, key, secret, bill, start } = await setStage(t, dialect, CAP, {
    firstTokenMs: 0,
    tokensPerSecond: 0,
  });
  const gateways = await Promise.all(Array.from({ length: processes }, start));
  const startedMs = performance.now();
  const { whole, refusals, broken } = await crowd({
    callers: CALLERS,
    secret,
    urlOf: (caller) => gateways[caller % processes]!.url,
    maxTokensOf: (turn) => (turn % 5 > 0 ? 128 : undefined),
    patienceMs: 6_000,
    enough: 0.97,
  });
  const seconds = (performance.now() - startedMs) / 1_000;
  for (const gateway of gateways) assert.equal(await gateway.kill("SIGTERM"), 0, gateway.said());

  assert.equal(broken, 0);
  assert.ok(refusals >= CALLERS);
  const month = await monthOf(database, key.id);
  assert.ok(bill.total <= CAP, `the providers billed ${bill.total} of ${CAP}`);
  assert.equal(await ledgerTotal(database, key.id), bill.total, "the ledger is not what the providers billed");
  assert.deepEqual(month, { spent: bill.total, leased: 0n, writtenOff: 0n });
  assert.ok(month.spent * 100n >= CAP * 97n, `only ${month.spent} of ${CAP} could be used`);
  await assertEachOnce(database, key.id, whole);
  await assertHolds(database);
  t.diagnostic(
    `${whole.length} answers, ${refusals} refusals, ${percent(month.spent, CAP)} used, ${seconds.toFixed(1)} s`,
  );
}

onEachDatabase(
  "what the providers bill never passes the cap, 97 % of it can be used, and the ledger is their count, with 300 callers at once: one process, or four on PostgreSQL",
  (t, dialect) => capHolds(t, dialect, dialect === "postgres" ? 4 : 1),
);

onPostgres(
  "the same while one of four processes is killed -9 and started again for 60 s: no lease stays, and what the dead held is all that is lost",
  async (t) => {
    const LOOP_MS = 60_000;
    /** About what the callers can spend in the time, at their pace. */
    const cap = nanoUsd(250_000_000n);
    const { database, key, secret, bill, start } = await setStage(t, "postgres", cap, {
      firstTokenMs: 150,
      tokensPerSecond: 400,
    });
    const gateways = await Promise.all([0, 1, 2, 3].map(start));
    const loopEndMs = performance.now() + LOOP_MS;
    let kills = 0;
    const killing = (async () => {
      while (performance.now() < loopEndMs) {
        const slot = kills++ % gateways.length;
        await wait(500 + Math.random() * 1_000);
        assert.equal(await gateways[slot]!.kill("SIGKILL"), "SIGKILL");
        gateways[slot] = await start();
      }
    })();
    const { whole, refusals, broken } = await crowd({
      callers: CALLERS,
      secret,
      urlOf: (caller) => gateways[caller % gateways.length]!.url,
      maxTokensOf: () => 128,
      pauseMs: 1_500,
      // Longer than what the dead held is held for them.
      patienceMs: 25_000,
      enough: 0.97,
    });
    await killing;
    const leasedByDead = async (): Promise<bigint> => {
      const [row] = await database.all({
        sql: "select coalesce(sum(leased_nano_usd), 0) as leased from leases",
        params: [],
      });
      return row!["leased"] as bigint;
    };
    // The living give back what they do not use after 2 s, and miss the dead after 15 s and a sweep's interval.
    const endMs = performance.now() + 30_000;
    while ((await leasedByDead()) > 0n) {
      assert.ok(performance.now() < endMs, "a lease is stuck");
      await wait(250);
    }
    for (const gateway of gateways) assert.equal(await gateway.kill("SIGTERM"), 0, gateway.said());

    assert.ok(broken >= kills && whole.length >= 1_000, `${whole.length} whole answers, ${broken} broken`);
    const month = await monthOf(database, key.id);
    assert.equal(month.leased, 0n);
    assert.ok(bill.total <= month.spent, `the providers billed ${bill.total}, and ${month.spent} is spent`);
    assert.ok(month.spent <= cap, `${month.spent} of ${cap} is spent`);
    assert.equal(await ledgerTotal(database, key.id), month.spent - month.writtenOff);
    assert.ok(month.spent * 100n >= cap * 97n, `only ${month.spent} of ${cap} could be used`);
    await assertEachOnce(database, key.id, whole);
    await assertHolds(database);
    t.diagnostic(
      `${whole.length} answers, ${refusals} refusals, ${broken} broken, ${kills} kills, ${percent(month.spent, cap)} used of which ${percent(month.writtenOff, cap)} written off and ${percent(bill.total, cap)} billed`,
    );
  },
);
