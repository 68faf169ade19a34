import assert from "node:assert/strict";
import { test } from "node:test";
import { startSimulator } from "../src/simulator.ts";
import { chat, post, simulatorForTests } from "./client.ts";
import type { Json } from "./client.ts";

const simulator = await simulatorForTests();
const control = `${simulator.url}/control`;

async function ask(path: string, init: RequestInit = {}): Promise<Json> {
  return (await fetch(`${control}${path}`, init)).json();
}

test("faults are set, listed and cleared over HTTP", async () => {
  const made = await post(`${control}/faults`, {
    vendor: "openai",
    share: 1,
    count: 5,
    fault: { kind: "status", status: 500 },
  });
  assert.equal(made.status, 201);
  assert.equal((await chat(simulator.openaiBaseUrl, {})).status, 500);
  assert.deepEqual(
    (await ask("/faults")).faults.map((rule: Json) => [rule.vendor, rule.struck, rule.fault.kind]),
    [["openai", 1, "status"]],
  );
  await ask("/faults", { method: "DELETE" });
  assert.equal((await chat(simulator.openaiBaseUrl, {})).status, 200);
});

test("a fault is taken away by its id", async () => {
  const { json } = await post(`${control}/faults`, { vendor: "*", fault: { kind: "status", status: 500 } });
  const remove = (): Promise<Response> => fetch(`${control}/faults/${json.id}`, { method: "DELETE" });
  const removed = await remove();
  assert.deepEqual([removed.status, await removed.json()], [200, { faults: [] }]);
  assert.equal((await remove()).status, 404);
  assert.equal((await chat(simulator.openaiBaseUrl, {})).status, 200);
});

test("what is not a rule or a pace is refused with a reason", async () => {
  for (const [body, reason] of [
    [{ vendor: "acme", fault: { kind: "reset" } }, /vendor/u],
    [{ vendor: "*", fault: { kind: "explode" } }, /kind/u],
    [{ vendor: "*", share: 2, fault: { kind: "reset" } }, /share/u],
    [{ vendor: "*", fault: { kind: "cut" } }, /fault\.afterTokens/u],
    [{ vendor: "*", fault: { kind: "reset", extra: 1 } }, /extra/u],
    ["nonsense", /JSON/u],
  ] as const) {
    const { status, json } = await post(`${control}/faults`, body);
    assert.equal(status, 400);
    assert.match(json.error.message, reason);
  }
  assert.equal((await fetch(`${control}/pace`, { method: "PATCH", body: '{"first_token_ms":-1}' })).status, 400);
  assert.equal((await fetch(`${control}/pace`, { method: "PATCH", body: "{}" })).status, 400);
  assert.equal((await fetch(`${control}/served?limit=x`)).status, 400);
  assert.equal((await fetch(`${control}/nothing`)).status, 404);
});

test("the pace changes while the simulator runs", async () => {
  const slow = await simulatorForTests({ firstTokenMs: 600_000, tokensPerSecond: 1 });
  const changed = await fetch(`${slow.url}/control/pace`, {
    method: "PATCH",
    body: '{"first_token_ms":0,"tokens_per_second":0}',
  });
  assert.deepEqual(await changed.json(), { first_token_ms: 0, tokens_per_second: 0 });
  assert.equal((await chat(slow.openaiBaseUrl, {})).status, 200);
});

test("the log says what was billed, and its totals add up", async () => {
  await ask("/served", { method: "DELETE" });
  const answers = [
    await chat(simulator.openaiBaseUrl, {}),
    await chat(simulator.openaiBaseUrl, { model: "o3" }),
    await chat(simulator.mistralBaseUrl, { stream: true }),
  ];
  const { served, totals } = await ask("/served?limit=2");
  assert.deepEqual(
    served.map((entry: Json) => [
      entry.vendor,
      entry.operation,
      entry.model,
      entry.stream,
      entry.finished,
      entry.aborted,
    ]),
    [
      ["openai", "chat", "o3", false, true, false],
      ["mistral", "chat", "mistral-small-latest", true, true, false],
    ],
  );
  const billed = answers.slice(0, 2).reduce((sum, { json }) => sum + json.usage.completion_tokens, 0);
  assert.deepEqual([totals.openai.requests, totals.openai.completionTokens, totals.mistral.requests], [2, billed, 1]);
  assert.equal(served[0].usage.reasoningTokens, answers[1]?.json.usage.completion_tokens_details.reasoning_tokens);
});

test("a body over 20 MB is refused, and a taken port rejects the start", async () => {
  assert.equal((await chat(simulator.openaiBaseUrl, { user: "x".repeat(21 * 1024 * 1024) })).status, 413);
  await assert.rejects(startSimulator({ port: Number(new URL(simulator.url).port) }), { code: "EADDRINUSE" });
});
