import assert from "node:assert/strict";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";
import { ConfigError, loadConfig } from "../../src/config.ts";
import type { settings } from "../../src/config/settings.ts";
import { newFernetKey } from "../../src/lib/fernet.ts";

const folder = mkdtempSync(join(tmpdir(), "brikk-config-"));
after(() => rmSync(folder, { recursive: true, force: true }));

function faultsOf(environment: Record<string, string>): readonly string[] {
  try {
    loadConfig(environment);
  } catch (error) {
    assert.ok(error instanceof ConfigError);
    return error.faults;
  }
  return assert.fail("the settings were accepted");
}

const configFile = (text: string): string => {
  const path = join(mkdtempSync(join(folder, "file-")), "brikk.yaml");
  writeFileSync(path, text);
  return path;
};

test("without any setting the defaults of the documentation hold, frozen", () => {
  const config = loadConfig({});
  assert.equal(config.host, "127.0.0.1");
  assert.equal(config.port, 8_080);
  assert.equal(config.databaseUrl, "sqlite:./data/brikk.db");
  assert.equal(config.requireAuth, false);
  assert.equal(config.defaultSoftCap, 5_000_000_000n);
  assert.equal(config.defaultHardCap, 10_000_000_000n);
  assert.equal(config.rateLimitPerMin, 60);
  assert.equal(config.anonymousRateLimitPerMin, 30);
  assert.equal(config.redisUrl, undefined);
  assert.equal(config.redisTimeoutMs, 100);
  for (const { timeouts } of config.providers)
    assert.deepEqual(timeouts, {
      connectMs: 5_000,
      firstTokenMs: 10_000,
      thinkingFirstTokenMs: 120_000,
      idleMs: 15_000,
      attemptMs: 30_000,
    });
  assert.deepEqual(
    config.providers.map(({ defaultModel }) => defaultModel),
    ["gpt-4o-mini", "mistral-small-latest"],
  );
  assert.equal(config.logLevel, "info");
  assert.ok(Object.isFrozen(config));
});

/** A value that each setting refuses. */
const REFUSED: Partial<Record<(typeof settings)[number]["name"], string>> = {
  PORT: "70000",
  DATABASE_URL: "mysql://x",
  OPENAI_API_KEY: "sk-with space",
  MISTRAL_API_KEY: "ключ",
  OPENAI_BASE_URL: "ftp://x",
  MISTRAL_BASE_URL: "nowhere",
  BRIKK_ADMIN_TOKEN: "15-characters-x",
  BRIKK_REQUIRE_AUTH: "yes",
  BRIKK_ALLOW_ANONYMOUS: "1",
  BRIKK_DEFAULT_SOFT_CAP_USD: "-5",
  BRIKK_DEFAULT_HARD_CAP_USD: "1e3",
  REDIS_URL: "redis://:hunter2@host/x",
  REDIS_TIMEOUT_MS: "1",
  BRIKK_RATE_LIMIT_PER_MIN: "0",
  BRIKK_BUDGET_WEBHOOK_URL: "ftp://hooks.example/token",
  BRIKK_BUDGET_WEBHOOK_SECRET: "whsec_too-short",
  BRIKK_ANONYMOUS_RATE_LIMIT_PER_MIN: "0",
  BRIKK_MAX_BODY_BYTES: "12",
  BRIKK_DRAIN_SECONDS: "0",
  PROVIDER_TIMEOUT_SECONDS: "-1",
  PROVIDER_CONNECT_TIMEOUT_SECONDS: "never",
  PROVIDER_FIRST_TOKEN_TIMEOUT_SECONDS: "NaN",
  PROVIDER_IDLE_TIMEOUT_SECONDS: "Infinity",
  PROVIDER_THINKING_FIRST_TOKEN_TIMEOUT_SECONDS: "0",
  PROVIDER_MAX_RETRIES: "11",
  PROVIDER_PROBE_SECONDS: "0",
  BRIKK_PROVIDER_MAX_IN_FLIGHT: "0",
  BRIKK_PROVIDER_MAX_QUEUED: "-1",
  BRIKK_REQUEST_TIMEOUT_SECONDS: "0",
  BRIKK_KEEP_ALIVE_SECONDS: "soon",
  BRIKK_MAX_IN_FLIGHT: "0",
  BRIKK_MAX_EVENT_LOOP_DELAY_MS: "1",
  SIMULATOR_FIRST_TOKEN_MS: "-3",
  SIMULATOR_TOKENS_PER_SECOND: "1.5",
  LOG_LEVEL: "loud",
  BRIKK_CONFIG: "/does/not/exist.yaml",
};

test("all faults are reported at once, each with its variable, and those of secrets without their value", () => {
  const faults = faultsOf(REFUSED);
  for (const name of Object.keys(REFUSED))
    assert.ok(
      faults.some((fault) => fault.startsWith(name)),
      name,
    );
  for (const secret of ["with space", "ключ", "15-characters", "hunter2", "token", "too-short"])
    assert.ok(!faults.join().includes(secret));
  for (const name of ["PORT", "LOG_LEVEL"] as const) {
    assert.match(
      faults.find((fault) => fault.startsWith(name)) ?? "",
      new RegExp(`^${name} is "${REFUSED[name]}"; accepted is .+\\.$`),
    );
  }
  assert.match(new ConfigError(faults).message, /^Brikk cannot start, \d+ settings are wrong:\n {2}- /);
});

for (const [name, value] of Object.entries(REFUSED)) {
  test(`${name}=${value} is refused by itself`, () => {
    const faults = faultsOf({ [name]: value });
    assert.ok(faults[0]?.startsWith(name));
  });
}

const ENCRYPTION_KEY = newFernetKey();

test("production, and any address that others can reach, ask for keys or for the word that none are meant", () => {
  for (const environment of [
    { NODE_ENV: "production", BRIKK_ENCRYPTION_KEY: ENCRYPTION_KEY },
    { HOST: "0.0.0.0" },
    { HOST: "::" },
    { HOST: "192.168.1.4" },
    { HOST: "127.evil.example" },
    { HOST: "localhost.evil.example" },
  ]) {
    const faults = faultsOf(environment);
    assert.equal(faults.length, 1);
    assert.match(faults[0]!, /BRIKK_REQUIRE_AUTH.*BRIKK_ALLOW_ANONYMOUS/);
    assert.equal(loadConfig({ ...environment, BRIKK_REQUIRE_AUTH: "true" }).requireAuth, true);
    assert.equal(loadConfig({ ...environment, BRIKK_ALLOW_ANONYMOUS: "true" }).requireAuth, false);
  }
  for (const host of ["localhost", "127.0.0.1", "127.8.9.1", "::1"])
    assert.equal(loadConfig({ HOST: host }).requireAuth, false);
});

test("production asks for an encryption key and says how to make one; what is no key is refused without repeating it", () => {
  const production = { NODE_ENV: "production", BRIKK_REQUIRE_AUTH: "true" };
  assert.deepEqual(faultsOf(production), [
    "BRIKK_ENCRYPTION_KEY is not set, and in production it has to be; make one with: openssl rand -base64 32 | tr '+/' '-_'.",
  ]);
  assert.equal(loadConfig({}).encryptionKeys, undefined);
  for (const text of [ENCRYPTION_KEY, `${ENCRYPTION_KEY}, ${newFernetKey()}`])
    assert.equal(
      loadConfig({ ...production, BRIKK_ENCRYPTION_KEY: text }).encryptionKeys?.length,
      text.split(",").length,
    );
  for (const text of ["hunter2", ENCRYPTION_KEY.slice(1), `${ENCRYPTION_KEY},hunter2`, ENCRYPTION_KEY.repeat(2)]) {
    const faults = faultsOf({ ...production, BRIKK_ENCRYPTION_KEY: text });
    assert.equal(faults.length, 1);
    assert.match(faults[0]!, /^BRIKK_ENCRYPTION_KEY holds something other than Fernet keys.*openssl/);
    assert.doesNotMatch(faults[0]!, /hunter2/);
    assert.ok(!faults[0]!.includes(ENCRYPTION_KEY.slice(1)));
  }
});

test("a budget webhook asks for a secret to sign with; several are taken for rotation, a faulty one among them is refused", () => {
  const [one, other] = [32, 24].map((length) => Buffer.alloc(length, length));
  const [first, second] = [one, other].map((bytes) => `whsec_${bytes!.toString("base64")}`);
  const url = "https://hooks.example/T0/token?x=1";
  assert.equal(loadConfig({}).budgetWebhook, undefined);
  assert.deepEqual(
    loadConfig({ BRIKK_BUDGET_WEBHOOK_URL: url, BRIKK_BUDGET_WEBHOOK_SECRET: ` ${first} , ${second}` }).budgetWebhook,
    {
      url,
      secrets: [one, other],
    },
  );
  const [missing] = faultsOf({ BRIKK_BUDGET_WEBHOOK_URL: url });
  assert.match(missing!, /^BRIKK_BUDGET_WEBHOOK_SECRET is not set while BRIKK_BUDGET_WEBHOOK_URL is.*openssl/);
  for (const bad of ["whsec_", "whsec_c2hvcnQ=", first!.slice(6), `${first}!`, first!.replace("whsec_", "whsec_ ")]) {
    const faults = faultsOf({ BRIKK_BUDGET_WEBHOOK_URL: url, BRIKK_BUDGET_WEBHOOK_SECRET: `${first},${bad}` });
    assert.equal(faults.length, 1, bad);
    assert.ok(!faults[0]!.includes(first!.slice(6)) && !faults[0]!.includes("token"));
  }
});

test("the database may be a SQLite file or PostgreSQL; what is said of a faulty address never repeats it", () => {
  for (const url of ["sqlite:/data/brikk.db", "postgres://u:p@h/d", "postgresql://h:5433/d?sslmode=require"])
    assert.equal(loadConfig({ DATABASE_URL: url }).databaseUrl, url);
  for (const url of [
    "mysql://u:hunter2@h/d",
    "hunter2",
    "postgres://u:hunter2@h",
    "postgres://u:1/hunter2@h/d",
    "postgres:u:hunter2@h/d",
    "sqlite:",
  ]) {
    const faults = faultsOf({ DATABASE_URL: url });
    assert.equal(faults.length, 1);
    assert.match(faults[0]!, /^DATABASE_URL .*\.$/);
    assert.doesNotMatch(faults[0]!, /hunter2/);
  }
});

test("REDIS_URL is where Redis is and who asks, and nothing else", () => {
  for (const url of ["redis://localhost", "rediss://user:p%40ss@redis.example:6380/2", "redis://:p@[::1]:6379/"])
    assert.equal(loadConfig({ REDIS_URL: url }).redisUrl, url);
  for (const url of [
    "localhost:6379",
    "http://localhost",
    "redis://",
    "redis://h:99999",
    "redis://h/one",
    "redis://h?family=6",
    "redis://:bad%zz@h",
  ])
    assert.match(faultsOf({ REDIS_URL: url })[0]!, /^REDIS_URL is not of the form redis:/, url);
});

test("a soft cap above the hard cap is refused, an equal one is not", () => {
  assert.match(faultsOf({ BRIKK_DEFAULT_SOFT_CAP_USD: "11" })[0]!, /^BRIKK_DEFAULT_SOFT_CAP_USD/);
  assert.equal(loadConfig({ BRIKK_DEFAULT_SOFT_CAP_USD: "10" }).defaultSoftCap, 10_000_000_000n);
});

test("blank settings are as if they were not there", () => {
  const config = loadConfig({ PORT: " ", OPENAI_API_KEY: "", LOG_LEVEL: "" });
  assert.equal(config.port, 8_080);
  assert.equal(config.providers[0]?.apiKey, undefined);
});

test("a config file gives prices; a faulty one is refused whole, with every fault and its place", () => {
  const good = configFile(
    "prices:\n  - provider: openai\n    model: my-model\n    input_usd_per_million: 0.5\n    output_usd_per_million: '1.25'\n",
  );
  assert.deepEqual(loadConfig({ BRIKK_CONFIG: good }).prices, [
    { provider: "openai", model: "my-model", input_usd_per_million: "0.5", output_usd_per_million: "1.25" },
  ]);
  const bad = configFile(
    "prices:\n  - provider: openai\n    model: ''\n    input_usd_per_million: -1\n    surprise: 1\n",
  );
  const faults = faultsOf({ BRIKK_CONFIG: bad });
  assert.ok(faults.length >= 3 && faults.every((fault) => fault.includes("prices.0")));
  assert.match(faultsOf({ BRIKK_CONFIG: configFile("prices: [") })[0]!, /^BRIKK_CONFIG names .* cannot be read/);
  assert.ok(faultsOf({ BRIKK_CONFIG: bad, PORT: "x" }).length >= 4, "together with the faults of the environment");
});
