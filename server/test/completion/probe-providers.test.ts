import assert from "node:assert/strict";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { type TestContext, test } from "node:test";
import { createProviderHealth } from "../../src/completion/provider-health.ts";
import { startProbing } from "../../src/completion/probe-providers.ts";
import { createOpenAiCompatible } from "../../src/providers/openai-compatible/openai-compatible.ts";
import { ProviderError } from "../../src/providers/provider.ts";
import type { ProviderSet } from "../../src/providers/provider-set.ts";
import { createTransport } from "../../src/providers/transport.ts";
import { createTestClock } from "../lib/test-clock.ts";
import { connectedTo } from "./call-services.ts";

/** Probes of one provider that answers with the status that it is told to; 0: never. */
async function probing(t: TestContext, status: () => number) {
  const asked: string[] = [];
  const server = createServer((request, response) => {
    asked.push(`${request.method} ${request.url} ${request.headers.authorization}`);
    if (status() !== 0) response.writeHead(status(), { "content-type": "application/json" }).end('{"data":[]}');
  }).listen(0, "127.0.0.1");
  await new Promise((resolve) => server.once("listening", resolve));
  const origin = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  const transport = createTransport({
    provider: "acme",
    origin,
    connectTimeoutMs: 1_000,
    maxConnections: 2,
    allowPrivateAddresses: true,
  });
  const connected = connectedTo(
    createOpenAiCompatible({
      name: "acme",
      baseUrl: `${origin}/v1`,
      apiKey: "secret",
      defaultModel: "m",
      simulated: false,
    }),
    transport,
  );
  const providers: ProviderSet = {
    all: [connected],
    known: ["acme"],
    find: () => connected,
    replace: () => [],
    close: () => Promise.resolve(),
  };
  const clock = createTestClock();
  const health = createProviderHealth({ clock, onChange: () => undefined, onCooldown: () => undefined });
  const outcomes: string[] = [];
  const probes = startProbing({
    providers,
    health,
    clock,
    intervalMs: 60_000,
    onProbed: (provider, outcome, error) =>
      outcomes.push(
        `${provider} ${outcome} ${error instanceof ProviderError ? error.fault : error instanceof Error ? error.message : ""}`.trim(),
      ),
  });
  t.after(async () => {
    await probes.stop();
    await transport.close();
    server.closeAllConnections();
    server.close();
  });
  return { asked, outcomes, probes, health, clock, connected };
}

test("an idle provider is asked for its models once an interval, and one that has just served is not", async (t) => {
  const { asked, probes, health, clock, connected, outcomes } = await probing(t, () => 200);
  await probes.round();
  await probes.round();
  assert.deepEqual(asked, ["GET /v1/models Bearer secret"]);
  assert.deepEqual(outcomes, ["acme ok"]);
  assert.deepEqual(health.providerReport("acme").lastProbe, { atMs: clock.now(), ok: true, detail: "answers" });
  clock.advance(60_000);
  health.targetOf(connected, "m").provider.lastAskedAtMs = clock.now() - 1;
  await probes.round();
  assert.equal(asked.length, 1);
  clock.advance(60_000);
  await probes.round();
  assert.equal(asked.length, 2);
});

test("failed probes open the breaker of the default model before the first caller meets the outage; a good one closes nothing", async (t) => {
  let status = 503;
  const { probes, health, clock, outcomes } = await probing(t, () => status);
  for (let turn = 0; turn < 5; turn += 1) {
    await probes.round();
    clock.advance(60_000);
  }
  assert.deepEqual(outcomes, Array(5).fill("acme failed overloaded"));
  assert.equal(health.standingOf("acme", "m").state, "open");
  assert.equal(health.providerReport("acme").lastProbe?.detail, "overloaded");
  status = 200;
  await probes.round();
  assert.equal(health.providerReport("acme").lastProbe?.ok, true);
  assert.equal(health.standingOf("acme", "m").state, "open");
});

test("a server without a list of models answers, and one that limits the rate of probes is no failing one", async (t) => {
  let status = 404;
  const { probes, health, clock, outcomes } = await probing(t, () => status);
  for (let turn = 0; turn < 10; turn += 1) {
    if (turn === 5) status = 429;
    await probes.round();
    clock.advance(60_000);
  }
  assert.deepEqual(outcomes, [...Array(5).fill("acme ok"), ...Array(5).fill("acme failed rate-limited")]);
  assert.equal(health.standingOf("acme", "m").state, "closed");
});

test("a key that was withdrawn is found out, and a provider that never answers is not waited for longer than an attempt", async (t) => {
  let status = 401;
  const { probes, outcomes, clock } = await probing(t, () => status);
  await probes.round();
  clock.advance(60_000);
  status = 0;
  await probes.round();
  assert.deepEqual(outcomes, ["acme failed credentials", "acme failed attempt-timeout"]);
});

test("a probe that itself goes wrong is told, ends nothing and says nothing of the provider", async (t) => {
  const { probes, outcomes, health, connected } = await probing(t, () => 200);
  t.mock.method(connected.transport, "send", () => Promise.reject(new TypeError("no such thing")));
  await probes.round();
  assert.deepEqual(outcomes, ["acme failed no such thing"]);
  assert.equal(health.providerReport("acme").lastProbe, undefined);
});
