import assert from "node:assert/strict";
import { test, type TestContext } from "node:test";
import { newSecret } from "../../src/access/secret.ts";
import { type GatewayUnderTest, type HarnessOptions, startGateway } from "../harness/gateway-under-test.ts";
import { createTestClock } from "../lib/test-clock.ts";

const ADMIN_TOKEN = "an-admin-token-of-this-test";

async function start(t: TestContext, options: HarnessOptions = {}): Promise<GatewayUnderTest> {
  const brikk = await startGateway({
    ...options,
    environment: {
      TRUST_PROXY: "1",
      BRIKK_REQUIRE_AUTH: "true",
      BRIKK_ADMIN_TOKEN: ADMIN_TOKEN,
      ...options.environment,
    },
  });
  t.after(() => brikk.close());
  return brikk;
}

interface Answer {
  readonly status: number;
  readonly code: string | undefined;
  readonly details: Readonly<Record<string, unknown>> | null | undefined;
  readonly retryAfter: string | null;
}

async function ask(brikk: GatewayUnderTest, path: string, bearer: string | undefined, from: string): Promise<Answer> {
  const response = await fetch(`${brikk.url}${path}`, {
    headers: { "x-forwarded-for": from, ...(bearer !== undefined && { authorization: `Bearer ${bearer}` }) },
  });
  const { error } = (await response.json()) as { error?: { code: string; details: Record<string, unknown> | null } };
  return {
    status: response.status,
    code: error?.code,
    details: error?.details,
    retryAfter: response.headers.get("retry-after"),
  };
}

const me = (brikk: GatewayUnderTest, key: string | undefined, from: string): Promise<Answer> =>
  ask(brikk, "/keys/me", key, from);

async function wrongCredentials(brikk: GatewayUnderTest, kind: string, answer: string): Promise<number> {
  const { values } = await brikk.gateway.metrics.wrongCredentials.get();
  return values.find(({ labels }) => labels.kind === kind && labels.answer === answer)?.value ?? 0;
}

test("after 60 wrong keys in a minute from one address further ones get 429 without a look-up, known keys are let in, other addresses are not concerned", async (t) => {
  const clock = createTestClock();
  const brikk = await start(t, { clock });
  const { secret } = await brikk.createKey();
  const from = "203.0.113.7";
  assert.equal((await me(brikk, secret, from)).status, 200);
  for (let n = 0; n < 60; n += 1) {
    const refused = await me(brikk, newSecret(), from);
    assert.deepEqual([refused.status, refused.code], [401, "invalid_api_key"]);
  }
  const limited = await me(brikk, newSecret(), from);
  assert.deepEqual([limited.status, limited.code, limited.retryAfter], [429, "rate_limit_exceeded", "1"]);
  assert.deepEqual(limited.details, {
    scope: "ip",
    rule: "wrong-keys",
    window: "minute",
    limit: 60,
    remaining: 0,
    reset_seconds: 1,
  });
  for (const wrong of ["brikk_mistyped", "bk_0123456789AB", "sk-of-another-service"])
    assert.equal((await me(brikk, wrong, from)).status, 429, wrong);
  assert.equal((await me(brikk, secret, from)).status, 200, "who shares the address goes on");
  assert.equal((await me(brikk, undefined, from)).code, "missing_api_key");
  assert.equal((await me(brikk, newSecret(), "198.51.100.1")).status, 401);
  assert.equal(await wrongCredentials(brikk, "key", "refused"), 61);
  assert.equal(await wrongCredentials(brikk, "key", "limited"), 4);

  clock.advance(1_000);
  assert.equal((await me(brikk, newSecret(), from)).status, 401, "one a second drains away");
  assert.equal((await me(brikk, newSecret(), from)).status, 429);
});

test("for an address that is limited the database is not asked: with it gone others get 503, that one 429, and known keys go on", async (t) => {
  const clock = createTestClock();
  const brikk = await start(t, { clock });
  const { secret } = await brikk.createKey();
  const from = "203.0.113.7";
  assert.equal((await me(brikk, secret, from)).status, 200);
  for (let n = 0; n < 60; n += 1) await me(brikk, "brikk_mistyped", from);
  await brikk.gateway.database.close();
  assert.equal((await me(brikk, newSecret(), "198.51.100.1")).code, "storage_unavailable");
  assert.equal((await me(brikk, newSecret(), from)).code, "rate_limit_exceeded");
  assert.equal((await ask(brikk, "/v1/models", secret, from)).status, 200);
});

test("one IPv6 network is one guesser, whatever address of it is used", async (t) => {
  const clock = createTestClock();
  const brikk = await start(t, { clock });
  for (let n = 0; n < 60; n += 1)
    assert.equal((await me(brikk, newSecret(), `2001:db8:1:2::${n.toString(16)}`)).status, 401);
  assert.equal((await me(brikk, newSecret(), "2001:db8:1:2:ffff::1")).status, 429);
  assert.equal((await me(brikk, newSecret(), "2001:db8:1:3::1")).status, 401);
});

test("where no key is asked for, what no key of ours looks like is no guess, and a wrong key of ours is one", async (t) => {
  const clock = createTestClock();
  const brikk = await start(t, { clock, environment: { BRIKK_REQUIRE_AUTH: "false" } });
  const from = "203.0.113.7";
  for (let n = 0; n < 70; n += 1) assert.equal((await me(brikk, "sk-none", from)).status, 200);
  for (let n = 0; n < 60; n += 1) await me(brikk, "brikk_mistyped", from);
  assert.equal((await me(brikk, "brikk_mistyped", from)).status, 429);
  assert.equal((await me(brikk, undefined, from)).status, 200);
});

test("after 10 wrong admin tokens in a minute from one address none is looked at, and other addresses are not concerned", async (t) => {
  const clock = createTestClock();
  const brikk = await start(t, { clock });
  const drill = (token: string, from: string): Promise<Answer> => ask(brikk, "/admin/fire-drill", token, from);
  for (let n = 0; n < 10; n += 1) assert.equal((await drill(`wrong-${n}`, `203.0.113.7`)).code, "admin_token_invalid");
  const limited = await drill(ADMIN_TOKEN, "203.0.113.7");
  assert.deepEqual([limited.status, limited.details?.["rule"]], [429, "wrong-admin-tokens"], "the right one neither");
  assert.equal((await drill(ADMIN_TOKEN, "198.51.100.1")).status, 200);
  assert.equal(await wrongCredentials(brikk, "admin_token", "refused"), 10);
  assert.equal(await wrongCredentials(brikk, "admin_token", "limited"), 1);
  clock.advance(60_000);
  assert.equal((await drill(ADMIN_TOKEN, "203.0.113.7")).status, 200);
});
