import assert from "node:assert/strict";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { test, type TestContext } from "node:test";
import { setTimeout as wait } from "node:timers/promises";
import { startSimulator } from "@brikk/simulator";
import { createKeyStore } from "../../src/access/key-store.ts";
import { createVault } from "../../src/access/vault.ts";
import { signingSecretPurpose } from "../../src/access/vault-purposes.ts";
import { systemClock } from "../../src/lib/clock.ts";
import { type FernetKeys, newFernetKey, parseFernetKeys } from "../../src/lib/fernet.ts";
import { openDatabase } from "../../src/storage/open-database.ts";
import { type GatewayProcess, startGatewayProcess } from "../harness/gateway-process.ts";
import { eventually } from "../ledger/ledger-fixture.ts";
import { onPostgres, scratchFolder, scratchPostgresUrl } from "../storage/scratch.ts";
import { brikkOnScratch, printed } from "./brikk-command.ts";

const WITHIN_MS = 2_000;
const TOKEN = "the-admin-token-of-this-test";
const KEY = "sk-stored-credential-0123456789";
/** Of a process that has no provider's key in its environment. */
const WITHOUT_KEYS = {
  OPENAI_API_KEY: "",
  MISTRAL_API_KEY: "",
  BRIKK_ADMIN_TOKEN: TOKEN,
  SIMULATOR_FIRST_TOKEN_MS: "0",
  SIMULATOR_TOKENS_PER_SECOND: "0",
  BRIKK_ANONYMOUS_RATE_LIMIT_PER_MIN: "100000",
};

async function startVendors(t: TestContext) {
  const simulator = await startSimulator({ firstTokenMs: 0, tokensPerSecond: 0 });
  t.after(() => simulator.close());
  return simulator;
}

/** The value of the header that says whether an answer is made up, or the refusal's code. */
async function answerOf({ url }: GatewayProcess, model = "gpt-4o-mini"): Promise<string> {
  const response = await fetch(`${url}/v1/chat/completions`, {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify({ model, max_tokens: 20, messages: [{ role: "user", content: "Hello" }] }),
  });
  const body = (await response.json()) as { error?: { code: string } };
  return body.error?.code ?? `simulated: ${response.headers.get("x-brikk-simulated")}`;
}

const admin = (gateway: GatewayProcess, method: string, path: string, body?: object): Promise<Response> =>
  fetch(`${gateway.url}/admin/provider-credentials${path}`, {
    method,
    headers: {
      authorization: `Bearer ${TOKEN}`,
      "if-match": "*",
      ...(body !== undefined && { "content-type": "application/json" }),
    },
    ...(body !== undefined && { body: JSON.stringify(body) }),
  });

onPostgres(
  "a credential that is stored, changed or removed at one instance is so on the other within 2 s",
  async (t) => {
    const simulator = await startVendors(t);
    const databaseUrl = await scratchPostgresUrl(t, "migrated");
    const environment = { ...WITHOUT_KEYS, BRIKK_ENCRYPTION_KEY: newFernetKey() };
    const [here, there] = await Promise.all(
      [0, 1].map(() => startGatewayProcess(t, { databaseUrl, simulator, environment })),
    );
    assert.ok(here && there);
    const assertSoon = async (answer: string, what: string): Promise<void> => {
      const changedMs = performance.now();
      assert.equal(await answerOf(here), answer, `${what}, at once where it was done`);
      while ((await answerOf(there)) !== answer) {
        assert.ok(performance.now() - changedMs < WITHIN_MS, `${what} is not known after ${WITHIN_MS} ms`);
        await wait(20);
      }
      assert.equal(await answerOf(there), answer);
      t.diagnostic(`${what}: ${Math.round(performance.now() - changedMs)} ms`);
    };
    assert.equal(await answerOf(there), "simulated: true");
    const put = (body: object): Promise<Response> =>
      fetch(`${here.url}/admin/provider-credentials/openai`, {
        method: "PUT",
        headers: { authorization: `Bearer ${TOKEN}`, "content-type": "application/json" },
        body: JSON.stringify(body),
      });
    assert.equal((await put({ api_key: KEY })).status, 200);
    await assertSoon("simulated: false", "a stored credential");
    assert.equal((await admin(here, "PUT", "/openai", { api_key: "sk-invalid-any-more", verify: false })).status, 200);
    await assertSoon("provider_credentials_rejected", "a changed one");
    assert.equal((await admin(here, "DELETE", "/openai")).status, 200);
    await assertSoon("simulated: true", "a removed one");
  },
);

test("a stored credential outlives a restart and a reload of the config file, and the simulator stays away", async (t) => {
  const simulator = await startVendors(t);
  const folder = scratchFolder(t);
  const databaseUrl = `sqlite:${join(folder, "brikk.db")}`;
  const config = join(folder, "config.json");
  writeFileSync(config, "{}");
  const options = { databaseUrl, simulator, environment: { ...WITHOUT_KEYS, BRIKK_CONFIG: config, LOG_LEVEL: "info" } };
  const first = await startGatewayProcess(t, options);
  assert.match(first.said(), /openai, mistral \(SIMULATED/);
  const saved = await fetch(`${first.url}/admin/provider-credentials/openai`, {
    method: "PUT",
    headers: { authorization: `Bearer ${TOKEN}`, "content-type": "application/json" },
    body: JSON.stringify({ api_key: KEY }),
  });
  assert.equal(saved.status, 200);
  await first.kill("SIGTERM");

  const second = await startGatewayProcess(t, options);
  await eventually(() => second.said().includes("Try it"));
  assert.match(second.said(), /Providers +openai \(real\)\n/);
  assert.equal(await answerOf(second), "simulated: false");
  for (const file of [{ prices: [] }, { providers: [] }]) {
    writeFileSync(config, JSON.stringify(file));
    const before = second.said().length;
    second.signal("SIGHUP");
    await eventually(() => second.said().slice(before).includes("the config file was read again"));
    assert.equal(await answerOf(second), "simulated: false");
  }
  // This process began with a real provider, so there is no simulator that could answer in its place.
  assert.equal((await admin(second, "DELETE", "/openai")).status, 200);
  assert.equal(await answerOf(second), "no_provider_available");
  const before = second.said().length;
  second.signal("SIGHUP");
  await eventually(() => /leaves no provider at all/.test(second.said().slice(before)));
  assert.doesNotMatch(second.said() + first.said(), new RegExp(KEY));
});

test("the command line stores, lists and removes a key of a provider beside a running server, and never takes it as an argument", async (t) => {
  const simulator = await startVendors(t);
  const { url: databaseUrl, brikkWith, brikkFed } = brikkOnScratch(t);
  const environment = { OPENAI_BASE_URL: simulator.openaiBaseUrl, MISTRAL_BASE_URL: simulator.mistralBaseUrl };
  const gateway = await startGatewayProcess(t, { databaseUrl, simulator, environment: WITHOUT_KEYS });
  assert.equal(await answerOf(gateway), "simulated: true");

  const refused = await brikkFed("sk-invalid-key-0123456789\n", environment, "credentials", "set", "openai");
  assert.deepEqual([refused.code, refused.stdout], [1, ""]);
  assert.match(refused.stderr, /openai does not accept this key\. Nothing was changed/);
  const set = await brikkFed(`${KEY}\n`, environment, "credentials", "set", "openai");
  assert.deepEqual([set.code, set.stderr], [0, ""]);
  assert.match(set.stdout, /ends in 6789, is stored; openai accepts it/);
  await eventually(async () => (await answerOf(gateway)) === "simulated: false");

  type Row = { provider: string; source: string; hint: string | null; readable: boolean };
  const rows = await printed<Row[]>(brikkWith(environment, "credentials", "list", "--json"));
  assert.deepEqual(
    rows.map(({ provider, source, hint, readable }) => [provider, source, hint, readable]),
    [
      ["openai", "stored", "6789", true],
      ["mistral", "none", null, true],
    ],
  );
  assert.match((await brikkWith(environment, "credentials", "list")).stdout, /^openai +stored +ends in 6789, since /);
  const elsewhere = await brikkWith({ ...environment, BRIKK_ENCRYPTION_KEY: newFernetKey() }, "credentials", "list");
  assert.match(elsewhere.stdout, /CANNOT BE OPENED/);

  assert.match((await brikkWith(environment, "credentials", "remove", "openai")).stdout, /is removed/);
  await eventually(async () => (await answerOf(gateway)) === "simulated: true");
  assert.match((await brikkWith(environment, "credentials", "remove", "openai")).stderr, /No key of openai is stored/);

  for (const [input, args, code, said] of [
    ["", ["openai"], 2, /Nothing came on standard input/],
    ["one\ntwo\n", ["openai"], 2, /More than one line/],
    ["with a space", ["openai"], 1, /characters that no key has/],
    ["x".repeat(9_000), ["openai"], 2, /too long/],
    [KEY, ["acme"], 1, /There is no provider acme; there are openai, mistral/],
  ] as const) {
    const ran = await brikkFed(input, environment, "credentials", "set", ...args);
    assert.equal(ran.code, code, ran.stderr);
    assert.match(ran.stderr, said);
  }
  const unasked = await brikkFed(
    "sk-invalid-0123456789abc",
    environment,
    "credentials",
    "set",
    "mistral",
    "--no-verify",
  );
  assert.match(unasked.stdout, /mistral was not asked about it/);
});

test("an encryption key is replaced while a server runs: new beside old, sealed anew, old one dropped", async (t) => {
  const simulator = await startVendors(t);
  const { url: databaseUrl, brikkWith, brikkFed } = brikkOnScratch(t);
  const [oldKey, newKey] = [newFernetKey(), newFernetKey()];
  const vendors = { OPENAI_BASE_URL: simulator.openaiBaseUrl, MISTRAL_BASE_URL: simulator.mistralBaseUrl };
  await brikkFed(KEY, { ...vendors, BRIKK_ENCRYPTION_KEY: oldKey }, "credentials", "set", "openai");
  const start = (keys: string): Promise<GatewayProcess> =>
    startGatewayProcess(t, {
      databaseUrl,
      simulator,
      environment: { ...WITHOUT_KEYS, LOG_LEVEL: "info", BRIKK_ENCRYPTION_KEY: keys },
    });
  const both = await start(`${newKey},${oldKey}`);
  const keys = { BRIKK_ENCRYPTION_KEY: `${newKey},${oldKey}` };
  const done = { resealed: 1, already_current: 0, old_answers_dropped: 0, unreadable: [] };
  assert.deepEqual(await printed(brikkWith(keys, "keys", "reencrypt", "--json")), done);
  assert.deepEqual(await printed(brikkWith(keys, "keys", "reencrypt", "--json")), {
    ...done,
    resealed: 0,
    already_current: 1,
  });
  await wait(1_000);
  assert.equal(await answerOf(both), "simulated: false");
  await both.kill("SIGTERM");
  const after = await start(newKey);
  assert.equal(await answerOf(after), "simulated: false");
  await after.kill("SIGTERM");

  const lost = await brikkWith({ BRIKK_ENCRYPTION_KEY: oldKey }, "keys", "reencrypt");
  assert.equal(lost.code, 1);
  assert.match(lost.stdout, /Opened by no key +1\n {2}provider credential of openai\n/);
});

test("a server whose encryption key opens not all that is stored starts, says so in log and readiness, and asks nobody without the credential that was meant", async (t) => {
  const simulator = await startVendors(t);
  const { url: databaseUrl, brikkFed } = brikkOnScratch(t);
  const keys = { BRIKK_ENCRYPTION_KEY: newFernetKey() };
  await brikkFed(KEY, keys, "credentials", "set", "openai", "--no-verify");
  const database = await openDatabase({ url: databaseUrl });
  const vault = createVault({ keys: parseFernetKeys(keys.BRIKK_ENCRYPTION_KEY) as FernetKeys, clock: systemClock });
  const { key } = await createKeyStore({ database, clock: systemClock }).create({ name: "signed" });
  await database.query
    .updateTable("api_keys")
    .set({ signing_secret: vault.seal("a signing secret", signingSecretPurpose(key.id)) })
    .where("id", "=", key.id)
    .execute();
  await database.close();

  const gateway = await startGatewayProcess(t, {
    databaseUrl,
    simulator,
    environment: {
      BRIKK_ADMIN_TOKEN: TOKEN,
      LOG_LEVEL: "info",
      MISTRAL_API_KEY: "",
      BRIKK_ENCRYPTION_KEY: newFernetKey(),
    },
  });
  const told = (): string[] =>
    gateway
      .said()
      .split("\n")
      .filter((line) => line.includes("none of the keys in BRIKK_ENCRYPTION_KEY"));
  await eventually(() => told().length > 0);
  const lines = told();
  assert.equal(lines.length, 1, gateway.said());
  assert.deepEqual((JSON.parse(lines[0]!) as { first: string[] }).first, [
    `signing secret of ${key.id}`,
    "provider credential of openai",
  ]);
  const ready = (await (await fetch(`${gateway.url}/health/ready`)).json()) as {
    checks: Record<string, { ok: boolean; detail: string }>;
  };
  assert.equal(ready.checks["secrets"]?.detail, "cannot be opened: the credential of openai, signing secrets of 1 key");
  // Neither the environment's key, which is there, nor the simulator is what was meant.
  assert.equal(await answerOf(gateway), "no_provider_available");
  assert.equal((await admin(gateway, "PUT", "/openai", { api_key: KEY })).status, 200);
  assert.equal(await answerOf(gateway), "simulated: false");
});
