import assert from "node:assert/strict";
import { test } from "node:test";
import { ConfigError, loadConfig } from "../../src/config.ts";
import { riskySettings } from "../../src/config/risky-settings.ts";
import { newFernetKey } from "../../src/lib/fernet.ts";

const SECURE = {
  NODE_ENV: "production",
  BRIKK_REQUIRE_AUTH: "true",
  BRIKK_ENCRYPTION_KEY: newFernetKey(),
  BRIKK_ADMIN_TOKEN: "5f0c1be2a94d77e3806bd1f2",
};

function faultsOf(environment: Readonly<Record<string, string | undefined>>): readonly string[] {
  try {
    loadConfig(environment);
  } catch (error) {
    assert.ok(error instanceof ConfigError);
    return error.faults;
  }
  return [];
}

interface Insecure {
  readonly name: string;
  readonly settings: Readonly<Record<string, string | undefined>>;
  /** What the fault says. */
  readonly says: RegExp;
}

/** Each alone keeps a production server from starting. */
const INSECURE: readonly Insecure[] = [
  {
    name: "callers without a key, without the word that they are meant",
    settings: { BRIKK_REQUIRE_AUTH: "false" },
    says: /^BRIKK_REQUIRE_AUTH is false while NODE_ENV is production; set .*BRIKK_ALLOW_ANONYMOUS=true/,
  },
  { name: "pages of every origin", settings: { CORS_ALLOWED_ORIGINS: "*" }, says: /^CORS_ALLOWED_ORIGINS has "\*"/ },
  {
    name: "pages of every origin among others",
    settings: { CORS_ALLOWED_ORIGINS: "https://app.example.com,*" },
    says: /^CORS_ALLOWED_ORIGINS has "\*"/,
  },
  {
    name: "no encryption key",
    settings: { BRIKK_ENCRYPTION_KEY: undefined },
    says: /^BRIKK_ENCRYPTION_KEY is not set/,
  },
  {
    name: "an encryption key of one byte",
    settings: { BRIKK_ENCRYPTION_KEY: Buffer.alloc(32, 7).toString("base64url") },
    says: /^BRIKK_ENCRYPTION_KEY holds a key that is not random/,
  },
  {
    name: "the encryption key of Fernet's specification, behind a good one",
    settings: { BRIKK_ENCRYPTION_KEY: `${newFernetKey()},cw_0x689RpI-jtRR7oE8h_eQsKImvJapLeSbXpwF4e4=` },
    says: /^BRIKK_ENCRYPTION_KEY holds a key that is not random/,
  },
  {
    name: "self-service without a cap of its own",
    settings: { BRIKK_SELF_SERVICE_KEYS: "true" },
    says: /^BRIKK_SELF_SERVICE_HARD_CAP_USD is not set while anybody can make keys/,
  },
  ...(
    [
      ["short", "5f0c1be2a94d77e", /is shorter than 16 characters/],
      ["of one character", "aaaaaaaaaaaaaaaa", /different characters/],
      ["of two characters", "abababababababababab", /different characters/],
      ["of one piece", "a1b2c3d4a1b2c3d4a1b2", /over and over/],
      ["that counts", "0123456789abcdef", /in a row/],
      ["that counts from one", "12345678901234567890", /in a row|over and over/],
      ["of the alphabet", "abcdefghijklmnopqrst", /in a row/],
      ["that was to be changed", "changeme-changeme", /examples/],
      ["that was to be changed, with a year", "CHANGE_ME_please-2026", /examples/],
      ["of a guide", "your-admin-token-here", /examples/],
      ["of another guide", "brikk-admin-secret-token-2026", /examples/],
      ["of hope", "SuperSecretPassword1!", /examples/],
    ] as const
  ).map(([name, token, says]) => ({
    name: `an admin token ${name}`,
    settings: { BRIKK_ADMIN_TOKEN: token },
    says: new RegExp(`^BRIKK_ADMIN_TOKEN .*${says.source}.*openssl rand`),
  })),
];

for (const { name, settings, says } of INSECURE) {
  test(`production is refused with ${name}, and with nothing else wrong nothing else is said`, () => {
    const faults = faultsOf({ ...SECURE, ...settings });
    assert.ok(faults.length >= 1 && faults.every((fault) => says.test(fault)), faults.join("\n"));
    for (const secret of [settings["BRIKK_ADMIN_TOKEN"], settings["BRIKK_ENCRYPTION_KEY"]])
      if (secret !== undefined) assert.ok(!faults.join().includes(secret), "the secret is not repeated");
  });
}

test("everything that is insecure is said in one message", () => {
  const faults = faultsOf({
    NODE_ENV: "production",
    BRIKK_REQUIRE_AUTH: "false",
    CORS_ALLOWED_ORIGINS: "*",
    BRIKK_ADMIN_TOKEN: "aaaaaaaaaaaaaaaa",
    BRIKK_SELF_SERVICE_KEYS: "true",
  });
  assert.equal(faults.length, 5);
  const { message } = new ConfigError(faults);
  assert.match(message, /^Brikk cannot start, 5 settings are wrong:\n/);
  for (const name of [
    "BRIKK_REQUIRE_AUTH",
    "CORS_ALLOWED_ORIGINS",
    "BRIKK_ADMIN_TOKEN",
    "BRIKK_ENCRYPTION_KEY",
    "BRIKK_SELF_SERVICE_HARD_CAP_USD",
  ])
    assert.match(message, new RegExp(`^ {2}- ${name} `, "m"));
});

test("a secure production starts, with good tokens and passphrases of every kind", () => {
  assert.equal(loadConfig(SECURE).production, true);
  for (const token of [
    "correct-horse-battery-staple",
    "k7Jx2mQp9RtV4wYz",
    "f".repeat(3) + "0a9c8e7d6b5a4f3e",
    "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
  ])
    assert.deepEqual(faultsOf({ ...SECURE, BRIKK_ADMIN_TOKEN: token }), [], token);
  const capped = { BRIKK_SELF_SERVICE_KEYS: "true", BRIKK_SELF_SERVICE_HARD_CAP_USD: "0.50" };
  assert.equal(loadConfig({ ...SECURE, ...capped }).selfService?.hardCap, 500_000_000n);
  assert.equal(loadConfig(SECURE).selfService, undefined, "off in production unless it is switched on");
});

const risksOf = (environment: Record<string, string>): readonly string[] =>
  riskySettings(loadConfig({ ...SECURE, BRIKK_ALLOW_PRIVATE_ADDRESSES: "true", ...environment })).map(
    ({ sentence }) => sentence,
  );

test("a provider's key that goes over a foreign network in clear is warned of, one that stays near is not", () => {
  const key = { OPENAI_API_KEY: "sk-a-key-of-this-test" };
  for (const host of ["api.example.com", "8.8.8.8", "[2001:db8::1]", "172.32.0.1", "localhost.example.com"]) {
    const [risk, ...others] = risksOf({ ...key, OPENAI_BASE_URL: `http://${host}/v1` });
    assert.deepEqual(others, []);
    assert.match(risk ?? "", /^The key of openai goes to .* without TLS.*https/, host);
    assert.ok(!risk!.includes("sk-a"));
  }
  for (const address of [
    "https://api.example.com",
    "http://localhost:11434",
    "http://127.0.0.1:1",
    "http://[::1]:1",
    "http://10.1.2.3",
    "http://172.16.0.1",
    "http://192.168.1.1",
    "http://[fd00::1]",
    "http://ollama:11434",
    "http://models.internal",
  ])
    assert.deepEqual(risksOf({ ...key, OPENAI_BASE_URL: address }), [], address);
  assert.deepEqual(risksOf({ OPENAI_BASE_URL: "http://api.example.com" }), [], "no key goes there");
});

test("a database and a Redis that are reached over a foreign network in clear are warned of, without their passwords", () => {
  for (const [name, bad, good] of [
    [
      "DATABASE_URL",
      "postgres://u:hunter2@db.example.com/d",
      "postgres://u:hunter2@db.example.com/d?sslmode=verify-full",
    ],
    ["DATABASE_URL", "postgres://u:hunter2@8.8.4.4/d", "postgres://u:hunter2@10.0.0.4/d"],
    ["DATABASE_URL", "postgres://u:hunter2@db.example.com/d", "postgres:///d?host=/var/run/postgresql"],
    ["REDIS_URL", "redis://:hunter2@cache.example.com", "rediss://:hunter2@cache.example.com"],
    ["REDIS_URL", "redis://:hunter2@cache.example.com", "redis://:hunter2@redis:6379"],
  ] as const) {
    const [risk, ...others] = risksOf({ [name]: bad });
    assert.deepEqual(others, []);
    assert.match(risk ?? "", /without TLS/);
    assert.ok(!risk!.includes("hunter2"));
    assert.deepEqual(risksOf({ [name]: good }), [], good);
  }
});
