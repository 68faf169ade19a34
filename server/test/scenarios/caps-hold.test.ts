import assert from "node:assert/strict";
import { join } from "node:path";
import { test, type TestContext } from "node:test";
import { startSimulator } from "@brikk/simulator";
import { createKeyStore } from "../../src/access/key-store.ts";
import { systemClock } from "../../src/lib/clock.ts";
import { nanoUsd } from "../../src/lib/money.ts";
import { openDatabase } from "../../src/storage/open-database.ts";
import { startGatewayProcess } from "../harness/gateway-process.ts";
import { followBill } from "../harness/provider-bill.ts";
import { assertSound } from "../ledger/ledger-fixture.ts";
import { scratchFolder } from "../storage/scratch.ts";
import { crowd } from "./crowd.ts";
import { assertEachOnce, ledgerTotal, monthOf } from "./ledger-audit.ts";

const CALLERS = 300;
/** About 1,500 answers of the simulator. */
const CAP = nanoUsd(60_000_000n);

async function capHolds(t: TestContext, databaseUrl: string, processes: number): Promise<void> {
  const simulator = await startSimulator({ firstTokenMs: 0, tokensPerSecond: 0 });
  t.after(() => simulator.close());
  const bill = followBill(simulator);
  const database = await openDatabase({ url: databaseUrl });
  t.after(() => database.close());
  const { key, secret } = await createKeyStore({ database, clock: systemClock }).create({
    name: "crowd",
    hardCap: CAP,
    softCap: nanoUsd(CAP / 2n),
    month: { hardCap: CAP },
  });
  const gateways = await Promise.all(
    Array.from({ length: processes }, () => startGatewayProcess(t, { databaseUrl, simulator })),
  );
  const startedMs = performance.now();
  const { whole, refusals, broken } = await crowd({
    callers: CALLERS,
    secret,
    urlOf: (caller) => gateways[caller % processes]!.url,
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
  await assertSound(database);
  t.diagnostic(
    `${whole.length} answers, ${refusals} refusals, ${(Number((month.spent * 10_000n) / CAP) / 100).toFixed(2)} % used, ${seconds.toFixed(1)} s`,
  );
}

test("what the providers bill never passes the cap, 97 % of it can be used, and the ledger is their count, with 300 callers at once (SQLite)", (t) =>
  capHolds(t, `sqlite:${join(scratchFolder(t), "brikk.db")}`, 1));
