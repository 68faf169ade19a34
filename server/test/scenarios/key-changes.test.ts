import assert from "node:assert/strict";
import { setTimeout as wait } from "node:timers/promises";
import { startSimulator } from "@brikk/simulator";
import { createKeyStore } from "../../src/access/key-store.ts";
import { systemClock } from "../../src/lib/clock.ts";
import { nanoUsd, ZERO_USD } from "../../src/lib/money.ts";
import { startGatewayProcess } from "../harness/gateway-process.ts";
import { onPostgres, scratchDatabase } from "../storage/scratch.ts";

const WITHIN_MS = 2_000;

onPostgres("a key that is made, given other caps, or revoked is so on every instance within 2 s", async (t) => {
  const simulator = await startSimulator({ firstTokenMs: 0, tokensPerSecond: 0 });
  t.after(() => simulator.close());
  const { database, url: databaseUrl } = await scratchDatabase(t, "postgres");
  const keyStore = createKeyStore({ database, clock: systemClock });
  const gateways = await Promise.all([0, 1].map(() => startGatewayProcess(t, { databaseUrl, simulator })));
  const statusAt = async (url: string, secret: string): Promise<number> => {
    const response = await fetch(`${url}/v1/chat/completions`, {
      method: "POST",
      headers: { "content-type": "application/json", authorization: `Bearer ${secret}` },
      body: JSON.stringify({ model: "gpt-4o-mini", max_tokens: 20, messages: [{ role: "user", content: "Hello" }] }),
    });
    await response.arrayBuffer();
    return response.status;
  };
  /** All instances say so soon, and go on saying so. */
  const assertSoon = async (secret: string, status: number, what: string): Promise<void> => {
    const changedMs = performance.now();
    const slowest = await Promise.all(
      gateways.map(async ({ url }) => {
        while ((await statusAt(url, secret)) !== status) {
          assert.ok(performance.now() - changedMs < WITHIN_MS, `${what} is not known after ${WITHIN_MS} ms`);
          await wait(20);
        }
        return performance.now() - changedMs;
      }),
    );
    for (const { url } of gateways) assert.equal(await statusAt(url, secret), status, what);
    t.diagnostic(`${what}: ${Math.round(Math.max(...slowest))} ms`);
  };

  const { key, secret } = await keyStore.create({ name: "shared" });
  await assertSoon(secret, 200, "a new key");
  await keyStore.update(key.id, (known) => ({ ...known, hardCap: ZERO_USD, softCap: ZERO_USD }));
  await assertSoon(secret, 402, "a lowered cap");
  await keyStore.update(key.id, (known) => ({ ...known, hardCap: nanoUsd(1_000_000_000n) }));
  await assertSoon(secret, 200, "a raised cap");
  await keyStore.update(key.id, (known) => ({ ...known, week: { hardCap: nanoUsd(1n) } }));
  await assertSoon(secret, 402, "a cap for the week");
  await keyStore.revoke(key.id);
  await assertSoon(secret, 401, "a revocation");
});
