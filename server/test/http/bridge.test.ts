import assert from "node:assert/strict";
import { once } from "node:events";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { after, beforeEach, test } from "node:test";
import { parseUsd } from "../../src/lib/money.ts";
import { startGateway } from "../harness/gateway-under-test.ts";
import { followBill } from "../harness/provider-bill.ts";
import { eventually } from "../ledger/ledger-fixture.ts";
import { assertHolds, ledgerTotal } from "../scenarios/ledger-audit.ts";
import { clientOf, eventsIn, openStream, spokenIn, turnsIn, type WireRun } from "./conversation-events.ts";

const brikk = await startGateway();
after(() => brikk.close());
beforeEach(() => {
  brikk.simulator.faults.clear();
  brikk.gateway.health.reset();
});

const BRIDGE = {
  first_message: "Should cities ban cars?",
  agents: [
    { provider: "openai", name: "Planner", persona: "You plan cities." },
    { provider: "mistral", name: "Driver" },
  ],
  max_turns: 4,
};

const asked = (): number =>
  Object.values(brikk.simulator.served.totals()).reduce((sum, { requests }) => sum + requests, 0);

async function bridge(secret: string, body: object = BRIDGE): Promise<WireRun> {
  const response = await clientOf(brikk, secret).post("/agents/bridge", body);
  const text = await response.text();
  assert.equal(response.status, 200, text);
  return JSON.parse(text) as WireRun;
}

test("two agents take turns, each turn has its row with its cost, and the sum is the vendors' bill", async () => {
  const key = await brikk.createKey();
  const bill = followBill(brikk.simulator);
  const response = await clientOf(brikk, key.secret).post("/agents/bridge", BRIDGE, { "x-request-id": "talk-1" });
  const run = (await response.json()) as WireRun;
  assert.equal(run.ended, "max_turns");
  assert.equal(run.error, null);
  assert.deepEqual(
    run.turns.map(({ index, agent, provider, status }) => [index, agent, provider, status].join(" ")),
    [
      "1 Planner openai completed",
      "2 Driver mistral completed",
      "3 Planner openai completed",
      "4 Driver mistral completed",
    ],
  );
  const rows = (await brikk.events()).filter((row) => row["key_id"] === key.id);
  assert.deepEqual(
    rows.map((row) => row["request_id"]),
    ["talk-1.t1", "talk-1.t2", "talk-1.t3", "talk-1.t4"],
  );
  for (const [index, turn] of run.turns.entries()) {
    assert.equal(turn.request_id, rows[index]!["request_id"]);
    assert.equal(Math.round(turn.cost_usd * 1e9), Number(rows[index]!["cost_nano_usd"]));
    assert.equal(turn.usage.completion_tokens, Number(rows[index]!["output_tokens"]));
    assert.ok(turn.message.length > 20 && turn.latency_ms >= 0 && turn.time_to_first_token_ms !== null);
  }
  assert.equal(bill.requests, 4);
  assert.equal(await ledgerTotal(brikk.gateway.database, key.id), bill.total);
  assert.equal(Math.round(run.totals.cost_usd * 1e9), Number(bill.total));
  await assertHolds(brikk.gateway.database);
});

test("each agent answers what the other said: the simulator quotes the beginning of what it is told", async () => {
  const { secret } = await brikk.createKey();
  const { turns } = await bridge(secret);
  assert.match(turns[0]!.message, /Should cities ban cars/);
  for (const index of [1, 2, 3]) {
    const before = turns[index - 1]!.message.replaceAll(/[“”]/g, "")
      .split(" ")
      .slice(0, 4)
      .join(" ");
    assert.ok(turns[index]!.message.includes(before), `turn ${index + 1} quotes "${before}"`);
  }
});

test("as events: the deltas of a turn are its message, and stats and totals are those of the JSON answer", async () => {
  const key = await brikk.createKey();
  const response = await clientOf(brikk, key.secret).post(
    "/agents/bridge",
    { ...BRIDGE, language: "ar", max_turns: 3 },
    { accept: "text/event-stream" },
  );
  assert.match(response.headers.get("content-type") ?? "", /^text\/event-stream/);
  const events = eventsIn(await response.text());
  assert.deepEqual(
    events.filter(({ event }) => event !== "turn.delta").map(({ event }) => event),
    ["run.started", ...Array.from({ length: 3 }, () => ["turn.started", "turn.finished"]).flat(), "run.finished"],
  );
  const turns = turnsIn(events);
  const spoken = spokenIn(events);
  for (const turn of turns) {
    assert.equal(spoken.get(turn.index), turn.message);
    assert.deepEqual([turn.lang, turn.dir], ["ar", "rtl"]);
  }
  const last = events.at(-1)!.data as { totals: WireRun["totals"]; ended: string };
  assert.equal(last.ended, "max_turns");
  assert.equal(Math.round(last.totals.cost_usd * 1e9), Number(await ledgerTotal(brikk.gateway.database, key.id)));
  assert.equal(new Set(events.map(({ id }) => id)).size, events.length);
});

test("an agent whose provider fails is stood in for and marked; one whose model was named is not, and what was said is kept", async () => {
  const { secret } = await brikk.createKey();
  brikk.simulator.faults.set({ vendor: "mistral", fault: { kind: "status", status: 500 } });
  const swapped = await bridge(secret);
  assert.equal(swapped.ended, "max_turns");
  assert.deepEqual(
    swapped.turns.map(({ provider, fallback }) => `${provider} ${fallback}`),
    ["openai false", "openai true", "openai false", "openai true"],
  );
  assert.equal(swapped.totals.fallbacks, 2);
  brikk.gateway.health.reset();
  const named = await bridge(secret, {
    ...BRIDGE,
    agents: [{ provider: "openai" }, { provider: "mistral", model: "mistral-small-latest" }],
  });
  assert.equal(named.ended, "failed");
  assert.equal(named.error?.code, "provider_error");
  assert.deepEqual(
    named.turns.map(({ status }) => status),
    ["completed", "failed"],
  );
});

test("where nobody said anything the answer is the refusal of a single request", async () => {
  const { secret } = await brikk.createKey();
  brikk.simulator.faults.set({ vendor: "*", fault: { kind: "status", status: 500 } });
  const failed = await clientOf(brikk, secret).post("/agents/bridge", BRIDGE);
  assert.equal(failed.status, 502);
  assert.equal(((await failed.json()) as WireRun).error?.code, "provider_error");
  const empty = await brikk.createKey({ hardCap: parseUsd("0")!, softCap: parseUsd("0")! });
  for (const accept of ["application/json", "text/event-stream"]) {
    const refused = await clientOf(brikk, empty.secret).post("/agents/bridge", BRIDGE, { accept });
    assert.equal(refused.status, 402, accept);
    assert.equal(refused.headers.get("x-brikk-hard-cap-exceeded"), "true");
    assert.equal(((await refused.json()) as WireRun).error?.code, "hard_cap_exceeded");
  }
});

test("a turn that is cut after it began is marked, answered as far as it came, and the conversation goes on", async () => {
  const { secret } = await brikk.createKey();
  brikk.simulator.faults.set({ vendor: "openai", count: 1, fault: { kind: "cut", afterTokens: 5 } });
  const run = await bridge(secret);
  assert.equal(run.ended, "max_turns");
  assert.deepEqual(
    run.turns.map(({ status, truncated }) => `${status} ${truncated}`),
    ["truncated true", "completed false", "completed false", "completed false"],
  );
  assert.equal(run.turns[0]!.error?.code, "provider_error");
  assert.ok(run.turns[0]!.message.length > 0);
});

for (const accept of ["application/json", "text/event-stream"]) {
  test(`a caller who leaves ends the conversation: the turn under way is aborted and settled, and nobody is asked again (${accept})`, async () => {
    const slow = await startGateway({ simulator: { tokensPerSecond: 50 } });
    try {
      const key = await slow.createKey();
      const leaving = new AbortController();
      const answer = fetch(`${slow.url}/agents/bridge`, {
        method: "POST",
        headers: { authorization: `Bearer ${key.secret}`, "content-type": "application/json", accept },
        body: JSON.stringify(BRIDGE),
        signal: leaving.signal,
      }).catch(() => undefined);
      const { health, inFlight } = slow.gateway;
      await eventually(() => health.providerReport("openai").inFlight === 1);
      leaving.abort();
      await answer;
      await eventually(() => inFlight.count === 0);
      const rows = await slow.events();
      assert.deepEqual(
        rows.map((row) => [row["outcome"], row["status"]]),
        [["cancelled", 499n]],
      );
      assert.equal(slow.simulator.served.totals().mistral.requests, 0);
      await assertHolds(slow.gateway.database);
    } finally {
      await slow.close();
    }
  });
}

test("the budget ends a conversation between two turns, with the rule and its numbers, and was never exceeded", async () => {
  const key = await brikk.createKey({ hardCap: parseUsd("0.0008")!, softCap: parseUsd("0.0008")! });
  const run = await bridge(key.secret, { ...BRIDGE, max_turns: 12 });
  assert.equal(run.ended, "budget");
  assert.equal(run.error?.code, "hard_cap_exceeded");
  assert.equal(run.error?.details?.["limit_usd"], 0.0008);
  assert.ok(run.turns.length >= 1 && run.turns.length < 12, `${run.turns.length} turns`);
  assert.ok(run.turns.every(({ message }) => message !== ""));
  assert.ok((await ledgerTotal(brikk.gateway.database, key.id)) <= 800_000n);
  await assertHolds(brikk.gateway.database);
});

test("each turn counts against the key's rate limit: a long wait ends the conversation, a short one is waited for and told", async () => {
  const few = await brikk.createKey({ rateLimitPerMin: 2 });
  const ended = await bridge(few.secret);
  assert.equal(ended.ended, "rate_limit");
  assert.equal(ended.turns.length, 2);
  assert.equal(ended.error?.code, "rate_limit_exceeded");
  assert.equal(ended.error?.details?.["rule"], "key-rpm");

  const many = await brikk.createKey({ rateLimitPerMin: 600 });
  const key = await brikk.gateway.authenticate({ authorization: `Bearer ${many.secret}` });
  // One is left; the next comes every 100 ms.
  for (let count = 0; count < 599; count += 1)
    await brikk.gateway.rateLimiter.admit({ key, remoteAddress: "127.0.0.1" });
  const stream = await openStream(brikk, many.secret, "/agents/bridge", { body: { ...BRIDGE, max_turns: 3 } });
  await stream.ended;
  assert.equal(stream.events.at(-1)?.event, "run.finished");
  const waits = stream.events.filter(({ event }) => event === "turn.waiting");
  assert.ok(waits.length >= 1 && waits.every(({ id, data }) => id === undefined && Number(data["wait_ms"]) <= 100));
});

test("tokens of every turn are charged against the key's tokens per minute", async () => {
  const { secret } = await brikk.createKey({ tokensPerMin: 300 });
  const run = await bridge(secret, { ...BRIDGE, max_turns: 12 });
  assert.equal(run.ended, "rate_limit");
  assert.equal(run.error?.details?.["rule"], "key-tpm");
});

test("a key with one slot can hold a conversation, and has its slot again after it", async () => {
  const { secret } = await brikk.createKey({ maxConcurrentRequests: 1 });
  for (let count = 0; count < 2; count += 1) assert.equal((await bridge(secret)).ended, "max_turns");
});

test("a key that is revoked meanwhile speaks no further turn", async () => {
  const slow = await startGateway({ simulator: { tokensPerSecond: 400 } });
  try {
    const key = await slow.createKey();
    const stream = await openStream(slow, key.secret, "/agents/bridge", { body: { ...BRIDGE, max_turns: 12 } });
    await stream.until(({ event }) => event === "turn.delta");
    await slow.gateway.keyStore.revoke(key.id);
    await stream.ended;
    const last = stream.events.at(-1)!;
    assert.equal(last.event, "run.stopped");
    assert.deepEqual([last.data["ended"], (last.data["error"] as { code: string }).code], ["refused", "key_revoked"]);
    assert.ok(turnsIn(stream.events).length < 12);
  } finally {
    await slow.close();
  }
});

test("a key that is kept to other addresses meanwhile speaks no further turn", async () => {
  const slow = await startGateway({ simulator: { tokensPerSecond: 400 } });
  try {
    const key = await slow.createKey();
    const stream = await openStream(slow, key.secret, "/agents/bridge", { body: { ...BRIDGE, max_turns: 12 } });
    await stream.until(({ event }) => event === "turn.delta");
    await slow.gateway.keyStore.update(key.id, () => ({ name: "test", allowedIps: ["203.0.113.7"] }));
    await stream.ended;
    const last = stream.events.at(-1)!;
    assert.equal(last.event, "run.stopped");
    assert.deepEqual(
      [last.data["ended"], (last.data["error"] as { code: string }).code],
      ["refused", "ip_not_allowed"],
    );
    assert.ok(turnsIn(stream.events).length < 12);
  } finally {
    await slow.close();
  }
});

test("a key that is revoked while its turn waits for the rate limit speaks it no more", async () => {
  const few = await brikk.createKey({ rateLimitPerMin: 30 });
  const key = await brikk.gateway.authenticate({ authorization: `Bearer ${few.secret}` });
  // One is left; the next comes after 2 s.
  for (let count = 0; count < 29; count += 1)
    await brikk.gateway.rateLimiter.admit({ key, remoteAddress: "127.0.0.1" });
  const stream = await openStream(brikk, few.secret, "/agents/bridge", { body: BRIDGE });
  await stream.until(({ event }) => event === "turn.waiting");
  await brikk.gateway.keyStore.revoke(few.id);
  await stream.ended;
  const last = stream.events.at(-1)!;
  assert.deepEqual([last.data["ended"], (last.data["error"] as { code: string }).code], ["refused", "key_revoked"]);
  assert.equal(turnsIn(stream.events).length, 1);
});

test("a vendor's words that repeat a secret are told without it, and stand in no transcript", async (t) => {
  const key = await brikk.createKey();
  const vendor = createServer((request, response) => {
    request.resume();
    response.writeHead(400, { "content-type": "application/json" });
    response.end(JSON.stringify({ error: { message: `What is ${key.secret}?`, type: "invalid_request_error" } }));
  });
  vendor.listen(0, "127.0.0.1");
  await once(vendor, "listening");
  t.after(() => vendor.close());
  const { port } = vendor.address() as AddressInfo;
  const house = await startGateway({ providers: { openai: `http://127.0.0.1:${port}/v1` } });
  try {
    const { secret } = await house.createKey();
    const stream = await openStream(house, secret, "/agents/bridge", { body: BRIDGE });
    await stream.ended;
    const told = JSON.stringify(stream.events);
    assert.match(told, /What is /);
    assert.ok(!told.includes(key.secret));
    assert.equal(stream.events.at(-1)?.data["ended"], "refused");
  } finally {
    await house.close();
  }
});

test("an unknown provider, a model that nobody offers and a faulty body are refused before anybody is asked", async () => {
  const { secret } = await brikk.createKey();
  const before = asked();
  for (const [body, status, code, param] of [
    [
      { ...BRIDGE, agents: [{ provider: "openai" }, { provider: "nobody" }] },
      400,
      "invalid_request",
      "agents.1.provider",
    ],
    [
      { ...BRIDGE, agents: [{ provider: "openai" }, { provider: "openai", model: "no-such" }] },
      400,
      "model_price_unknown",
      "model",
    ],
    [{ ...BRIDGE, agents: [{ provider: "openai" }] }, 400, "invalid_request", "agents"],
    [{ ...BRIDGE, max_turns: 13 }, 400, "invalid_request", "max_turns"],
    [{ ...BRIDGE, max_turns: 0 }, 400, "invalid_request", "max_turns"],
    [{ ...BRIDGE, first_message: "" }, 400, "invalid_request", "first_message"],
    [{ ...BRIDGE, language: "not a tag" }, 400, "invalid_request", "language"],
  ] as const) {
    const response = await clientOf(brikk, secret).post("/agents/bridge", body);
    const { error } = (await response.json()) as { error: { code: string; param: string | null } };
    assert.deepEqual([response.status, error.code, error.param], [status, code, param]);
  }
  assert.equal(asked(), before);
});

test("GET /agents lists every provider's agent, the routed one and the panel's four, and whether each can be asked now", async () => {
  const { secret } = await brikk.createKey();
  const client = clientOf(brikk, secret);
  interface Listed {
    readonly agents: readonly { name: string; model: string | null; simulated: boolean; available: boolean }[];
    readonly panel: readonly { language: string; dir: string; provider: string; available: boolean }[];
  }
  const list = async (): Promise<Listed> => (await (await client.get("/agents")).json()) as Listed;
  const before = await list();
  assert.deepEqual(
    before.agents.map(({ name, model, simulated, available }) => `${name} ${model} ${simulated} ${available}`),
    ["openai gpt-4o-mini true true", "mistral mistral-small-latest true true", "route null true true"],
  );
  assert.deepEqual(
    before.panel.map(({ language, dir, provider }) => `${language} ${dir} ${provider}`),
    ["en ltr openai", "es ltr mistral", "ja ltr openai", "ar rtl mistral"],
  );
  brikk.simulator.faults.set({ vendor: "openai", count: 1, fault: { kind: "status", status: 429, retryAfter: 60 } });
  await (await client.post("/agents/openai/chat", { message: "Hello" })).text();
  const cooling = await list();
  assert.deepEqual(
    cooling.agents.map(({ available }) => available),
    [false, true, true],
  );
  assert.deepEqual(
    cooling.panel.map(({ available }) => available),
    [false, true, false, true],
  );
});
