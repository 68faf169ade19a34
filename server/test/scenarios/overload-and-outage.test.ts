import assert from "node:assert/strict";
import { type TestContext, test } from "node:test";
import { request } from "undici";
import type { Row } from "../../src/storage/database.ts";
import { type GatewayUnderTest, type HarnessOptions, startGateway } from "../harness/gateway-under-test.ts";
import { eventually } from "../ledger/ledger-fixture.ts";

/** Limits of time and load, and what an operator sees and does while a provider is out. */
const TOKEN = "the-admin-token-of-this-test";
const OPENAI = { model: "gpt-4o-mini" };
const MISTRAL = { model: "mistral-small-latest" };
const BOTH = { ...OPENAI, models: [MISTRAL.model] };

async function started(t: TestContext, options: HarnessOptions = {}): Promise<GatewayUnderTest> {
  const brikk = await startGateway(options);
  t.after(() => brikk.close());
  return brikk;
}

interface Told {
  readonly status: number;
  readonly headers: Record<string, string | string[] | undefined>;
  readonly text: string;
  readonly ms: number;
}

async function ask(brikk: GatewayUnderTest, body: object, signal?: AbortSignal): Promise<Told> {
  const sentAt = performance.now();
  const answer = await request(`${brikk.url}/v1/chat/completions`, {
    method: "POST",
    ...(signal && { signal }),
    headers: { "content-type": "application/json" },
    body: JSON.stringify({ messages: [{ role: "user", content: "Why is the sky blue?" }], max_tokens: 40, ...body }),
  });
  const text = await answer.body.text();
  return { status: answer.statusCode, headers: answer.headers, text, ms: performance.now() - sentAt };
}

const codeOf = ({ text }: Told): string =>
  (JSON.parse(text.split("event: error\ndata: ")[1] ?? text) as { error: { code: string } }).error.code;

async function get<Body>(brikk: GatewayUnderTest, path: string): Promise<Body> {
  const { body } = await request(`${brikk.url}${path}`);
  return (await body.json()) as Body;
}

async function admin(brikk: GatewayUnderTest, method: "POST" | "DELETE", path: string, body?: object): Promise<number> {
  const answer = await request(`${brikk.url}/admin${path}`, {
    method,
    headers: { authorization: `Bearer ${TOKEN}`, ...(body && { "content-type": "application/json" }) },
    ...(body && { body: JSON.stringify(body) }),
  });
  await answer.body.dump();
  return answer.statusCode;
}

interface Breaker {
  readonly provider: string;
  readonly state: string;
  readonly consecutive_failures: number;
  readonly last_fault: string | null;
  readonly opens: number;
  readonly next_probe_at: string | null;
  readonly cooling_until: string | null;
}

async function breakerOf(brikk: GatewayUnderTest, name: string): Promise<Breaker> {
  const { breakers } = await get<{ breakers: Breaker[] }>(brikk, "/health/circuit-breakers");
  const breaker = breakers.find(({ provider }) => provider === name);
  assert.ok(breaker, `no breaker of ${name}`);
  return breaker;
}

interface Standing {
  readonly name: string;
  readonly status: string;
  readonly state: string;
  readonly error_rate: number;
  readonly in_flight: number;
  readonly queued: number;
}

async function standingOf(brikk: GatewayUnderTest, provider: string): Promise<Standing> {
  const { providers } = await get<{ providers: Standing[] }>(brikk, "/health/providers");
  return providers.find(({ name }) => name === provider)!;
}

async function metric(brikk: GatewayUnderTest, name: string): Promise<number> {
  const { body } = await request(`${brikk.url}/metrics`);
  const line = (await body.text()).split("\n").find((text) => text.startsWith(`${name} `));
  return line === undefined ? 0 : Number(line.slice(name.length));
}

async function lastRow(brikk: GatewayUnderTest): Promise<Row> {
  const row = (await brikk.events()).at(-1);
  assert.ok(row);
  return row;
}

test("one deadline holds over a whole request, before its answer and in the middle of it, and no wait is begun that would pass it", async (t) => {
  const brikk = await started(t, { environment: { BRIKK_REQUEST_TIMEOUT_SECONDS: "0.6" } });
  const { faults } = brikk.simulator;
  for (const stream of [false, true]) {
    faults.clear();
    faults.set({ vendor: "openai", fault: { kind: "hang" } });
    const told = await ask(brikk, { ...OPENAI, stream });
    assert.deepEqual([told.status, codeOf(told)], [504, "deadline_exceeded"]);
    assert.ok(told.ms >= 500 && told.ms < 4_000, `${told.ms} ms`);
    const row = await lastRow(brikk);
    assert.deepEqual([row["outcome"], row["error_code"], row["attempts"]], ["failed", "deadline_exceeded", 1n]);

    // Would be obeyed if there were time; as there is not, it is passed on at once.
    faults.clear();
    faults.set({ vendor: "openai", fault: { kind: "status", status: 429, retryAfter: 5 } });
    const limited = await ask(brikk, { ...OPENAI, stream });
    assert.deepEqual([limited.status, codeOf(limited)], [429, "provider_rate_limited"]);
    assert.deepEqual([limited.headers["retry-after"], (await lastRow(brikk))["attempts"]], ["5", 1n]);
    brikk.gateway.health.reset();
  }
  brikk.gateway.health.reset();
  faults.clear();
  faults.set({ vendor: "openai", fault: { kind: "stall", afterTokens: 5 } });
  const told = await ask(brikk, { ...BOTH, stream: true });
  assert.deepEqual([told.status, codeOf(told)], [200, "deadline_exceeded"]);
  assert.doesNotMatch(told.text, /\[DONE\]/);
  const row = await lastRow(brikk);
  assert.deepEqual([row["outcome"], row["error_code"], row["status"]], ["truncated", "deadline_exceeded", 200n]);
  assert.ok((row["cost_nano_usd"] as bigint) > 0n);
  await eventually(() => brikk.gateway.health.providerReport("openai").inFlight === 0);
});

test("a provider's places and its queue are bounded: who is too many gets 503 with Retry-After, others go on as before", async (t) => {
  const brikk = await started(t, {
    environment: { BRIKK_PROVIDER_MAX_IN_FLIGHT: "2", BRIKK_PROVIDER_MAX_QUEUED: "1", PROVIDER_MAX_RETRIES: "0" },
  });
  brikk.simulator.faults.set({ vendor: "openai", count: 2, fault: { kind: "hang" } });
  const leaving = new AbortController();
  const load = () => brikk.gateway.health.providerReport("openai");
  const hanging = [1, 2].map(() => ask(brikk, OPENAI, leaving.signal).catch((error: Error) => error.name));
  await eventually(() => load().inFlight === 2 && brikk.simulator.faults.list().length === 0);
  const queued = ask(brikk, OPENAI);
  await eventually(() => load().queued === 1);
  const { in_flight, queued: waiting } = await standingOf(brikk, "openai");
  assert.deepEqual([in_flight, waiting], [2, 1]);

  const refused = await ask(brikk, OPENAI);
  assert.deepEqual([refused.status, codeOf(refused)], [503, "overloaded"]);
  assert.ok(Number(refused.headers["retry-after"]) >= 1);
  assert.ok(refused.ms < 2_000, "it was told at once");
  const row = await lastRow(brikk);
  assert.deepEqual([row["outcome"], row["error_code"], row["attempts"]], ["failed", "overloaded", 0n]);
  assert.equal(row["cost_nano_usd"], 0n);
  assert.equal(await metric(brikk, 'brikk_overload_refusals_total{reason="provider"}'), 1);

  // The other provider serves whoever names it, and whoever may be served by both.
  assert.equal((await ask(brikk, MISTRAL)).status, 200);
  const elsewhere = await ask(brikk, BOTH);
  assert.deepEqual([elsewhere.status, elsewhere.headers["x-brikk-provider"]], [200, "mistral"]);

  leaving.abort();
  assert.deepEqual(await Promise.all(hanging), ["AbortError", "AbortError"]);
  assert.equal((await queued).status, 200, "the queue moves on");
  await eventually(() => load().inFlight === 0 && load().queued === 0);
});

test("a process takes so many requests and no more: 503 with Retry-After, and room again when one has ended", async (t) => {
  const brikk = await started(t, { environment: { BRIKK_MAX_IN_FLIGHT: "1" } });
  brikk.simulator.faults.set({ vendor: "openai", count: 1, fault: { kind: "hang" } });
  const leaving = new AbortController();
  const hanging = ask(brikk, OPENAI, leaving.signal).catch((error: Error) => error.name);
  await eventually(() => brikk.gateway.inFlight.count === 1);
  const refused = await ask(brikk, MISTRAL);
  assert.deepEqual([refused.status, codeOf(refused)], [503, "overloaded"]);
  assert.equal(refused.headers["retry-after"], "1");
  assert.equal(await metric(brikk, 'brikk_overload_refusals_total{reason="process"}'), 1);
  leaving.abort();
  assert.equal(await hanging, "AbortError");
  await eventually(() => brikk.gateway.inFlight.count === 0);
  assert.equal((await ask(brikk, MISTRAL)).status, 200);
});

test("a provider that asks for time is left alone for it: the other serves at once, who has no other is told how long, and an administrator ends it", async (t) => {
  const brikk = await started(t, { environment: { BRIKK_ADMIN_TOKEN: TOKEN } });
  const reached = () => brikk.simulator.served.totals().openai.requests;
  brikk.simulator.faults.set({
    vendor: "openai",
    count: 1,
    fault: { kind: "status", status: 429, retryAfter: 60 },
  });
  assert.equal((await ask(brikk, BOTH)).headers["x-brikk-provider"], "mistral");
  assert.equal(reached(), 1);

  const served = await ask(brikk, BOTH);
  assert.equal(served.headers["x-brikk-provider"], "mistral");
  assert.equal((await lastRow(brikk))["attempts"], 1n);
  const refused = await ask(brikk, OPENAI);
  assert.deepEqual([refused.status, codeOf(refused)], [429, "provider_rate_limited"]);
  const waitS = Number(refused.headers["retry-after"]);
  assert.ok(waitS > 50 && waitS <= 60, String(waitS));
  assert.equal((await lastRow(brikk))["attempts"], 0n);
  assert.equal(reached(), 1);

  const breaker = await breakerOf(brikk, "openai");
  assert.equal(breaker.state, "closed");
  assert.ok(Date.parse(breaker.cooling_until!) > Date.now() + 50_000);
  assert.equal((await standingOf(brikk, "openai")).status, "cooling_down");
  assert.equal(await metric(brikk, 'brikk_provider_cooldowns_total{provider="openai",model="gpt-4o-mini"}'), 1);

  assert.equal(await admin(brikk, "POST", "/circuit-breakers/reset", { provider: "openai" }), 200);
  assert.equal((await ask(brikk, OPENAI)).status, 200);
  assert.equal((await breakerOf(brikk, "openai")).cooling_until, null);
});

test("a fire drill: the breaker opens, the other serves, what operators look at tells the truth, and once mended it closes", async (t) => {
  const lines: Record<string, unknown>[] = [];
  const brikk = await started(t, {
    environment: { BRIKK_ADMIN_TOKEN: TOKEN, PROVIDER_MAX_RETRIES: "0" },
    log: { write: (line) => void lines.push(JSON.parse(line) as Record<string, unknown>) },
  });
  const labels = 'provider="openai",model="gpt-4o-mini"';
  const reached = () => brikk.simulator.served.totals().openai.requests;
  assert.equal((await ask(brikk, BOTH)).headers["x-brikk-provider"], "openai");
  assert.equal((await breakerOf(brikk, "openai")).state, "closed");

  assert.equal(await admin(brikk, "POST", "/fire-drill/faults", { vendor: "openai", preset: "errors" }), 201);
  for (let turn = 0; turn < 5; turn++) {
    const told = await ask(brikk, { ...BOTH, stream: turn % 2 === 0 });
    assert.deepEqual([told.status, told.headers["x-brikk-fallback"]], [200, "true"]);
  }
  // What is looked at is what the fifth failure left, as long as no probe has been let through.
  const opened = await breakerOf(brikk, "openai");
  assert.deepEqual([opened.state, opened.opens, opened.last_fault], ["open", 1, "overloaded"]);
  assert.ok(opened.consecutive_failures >= 5 && opened.next_probe_at !== null);
  assert.equal(await metric(brikk, `brikk_circuit_breaker_state{${labels}}`), 2);
  assert.equal(await metric(brikk, `brikk_provider_faults_total{${labels},fault="overloaded"}`), 5);
  const standing = await standingOf(brikk, "openai");
  assert.deepEqual([standing.status, standing.state], ["failing", "open"]);
  assert.ok(standing.error_rate > 0.5);
  assert.equal((await standingOf(brikk, "mistral")).status, "healthy");

  // Left alone but for a probe now and then, and nobody notices.
  const before = reached();
  let asked = 0;
  const until = performance.now() + 1_500;
  while (performance.now() < until) {
    assert.equal((await ask(brikk, BOTH)).status, 200);
    asked += 1;
  }
  const probes = reached() - before;
  assert.ok(asked > 30 && probes > 0 && probes <= 12, `${probes} of ${asked} requests reached it`);

  assert.equal(await admin(brikk, "DELETE", "/fire-drill/faults"), 200);
  const mendedAt = performance.now();
  while ((await ask(brikk, BOTH)).headers["x-brikk-provider"] !== "openai")
    assert.ok(performance.now() - mendedAt < 5_000, "it did not come back");
  const closed = await breakerOf(brikk, "openai");
  assert.deepEqual([closed.state, closed.consecutive_failures, closed.next_probe_at], ["closed", 0, null]);
  assert.equal(await metric(brikk, `brikk_circuit_breaker_state{${labels}}`), 0);
  assert.equal((await standingOf(brikk, "openai")).state, "closed");

  const changes = lines.filter(({ msg }) => String(msg).startsWith("circuit breaker"));
  assert.deepEqual(
    [changes[0]?.["from"], changes[0]?.["to"], changes.at(-1)?.["to"], changes.at(-1)?.["reason"]],
    ["closed", "open", "closed", "a probe succeeded"],
  );
  const fallen = lines.find(({ msg, fallback }) => msg === "completion" && fallback === true);
  const attempts = fallen?.["attempt_log"] as { provider: string; fault?: string; status?: number }[];
  assert.deepEqual(
    attempts.map(({ provider, fault, status }) => [provider, fault, status]),
    [
      ["openai", "overloaded", 500],
      ["mistral", undefined, undefined],
    ],
  );
});

test("an administrator's reset closes a breaker at once, and a caller's own mistakes and leaving never open one", async (t) => {
  const brikk = await started(t, { environment: { BRIKK_ADMIN_TOKEN: TOKEN, PROVIDER_MAX_RETRIES: "0" } });
  const { faults } = brikk.simulator;
  faults.set({ vendor: "openai", fault: { kind: "status", status: 400 } });
  for (let turn = 0; turn < 8; turn++) assert.equal((await ask(brikk, OPENAI)).status, 400);
  faults.clear();
  faults.set({ vendor: "openai", fault: { kind: "hang" } });
  for (let turn = 0; turn < 8; turn++) {
    const leaving = new AbortController();
    const left = assert.rejects(ask(brikk, OPENAI, leaving.signal), { name: "AbortError" });
    await eventually(() => brikk.gateway.health.providerReport("openai").inFlight === 1);
    leaving.abort();
    await left;
    await eventually(() => brikk.gateway.health.providerReport("openai").inFlight === 0);
  }
  const untouched = await breakerOf(brikk, "openai");
  assert.deepEqual([untouched.state, untouched.consecutive_failures, untouched.opens], ["closed", 0, 0]);

  faults.clear();
  faults.set({ vendor: "openai", fault: { kind: "status", status: 503 } });
  while ((await breakerOf(brikk, "openai")).state !== "open") assert.equal((await ask(brikk, OPENAI)).status, 502);
  faults.clear();
  assert.equal(await admin(brikk, "POST", "/circuit-breakers/reset"), 200);
  assert.equal((await breakerOf(brikk, "openai")).state, "closed");
  assert.equal((await ask(brikk, OPENAI)).status, 200);
});
