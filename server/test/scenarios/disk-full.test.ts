import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { closeSync, ftruncateSync, mkdtempSync, openSync, realpathSync, rmSync, writeSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type TestContext, test } from "node:test";
import { setTimeout as wait } from "node:timers/promises";
import { startSimulator } from "@brikk/simulator";
import { request } from "undici";
import { createKeyStore } from "../../src/access/key-store.ts";
import { systemClock } from "../../src/lib/clock.ts";
import { nanoUsd } from "../../src/lib/money.ts";
import { openDatabase } from "../../src/storage/open-database.ts";
import { startGatewayProcess } from "../harness/gateway-process.ts";
import { followBill } from "../harness/provider-bill.ts";
import { assertEachOnce, assertHolds, ledgerTotal, monthOf } from "./ledger-audit.ts";
import { startSteadyLoad } from "./steady-load.ts";

const DISK_MB = 8;

/** A disk of a few MB that ends with the test; undefined where this user may not mount one. */
function smallDisk(t: TestContext): string | undefined {
  const folder = realpathSync(mkdtempSync(join(tmpdir(), "brikk-disk-")));
  const mounted = spawnSync("mount", ["-t", "tmpfs", "-o", `size=${DISK_MB}m`, "tmpfs", folder]).status === 0;
  t.after(() => {
    // Whoever still has a file open there keeps it until it is closed.
    if (mounted) spawnSync("umount", ["--lazy", folder]);
    rmSync(folder, { recursive: true });
  });
  return mounted ? folder : undefined;
}

/** Takes every byte that is left, and again what becomes free. */
function fillUp(file: string): { again(): void; free(): void } {
  const descriptor = openSync(file, "w");
  const again = (): void => {
    for (const bytes of [65_536, 4_096]) {
      const block = Buffer.alloc(bytes, 1);
      try {
        for (;;) if (writeSync(descriptor, block) < bytes) break;
      } catch (error) {
        assert.equal((error as NodeJS.ErrnoException).code, "ENOSPC");
      }
    }
  };
  again();
  return {
    again,
    free() {
      ftruncateSync(descriptor);
      closeSync(descriptor);
      rmSync(file);
    },
  };
}

test("a full disk costs nothing but time: 503 while it is full, nothing lost or doubled, and all goes on when there is room", async (t) => {
  const disk = smallDisk(t);
  if (disk === undefined && process.env["BRIKK_NO_SKIP"] !== "1") return t.skip("mounting a small disk needs root");
  assert.ok(disk, "mounting a small disk needs root");
  const databaseUrl = `sqlite:${join(disk, "brikk.db")}`;
  const simulator = await startSimulator({ firstTokenMs: 0, tokensPerSecond: 0 });
  t.after(() => simulator.close());
  const bill = followBill(simulator);
  const database = await openDatabase({ url: databaseUrl });
  t.after(() => database.close());
  const cap = nanoUsd(1_000_000_000n);
  const { key, secret } = await createKeyStore({ database, clock: systemClock }).create({
    name: "disk",
    hardCap: cap,
    month: { hardCap: cap },
  });
  const gateway = await startGatewayProcess(t, { databaseUrl, simulator });

  const load = startSteadyLoad(t, { callers: 24, secret, urlOf: () => gateway.url });
  const { whole } = load;
  await load.until("the first answers", () => whole.length >= 100);
  const filler = fillUp(join(disk, "filler"));
  // The log that is written before the database has room of its own for a while.
  await load.until("the refusals of a full disk", () => {
    filler.again();
    return load.unavailable >= 100;
  });
  await wait(500);
  const wholeWhileFull = whole.length;
  await wait(1_000);
  assert.equal(whole.length, wholeWhileFull, "an answer was called done while nothing could be written");
  const ready = await request(`${gateway.url}/health/ready`);
  assert.equal(ready.statusCode, 503);
  await ready.body.dump();
  filler.free();
  await load.until("answers after the disk had room again", () => whole.length >= wholeWhileFull + 200);
  await load.stop();
  assert.equal(await gateway.kill("SIGTERM"), 0, gateway.said());

  await assertEachOnce(database, key.id, whole);
  await assertHolds(database);
  assert.equal(await ledgerTotal(database, key.id), bill.total, "the ledger is not what the providers billed");
  assert.deepEqual(await monthOf(database, key.id), { spent: bill.total, leased: 0n, writtenOff: 0n });
  t.diagnostic(`${whole.length} answers, ${load.unavailable} refusals`);
});
