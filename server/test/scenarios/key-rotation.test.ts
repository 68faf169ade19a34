import assert from "node:assert/strict";
import type { TestContext } from "node:test";
import { setTimeout as wait } from "node:timers/promises";
import { startSimulator } from "@brikk/simulator";
import { createKeyStore } from "../../src/access/key-store.ts";
import { systemClock } from "../../src/lib/clock.ts";
import { newFernetKey } from "../../src/lib/fernet.ts";
import { startGatewayProcess } from "../harness/gateway-process.ts";
import { onEachDatabase, onPostgres, scratchDatabase } from "../storage/scratch.ts";

const PRELOAD = new URL("../harness/kill-at-fault-point.ts", import.meta.url);
const WITHIN_MS = 2_000;
/** One for all instances, as production asks for. */
const ENVIRONMENT = {
  BRIKK_ENCRYPTION_KEY: newFernetKey(),
  BRIKK_REQUIRE_AUTH: "true",
};

interface Rotation {
  readonly new_key: string;
  readonly old_key_prefix: string;
}

const rotate = (url: string, secret: string, idempotencyKey: string): Promise<Response> =>
  fetch(`${url}/keys/rotate`, {
    method: "POST",
    headers: { authorization: `Bearer ${secret}`, "idempotency-key": idempotencyKey },
  });

async function statusOf(url: string, secret: string): Promise<number> {
  const response = await fetch(`${url}/keys/me`, { headers: { authorization: `Bearer ${secret}` } });
  await response.arrayBuffer();
  return response.status;
}

async function simulator(t: TestContext, tokensPerSecond = 0) {
  const started = await startSimulator({ firstTokenMs: 0, tokensPerSecond });
  t.after(() => started.close());
  return started;
}

onEachDatabase(
  "a gateway killed between a rotation's commit and its answer: the repeat gets the key, and there is one new secret",
  async (t, dialect) => {
    const { database, url: databaseUrl } = await scratchDatabase(t, dialect);
    const { key, secret } = await createKeyStore({ database, clock: systemClock }).create({ name: "survivor" });
    const options = { databaseUrl, simulator: await simulator(t) };
    const doomed = await startGatewayProcess(t, {
      ...options,
      preload: PRELOAD,
      environment: { ...ENVIRONMENT, BRIKK_TEST_KILL_AT: "rotated:1" },
    });
    await assert.rejects(rotate(doomed.url, secret, "3f0c1f9e"));
    assert.equal(await doomed.ended, "SIGKILL", doomed.said());

    const next = await startGatewayProcess(t, { ...options, environment: ENVIRONMENT });
    assert.equal(await statusOf(next.url, secret), 401, "there was no grace");
    const again = await rotate(next.url, secret, "3f0c1f9e");
    assert.equal(again.status, 200);
    assert.equal(again.headers.get("idempotent-replayed"), "true");
    const { new_key: newKey, old_key_prefix: oldPrefix } = (await again.json()) as Rotation;
    assert.equal(oldPrefix, secret.slice(0, 12));
    assert.equal(await statusOf(next.url, newKey), 200);
    const rows = await database.query.selectFrom("api_key_secrets").selectAll().where("key_id", "=", key.id).execute();
    assert.deepEqual(
      rows.filter(({ not_after_ms: end }) => end === null).map(({ prefix }) => prefix),
      [newKey.slice(0, 12)],
    );
  },
);

onPostgres(
  "a rotation holds at once where it was made and within 2 s on another instance, which repeats its answer too",
  async (t) => {
    const { database, url: databaseUrl } = await scratchDatabase(t, "postgres");
    const { secret } = await createKeyStore({ database, clock: systemClock }).create({ name: "shared" });
    const options = { databaseUrl, simulator: await simulator(t), environment: ENVIRONMENT };
    const [here, there] = await Promise.all([startGatewayProcess(t, options), startGatewayProcess(t, options)]);
    assert.deepEqual([await statusOf(here.url, secret), await statusOf(there.url, secret)], [200, 200]);
    const refusedThere = async (what: string, one: string): Promise<void> => {
      const changedMs = performance.now();
      while ((await statusOf(there.url, one)) !== 401) {
        assert.ok(performance.now() - changedMs < WITHIN_MS, `${what} is not known after ${WITHIN_MS} ms`);
        await wait(20);
      }
      t.diagnostic(`${what}: ${Math.round(performance.now() - changedMs)} ms`);
    };

    const { new_key: newKey } = (await (await rotate(here.url, secret, "once")).json()) as Rotation;
    assert.deepEqual([await statusOf(here.url, secret), await statusOf(here.url, newKey)], [401, 200]);
    assert.equal(await statusOf(there.url, newKey), 200, "a new secret is looked up at once");
    await refusedThere("a rotation", secret);
    const again = (await (await rotate(there.url, secret, "once")).json()) as Rotation;
    assert.equal(again.new_key, newKey);
  },
);

onEachDatabase(
  "a stream that is under way when its key is revoked goes on to its end; the key's next request is refused",
  async (t, dialect) => {
    const { database, url: databaseUrl } = await scratchDatabase(t, dialect);
    const keyStore = createKeyStore({ database, clock: systemClock });
    const { key, secret } = await keyStore.create({ name: "leaving" });
    const served = await simulator(t, 40);
    const { url } = await startGatewayProcess(t, { databaseUrl, simulator: served, environment: ENVIRONMENT });
    const response = await fetch(`${url}/v1/chat/completions`, {
      method: "POST",
      headers: { authorization: `Bearer ${secret}`, "content-type": "application/json" },
      body: JSON.stringify({
        model: "gpt-4o-mini",
        stream: true,
        max_tokens: 120,
        messages: [{ role: "user", content: "Tell me a long story." }],
      }),
    });
    assert.equal(response.status, 200);
    const reader = response.body!.pipeThrough(new TextDecoderStream()).getReader();
    let text = (await reader.read()).value ?? "";
    await keyStore.revoke(key.id);
    const revokedMs = performance.now();
    while ((await statusOf(url, secret)) !== 401) {
      assert.ok(performance.now() - revokedMs < WITHIN_MS);
      await wait(20);
    }
    assert.equal(text.includes("[DONE]"), false, "the stream is still under way");
    for (;;) {
      const { done, value } = await reader.read();
      if (done) break;
      text += value;
    }
    assert.ok(text.trimEnd().endsWith("data: [DONE]"));
  },
);
