import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { newSecret, secretPrefix } from "../../src/access/secret.ts";
import { loadConfig } from "../../src/config.ts";
import { secretsIn } from "../../src/config/secrets-in.ts";
import { newFernetKey } from "../../src/lib/fernet.ts";
import { createLogger } from "../../src/telemetry/log.ts";
import { createRedactor } from "../../src/telemetry/redactor.ts";

const own = newSecret();
const fernet = newFernetKey();

/** Found by their form alone: the text, and the part of it that must be gone. */
const BY_FORM: readonly (readonly [text: string, secret: string])[] = [
  [`The key ${own} was sent`, own.slice(12)],
  [`The key ${own.slice(0, 30)}, cut off`, own.slice(12, 30)],
  ["signed with brikk_sig_0a-b_cdefghijkl", "0a-b_cdef"],
  ["whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "MfKQ9r8G"],
  ["Incorrect API key provided: sk-proj-abc123def456.", "abc123"],
  ["Incorrect API key provided: sk-te*********cdef.", "cdef"],
  ["authorization: Bearer s3cr3t-of-somebody", "s3cr3t"],
  ["authorization: Basic dXNlcjpwYXNz", "dXNlcjpwYXNz"],
  [`BRIKK_ENCRYPTION_KEY=${fernet}`, fernet.slice(0, 43)],
  [`sealed gAAAAABk${"x".repeat(80)}==`, "xxxx"],
  ["connect to postgres://brikk:hunter2@db:5432/brikk failed", "hunter2"],
  ["redis://:hunter2@cache", "hunter2"],
  ["GET /v1/x?api_key=hunter2&a=1", "hunter2"],
];

for (const [text, secret] of BY_FORM) {
  test(`"${text.slice(0, 40)}" loses its secret by its form`, () => {
    const redactor = createRedactor();
    assert.ok(redactor.finds(text));
    assert.ok(!redactor.text(text).includes(secret), redactor.text(text));
    assert.ok(!redactor.json(JSON.stringify({ deep: [{ text }] })).includes(secret));
  });
}

test("what only looks like a secret stays: the help that is told, a key's first characters, ids, models, metrics", () => {
  const redactor = createRedactor();
  for (const text of [
    "Send your key as `X-Brikk-API-Key: brikk_...` or `Authorization: Bearer brikk_...`.",
    `The API key ${secretPrefix(own)}... was revoked.`,
    "send `Authorization: Bearer` and the token",
    "bk_0123456789ab",
    "req_0123456789abcdefghijklmn",
    "brikk_http_requests_total",
    "task-0123456789",
    "risk-of-everything",
    "http://127.0.0.1:8080/docs",
    "postgres://127.0.0.1:5432/brikk",
    "a=b",
  ]) {
    assert.equal(redactor.text(text), text);
    assert.ok(!redactor.finds(text), text);
  }
});

test("a member that is a secret by its name is taken out at any depth, a number under such a name is not", () => {
  const redactor = createRedactor();
  const given = {
    headers: { authorization: "hunter2", Cookie: "hunter2", "x-brikk-api-key": "hunter2" },
    list: [{ api_key: "hunter2", apiKey: "hunter2", password: "hunter2", signing_secret: "hunter2" }],
    key: "hunter2",
    token: "hunter2",
    tokens: 12,
    key_id: "bk_0123456789ab",
  };
  const redacted = redactor.json(JSON.stringify(given));
  assert.ok(!redacted.includes("hunter2"));
  assert.equal((JSON.parse(redacted) as typeof given).key_id, "bk_0123456789ab");
  assert.equal((JSON.parse(redacted) as typeof given).tokens, 12);
});

test("every secret of the settings is known to the letter, also escaped for a URL or for JSON", () => {
  const environment = {
    OPENAI_API_KEY: "no-form-at-all-1",
    MISTRAL_API_KEY: 'quotes"and\\slashes',
    BRIKK_ADMIN_TOKEN: "k7Jx2mQp9RtV4wYz",
    BRIKK_ENCRYPTION_KEY: `${fernet},${newFernetKey().slice(0, 43)}`,
    DATABASE_URL: "postgres://u:p%40ssw%2Frd-1@h/d",
    REDIS_URL: "redis://:c%40che-pass@h",
    BRIKK_BUDGET_WEBHOOK_URL: "https://hooks.example/T0/B1/path-is-secret",
    BRIKK_BUDGET_WEBHOOK_SECRET: `whsec_${Buffer.alloc(24, 5).toString("base64")}`,
  };
  const redactor = createRedactor(secretsIn(loadConfig(environment)));
  for (const secret of [
    environment.OPENAI_API_KEY,
    environment.MISTRAL_API_KEY,
    environment.BRIKK_ADMIN_TOKEN,
    ...environment.BRIKK_ENCRYPTION_KEY.split(",").map((key) => key.slice(0, 43)),
    "p@ssw/rd-1",
    "p%40ssw%2Frd-1",
    "c@che-pass",
    "/T0/B1/path-is-secret",
    Buffer.alloc(24, 5).toString("base64"),
  ]) {
    assert.ok(!redactor.text(`a ${secret} b`).includes(secret), secret);
    const document = redactor.json(JSON.stringify({ said: `x${secret}y` }));
    assert.equal((JSON.parse(document) as { said: string }).said, "x[redacted]y");
  }
});

test("a secret that comes later is known from then on, and one too short to be told from words never is", () => {
  const redactor = createRedactor(["short", "first-secret"]);
  assert.equal(redactor.text("short second-secret first-secret"), "short second-secret [redacted]");
  redactor.learn(["second-secret"]);
  assert.equal(redactor.text("short second-secret first-secret"), "short [redacted] [redacted]");
});

test("whatever is in a log line, it comes out as one JSON document on one line, and without the secret", () => {
  const secret = 'ab"\\n:1,{}[]x';
  const redactor = createRedactor([secret, "12345678"]);
  const texts = fc.array(
    fc.oneof(fc.string({ unit: "binary" }), fc.constantFrom(secret, own, "\\", '"', "\n", "key", "12345678")),
  );
  fc.assert(
    fc.property(texts, fc.dictionary(fc.string(), fc.anything({ withBigInt: false })), (parts, more) => {
      const line = `${JSON.stringify({ ...more, said: parts.join(""), n: 12345678 })}\n`;
      const redacted = redactor.json(line);
      const { said } = JSON.parse(redacted) as { said: string };
      assert.equal(redacted.indexOf("\n"), redacted.length - 1);
      assert.ok(!said.includes(secret) && !said.includes(own));
    }),
    { numRuns: 500 },
  );
});

test("a log line holds no secret, wherever an error or who logs it has put one", () => {
  const lines: string[] = [];
  const logger = createLogger({
    level: "info",
    pretty: false,
    destination: { write: (line) => void lines.push(line) },
    redactor: createRedactor(["a-provider-key-1"]),
  });
  const cause = new Error("password a-provider-key-1 refused");
  const error = Object.assign(new Error(`said ${own}`, { cause }), { code: "a-provider-key-1" });
  logger.error(
    { error, provider: "a-provider-key-1", request: { headers: { authorization: "hunter2" } } },
    `no ${own}`,
  );
  logger.info({ "a-provider-key-1": 1, thrown: String(cause) }, "under a name, too");
  logger.child({ token: "hunter2" }).warn("in a child");
  assert.equal(lines.length, 3);
  for (const line of lines) {
    JSON.parse(line);
    for (const secret of [own.slice(12), "a-provider-key-1", "hunter2"]) assert.ok(!line.includes(secret), line);
  }
});

test("a secret that is short enough to be guessed is kept out of the log, and no answer tells who tries it that it is one", () => {
  const redactor = createRedactor(["hunter2-hunter2", "a-long-admin-token-of-an-operator"]);
  const line = JSON.stringify({ msg: "hunter2-hunter2 and a-long-admin-token-of-an-operator" });
  assert.equal(redactor.json(line), JSON.stringify({ msg: "[redacted] and [redacted]" }));
  const { towardsCallers } = redactor;
  assert.equal(towardsCallers.finds("hunter2-hunter2"), false);
  assert.equal(towardsCallers.json(line), JSON.stringify({ msg: "hunter2-hunter2 and [redacted]" }));
  redactor.learn(new Set(["another-long-secret-of-a-provider"]).values());
  assert.equal(redactor.finds("another-long-secret-of-a-provider"), true);
  assert.equal(towardsCallers.finds("another-long-secret-of-a-provider"), true);
});
