import assert from "node:assert/strict";
import { after, test } from "node:test";
import { nanoUsd, usdNumber } from "../../src/lib/money.ts";
import { startGateway } from "../harness/gateway-under-test.ts";
import { createTestClock } from "../lib/test-clock.ts";

/** Monday, 23 November 2026, noon (UTC). */
const clock = createTestClock();
const brikk = await startGateway({ clock });
after(() => brikk.close());

const get = async (path: string, secret: string): Promise<Record<string, unknown>> => {
  const response = await fetch(`${brikk.url}${path}`, { headers: { authorization: `Bearer ${secret}` } });
  assert.equal(response.status, 200);
  return (await response.json()) as Record<string, unknown>;
};

const chat = async (
  secret: string,
  body: object = {},
): Promise<{ prompt_tokens: number; completion_tokens: number; total_tokens: number }> => {
  const response = await fetch(`${brikk.url}/v1/chat/completions`, {
    method: "POST",
    headers: { "content-type": "application/json", authorization: `Bearer ${secret}` },
    body: JSON.stringify({ model: "gpt-4o-mini", messages: [{ role: "user", content: "Hello there" }], ...body }),
  });
  assert.equal(response.status, 200);
  return (
    (await response.json()) as { usage: { prompt_tokens: number; completion_tokens: number; total_tokens: number } }
  ).usage;
};

const sumOf = async (keyId: string): Promise<number> => {
  const [row] = await brikk.all(`select sum(cost_nano_usd) as cost from usage_events where key_id = '${keyId}'`);
  return usdNumber(nanoUsd(row?.["cost"] as bigint));
};

/** A budget in which nothing happened. */
const unused = (window: string, caps: { soft: number; hard: number } | undefined, resetsAt: string) => ({
  window,
  spent_usd: 0,
  reserved_usd: 0,
  soft_cap_usd: caps?.soft ?? null,
  hard_cap_usd: caps?.hard ?? null,
  remaining_usd: caps?.hard ?? null,
  soft_cap_exceeded: false,
  hard_cap_exceeded: false,
  resets_at: resetsAt,
});
const unusedBudgets = (soft: number, hard: number) => [
  unused("day", { soft, hard }, "2026-11-24T00:00:00.000Z"),
  unused("week", undefined, "2026-11-30T00:00:00.000Z"),
  unused("month", undefined, "2026-12-01T00:00:00.000Z"),
];

const NOTHING = { cost_usd: 0, requests: 0, tokens: 0 };

test("/usage/me has exactly its fields, and zeros before the first request", async () => {
  const { id, secret } = await brikk.createKey({ softCap: nanoUsd(2_000_000_000n), hardCap: nanoUsd(3_000_000_000n) });
  assert.deepEqual(await get("/usage/me", secret), {
    api_key_id: id,
    today: NOTHING,
    this_week: NOTHING,
    this_month: NOTHING,
    soft_cap_usd: 2,
    hard_cap_usd: 3,
    soft_cap_exceeded: false,
    hard_cap_exceeded: false,
    resets_at: "2026-11-24T00:00:00.000Z",
    budgets: unusedBudgets(2, 3),
  });
});

test("/usage/me shows a request as soon as its answer is whole: its cost is the ledger's, its tokens the provider's", async () => {
  const { id, secret } = await brikk.createKey();
  const first = await chat(secret);
  const second = await chat(secret, { model: "mistral-small-latest" });
  const usage = await get("/usage/me", secret);
  const today = { cost_usd: await sumOf(id), requests: 2, tokens: first.total_tokens + second.total_tokens };
  assert.ok(today.cost_usd > 0);
  assert.deepEqual(usage["today"], today);
  assert.deepEqual(usage["this_week"], today);
  assert.deepEqual(usage["this_month"], today);
});

test("a key sees its own usage only", async () => {
  const { secret } = await brikk.createKey();
  assert.deepEqual((await get("/usage/me", secret))["today"], NOTHING);
});

test("a request that failed or was refused counts and costs nothing", async () => {
  const { secret } = await brikk.createKey();
  brikk.simulator.faults.set({ vendor: "openai", count: 1, fault: { kind: "status", status: 401 } });
  for (const model of ["gpt-4o-mini", "no-such-model"]) {
    await fetch(`${brikk.url}/v1/chat/completions`, {
      method: "POST",
      headers: { "content-type": "application/json", authorization: `Bearer ${secret}` },
      body: JSON.stringify({ model, messages: [{ role: "user", content: "Hello" }] }),
    });
  }
  assert.deepEqual((await get("/usage/me", secret))["today"], { cost_usd: 0, requests: 2, tokens: 0 });
});

test("/keys/me says what the key is and never a secret", async () => {
  const expiresAtMs = clock.now() + 86_400_000;
  const { id, secret } = await brikk.createKey({
    name: "demo",
    softCap: nanoUsd(250_000_000n),
    hardCap: nanoUsd(500_000_000n),
    rateLimitPerMin: 7,
    tokensPerMin: 5_000,
    maxConcurrentRequests: 3,
    allowedModels: ["gpt-4o-mini"],
    allowedProviders: ["openai"],
    allowedIps: ["127.0.0.1", "::1"],
    metadata: { team: "not shown" },
    expiresAtMs,
  });
  assert.deepEqual(await get("/keys/me", secret), {
    key_id: id,
    name: "demo",
    anonymous: false,
    status: "active",
    state: "active",
    soft_cap_usd: 0.25,
    hard_cap_usd: 0.5,
    budgets: unusedBudgets(0.25, 0.5),
    rate_limit_per_min: 7,
    tokens_per_min: 5_000,
    max_concurrent_requests: 3,
    rescue: null,
    models: ["gpt-4o-mini"],
    providers: ["openai"],
    allowed_ips: ["127.0.0.1", "::1"],
    signing_required: false,
    self_service: false,
    secrets: [{ prefix: secret.slice(0, 12), created_at: "2026-11-23T12:00:00.000Z", valid_until: null }],
    created_at: "2026-11-23T12:00:00.000Z",
    expires_at: "2026-11-24T12:00:00.000Z",
  });
});

test("/keys/me knows what other instances spent, as /usage/me does", async () => {
  const { id, secret } = await brikk.createKey();
  await chat(secret);
  await brikk.gateway.database.transact([
    {
      sql: "update budget_windows set spent_nano_usd = spent_nano_usd + ? where budget_id = ?",
      params: [5_000_000_000n, `${id}/day`],
    },
  ]);
  const { budgets } = await get("/keys/me", secret);
  assert.ok((budgets as { spent_usd: number }[])[0]!.spent_usd > 5);
  assert.deepEqual(budgets, (await get("/usage/me", secret))["budgets"]);
});

test("/keys/me shows the settings' defaults where the key has no limits of its own", async () => {
  const { secret } = await brikk.createKey();
  const {
    soft_cap_usd: soft,
    hard_cap_usd: hard,
    rate_limit_per_min: limit,
    tokens_per_min: tokens,
    max_concurrent_requests: atOnce,
    expires_at: expiresAt,
  } = await get("/keys/me", secret);
  assert.deepEqual([soft, hard, limit, tokens, atOnce, expiresAt], [1_000, 1_000, 100_000, null, null, null]);
});

/** Moves the file's clock, so it stands last. */
test("today begins anew at midnight UTC, the week on Monday, the month on its first; a spent cap is there again", async () => {
  const { id, secret } = await brikk.createKey({ softCap: nanoUsd(1n), hardCap: nanoUsd(1_000_000_000n) });
  await chat(secret);
  const first = await sumOf(id);
  const monday = await get("/usage/me", secret);
  assert.equal(monday["soft_cap_exceeded"], true);
  clock.advance(12 * 3_600_000);
  const tuesday = await get("/usage/me", secret);
  assert.equal(tuesday["resets_at"], "2026-11-25T00:00:00.000Z");
  assert.deepEqual(tuesday["today"], NOTHING);
  assert.equal(tuesday["soft_cap_exceeded"], false);
  assert.equal((tuesday["this_week"] as { cost_usd: number }).cost_usd, first);
  await chat(secret);
  clock.advance(6 * 86_400_000);
  const nextMonday = await get("/usage/me", secret);
  assert.deepEqual(nextMonday["this_week"], NOTHING);
  assert.equal((nextMonday["this_month"] as { requests: number }).requests, 2);
  clock.advance(86_400_000);
  const december = await get("/usage/me", secret);
  assert.deepEqual(december["this_month"], NOTHING);
  assert.equal(december["resets_at"], "2026-12-02T00:00:00.000Z");
});
