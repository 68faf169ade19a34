import assert from "node:assert/strict";
import { setTimeout as wait } from "node:timers/promises";
import { startSimulator } from "@brikk/simulator";
import { createKeyStore } from "../../src/access/key-store.ts";
import { systemClock } from "../../src/lib/clock.ts";
import { openDatabase } from "../../src/storage/open-database.ts";
import { startGatewayProcess } from "../harness/gateway-process.ts";
import { startPostgres } from "../harness/postgres-server.ts";
import { onPostgres } from "../storage/scratch.ts";

const WAITS = "The database does not take the last usage events";

onPostgres(
  "a server that is stopped while its database is away says what it waits for, and loses nothing",
  async (t) => {
    const postgres = await startPostgres(t);
    const simulator = await startSimulator({ firstTokenMs: 0, tokensPerSecond: 25 });
    t.after(() => simulator.close());
    const before = await openDatabase({ url: postgres.url });
    const { key, secret } = await createKeyStore({ database: before, clock: systemClock }).create({ name: "stop" });
    await before.close();
    const gateway = await startGatewayProcess(t, {
      databaseUrl: postgres.url,
      simulator,
      environment: { BRIKK_DRAIN_SECONDS: "20" },
    });
    const answer = await fetch(`${gateway.url}/v1/chat/completions`, {
      method: "POST",
      headers: { "content-type": "application/json", authorization: `Bearer ${secret}` },
      body: JSON.stringify({
        model: "gpt-4o-mini",
        max_tokens: 50,
        stream: true,
        messages: [{ role: "user", content: "Hello" }],
      }),
    });
    assert.equal(answer.status, 200);
    // The stream has begun, and goes on for a second or two.
    await postgres.stop("immediate");
    const stopped = gateway.kill("SIGTERM");
    for (const deadline = performance.now() + 30_000; !gateway.said().includes(WAITS);) {
      assert.ok(performance.now() < deadline, gateway.said());
      await wait(50);
    }
    await postgres.start();
    // Held back until it was durable, and then whole.
    assert.ok((await answer.text()).endsWith("data: [DONE]\n\n"));
    assert.equal(await stopped, 0, gateway.said());

    const database = await openDatabase({ url: postgres.url });
    t.after(() => database.close());
    const rows = await database.all({
      sql: "select outcome, usage_source from usage_events where key_id = ?",
      params: [key.id],
    });
    assert.deepEqual(rows, [{ outcome: "completed", usage_source: "exact" }]);
    assert.deepEqual(await database.all({ sql: "select * from leases", params: [] }), []);
  },
);
