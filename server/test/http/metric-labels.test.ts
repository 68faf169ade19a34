import assert from "node:assert/strict";
import { test } from "node:test";
import { createRecorder } from "../../src/http/record-completion.ts";
import { createProviderRecorder } from "../../src/http/record-providers.ts";
import { buildModelCatalogue } from "../../src/ledger/model-catalogue.ts";
import { createLogger } from "../../src/telemetry/log.ts";
import { createMetrics } from "../../src/telemetry/metrics.ts";
import { startGateway } from "../harness/gateway-under-test.ts";

const catalogue = buildModelCatalogue({ overrides: [], now: () => 0 });
const logger = createLogger({ level: "silent", pretty: false });

test("however many names callers find for models, the metrics have a bounded number of them", async () => {
  const metrics = createMetrics();
  const record = createRecorder(logger, metrics);
  const { onChange, onCooldown } = createProviderRecorder(logger, metrics);
  const ask = (id: string): void => {
    const model = catalogue.find("openai", "gpt-4o-mini")!;
    record({
      served: { model: { ...model, id }, simulated: true },
      outcome: "completed",
      status: 200,
      errorCode: undefined,
      requestId: "r",
      traceId: "t",
      keyId: "k",
      operation: "chat",
      requestedModel: id,
      stream: true,
      routeReason: undefined,
      durationMs: 1,
      error: undefined,
    });
    onChange("openai", id, { from: "closed", to: "open", reason: "" });
    onCooldown("openai", id, 1);
  };
  ask("gpt-4o-mini");
  for (let name = 0; name < 5_000; name += 1) ask(`gpt-4o-mini-${name}`);
  ask("gpt-4o-mini");
  const text = await metrics.registry.metrics();
  const models = new Set([...text.matchAll(/model="([^"]*)"/g)].map(([, model]) => model));
  assert.ok(models.size <= 201, `${models.size} names`);
  assert.match(text, /brikk_requests_total\{[^}]*model="gpt-4o-mini",[^}]*\} 2$/m);
  assert.match(text, /brikk_requests_total\{[^}]*model="other",[^}]*\} 4801$/m);
});

test("a request that finds its provider's places and queue full is counted as refused for load", async (t) => {
  const brikk = await startGateway({
    environment: { BRIKK_PROVIDER_MAX_IN_FLIGHT: "1", BRIKK_PROVIDER_MAX_QUEUED: "0" },
  });
  t.after(() => brikk.close());
  brikk.simulator.faults.set({ vendor: "openai", fault: { kind: "hang" } });
  const leaving = new AbortController();
  const ask = (signal?: AbortSignal): Promise<Response> =>
    fetch(`${brikk.url}/v1/chat/completions`, {
      method: "POST",
      headers: { "content-type": "application/json" },
      body: JSON.stringify({ model: "gpt-4o-mini", messages: [{ role: "user", content: "Hi" }] }),
      ...(signal && { signal }),
    });
  const first = ask(leaving.signal).catch(() => "left");
  while (brikk.gateway.health.providerReport("openai").inFlight === 0) await new Promise(setImmediate);
  const refused = await ask();
  assert.equal(refused.status, 503);
  assert.equal(((await refused.json()) as { error: { code: string } }).error.code, "overloaded");
  leaving.abort();
  assert.equal(await first, "left");
  const text = await (await fetch(`${brikk.url}/metrics`)).text();
  assert.match(text, /^brikk_overload_refusals_total\{reason="provider"\} 1$/m);
});
