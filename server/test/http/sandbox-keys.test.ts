import assert from "node:assert/strict";
import { after, suite, test, type TestContext } from "node:test";
import OpenAI from "openai";
import { createKeyStore } from "../../src/access/key-store.ts";
import { newSecret } from "../../src/access/secret.ts";
import { nanoUsd } from "../../src/lib/money.ts";
import type { DialectName } from "../../src/storage/database.ts";
import { openDatabase } from "../../src/storage/open-database.ts";
import { type GatewayUnderTest, startGateway } from "../harness/gateway-under-test.ts";
import { createTestClock, type TestClock } from "../lib/test-clock.ts";
import { onEachDatabase, scratchDatabase } from "../storage/scratch.ts";

const DAY_MS = 86_400_000;

interface Reply {
  readonly status: number;
  readonly headers: Headers;
  readonly body: Record<string, unknown>;
  readonly rule: unknown;
}

async function ask(brikk: GatewayUnderTest, body: unknown = {}): Promise<Reply> {
  const response = await fetch(`${brikk.url}/sandbox/keys`, {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify(body),
  });
  const answer = (await response.json()) as Record<string, unknown>;
  const error = answer["error"] as { details: Record<string, unknown> | null } | undefined;
  return { status: response.status, headers: response.headers, body: answer, rule: error?.details?.["rule"] };
}

async function setUp(t: TestContext, database: DialectName, environment: Record<string, string> = {}) {
  const clock: TestClock = createTestClock();
  const brikk = await startGateway({
    database,
    clock,
    environment: { BRIKK_REQUIRE_AUTH: "true", BRIKK_SELF_SERVICE_KEYS: "true", ...environment },
  });
  t.after(() => brikk.close());
  return { brikk, clock };
}

onEachDatabase(
  "a caller without a key makes one, which is capped, ends by itself and is served",
  async (t, dialect) => {
    const { brikk, clock } = await setUp(t, dialect, { BRIKK_SELF_SERVICE_HARD_CAP_USD: "0.50" });
    const { status, headers, body } = await ask(brikk, { name: "  trying it out " });
    assert.equal(status, 201);
    assert.equal(headers.get("cache-control"), "no-store");
    const secret = String(body["key"]);
    const { key_id: keyId } = body;
    assert.match(secret, /^brikk_[0-9A-Za-z]{46}$/);
    assert.deepEqual(body, {
      id: keyId,
      key_id: keyId,
      key: secret,
      name: "trying it out",
      soft_cap_usd: 0.4,
      hard_cap_usd: 0.5,
      created_at: new Date(clock.now()).toISOString(),
      expires_at: new Date(clock.now() + 7 * DAY_MS).toISOString(),
    });
    const client = new OpenAI({ apiKey: secret, baseURL: `${brikk.url}/v1`, maxRetries: 0 });
    const chat = () =>
      client.chat.completions.create({ model: "gpt-4o-mini", messages: [{ role: "user", content: "Hello" }] });
    assert.equal((await chat()).object, "chat.completion");
    const [row] = await brikk.all(`select * from api_keys where id = '${String(keyId)}'`);
    assert.deepEqual([row?.["origin"], row?.["created_from"]], ["self_service", "127.0.0.1"]);
    clock.advance(7 * DAY_MS);
    await assert.rejects(
      chat(),
      (error) => error instanceof OpenAI.AuthenticationError && error.code === "key_expired",
    );
  },
);

onEachDatabase(
  "60 callers at once from one address get as many keys as an address may make, and the refusals say why and until when",
  async (t, dialect) => {
    const { brikk, clock } = await setUp(t, dialect, { BRIKK_SELF_SERVICE_MAX_KEYS_PER_ADDRESS: "3" });
    const replies = await Promise.all(Array.from({ length: 60 }, () => ask(brikk)));
    assert.equal(replies.filter(({ status }) => status === 201).length, 3);
    for (const { status, rule, headers } of replies) {
      if (status === 201) continue;
      assert.deepEqual([status, rule], [429, "self-service-keys-per-address"]);
      assert.equal(headers.get("retry-after"), String(DAY_MS / 1_000));
      assert.equal(headers.get("x-should-retry"), "false");
    }
    clock.advance(DAY_MS - 1);
    assert.equal((await ask(brikk)).status, 429);
    clock.advance(1);
    assert.equal((await ask(brikk)).status, 201);
  },
);

onEachDatabase(
  "60 made at once by two instances from 60 addresses are as many as there may be; one that ends or is revoked makes room",
  async (t, dialect) => {
    const { database, url } = await scratchDatabase(t, dialect);
    const elsewhere = await openDatabase({ url });
    t.after(() => elsewhere.close());
    const clock = createTestClock();
    const stores = [database, elsewhere].map((one) => createKeyStore({ database: one, clock }));
    const make = (n: number, expiresAtMs = clock.now() + DAY_MS) =>
      stores[n % 2]!.createSelfService(
        { name: "k", hardCap: nanoUsd(1n), expiresAtMs },
        { createdFrom: `192.0.2.${n}`, most: 20, mostPerAddress: 1 },
        { kind: "self_service", ip: `192.0.2.${n}` },
      );
    const made = await Promise.all(Array.from({ length: 60 }, (_, n) => make(n)));
    const keys = made.flatMap((one) => (one.kind === "created" ? [one] : []));
    assert.equal(keys.length, 20);
    assert.ok(keys.every(({ key }) => key.selfService));
    assert.equal((await make(400)).kind, "too-many");
    await stores[0]!.revoke(keys[0]!.key.id);
    assert.equal((await make(401)).kind, "created");
    assert.equal((await make(402)).kind, "too-many");
    clock.advance(DAY_MS);
    assert.equal((await make(403)).kind, "created");
  },
);

onEachDatabase("a restart forgets nothing of what an address has made, revoked keys included", async (t, dialect) => {
  const { database, url } = await scratchDatabase(t, dialect);
  const clock = createTestClock();
  const make = (of: typeof database) =>
    createKeyStore({ database: of, clock }).createSelfService(
      { name: "k" },
      { createdFrom: "2001:db8::/64", most: 20, mostPerAddress: 1 },
      { kind: "self_service" },
    );
  const first = await make(database);
  assert.ok(first.kind === "created");
  await createKeyStore({ database, clock }).revoke(first.key.id);
  const again = await openDatabase({ url });
  t.after(() => again.close());
  assert.deepEqual(await make(again), { kind: "too-many-of-address", made: 1, againAtMs: clock.now() + DAY_MS });
});

test("a flood from one address is turned away before it reaches the database", async (t) => {
  const { brikk } = await setUp(t, "sqlite", { BRIKK_ANONYMOUS_RATE_LIMIT_PER_MIN: "5" });
  const replies = await Promise.all(Array.from({ length: 50 }, () => ask(brikk)));
  const rules = replies.map(({ rule }) => rule).filter((rule) => rule === "self-service-requests");
  assert.ok(rules.length >= 45);
});

suite("what is no request for a key", async () => {
  const brikk = await startGateway({
    environment: { BRIKK_SELF_SERVICE_KEYS: "true", BRIKK_SELF_SERVICE_MAX_KEYS_PER_ADDRESS: "1000" },
  });
  after(() => brikk.close());
  for (const body of [
    { name: "" },
    { name: "x".repeat(101) },
    { name: "two\nlines" },
    { name: 5 },
    { name: `of ${newSecret()}` },
    { name: "sk-proj-0123456789abcdef" },
    { hard_cap_usd: 1_000 },
    { origin: "admin" },
    [],
    null,
  ])
    test(`${JSON.stringify(body).slice(0, 40)} is refused`, async () => {
      assert.equal((await ask(brikk, body)).status, 400);
      assert.deepEqual(await brikk.all("select * from api_keys where origin = 'self_service'"), []);
    });
  test("a request that a page of another site could send without being asked is refused", async () => {
    for (const [type, body] of [
      ["text/plain", "{}"],
      ["application/x-www-form-urlencoded", "name=x"],
    ] as const) {
      const response = await fetch(`${brikk.url}/sandbox/keys`, {
        method: "POST",
        headers: { "content-type": type },
        body,
      });
      assert.equal(response.status, 415, type);
    }
    const bare = await fetch(`${brikk.url}/sandbox/keys`, { method: "POST" });
    assert.equal(bare.status, 400);
    assert.deepEqual(await brikk.all("select * from api_keys where origin = 'self_service'"), []);
  });
});

test("where self-service is off there is no such route", async (t) => {
  const brikk = await startGateway({ environment: { BRIKK_SELF_SERVICE_KEYS: "false" } });
  t.after(() => brikk.close());
  assert.equal((await ask(brikk)).status, 404);
});
