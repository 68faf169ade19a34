import assert from "node:assert/strict";
import { test } from "node:test";
import fastify from "fastify";
import { VaultError } from "../../src/access/vault.ts";
import { registerErrorHandler } from "../../src/http/error-handler.ts";
import { createLogger } from "../../src/telemetry/log.ts";
import { createMetrics } from "../../src/telemetry/metrics.ts";
import { createRedactor } from "../../src/telemetry/redactor.ts";

test("a request whose stored secret cannot be opened is answered 503, to be tried again, and nothing is told of the secret", async (t) => {
  const app = fastify({ logger: false });
  registerErrorHandler(app, {
    logger: createLogger({ level: "silent", pretty: false }),
    metrics: createMetrics(),
    redactor: createRedactor(),
  });
  app.get("/signed", () => {
    throw new VaultError("What is stored as signing secret of bk_1 was sealed under another key.");
  });
  const url = await app.listen({ host: "127.0.0.1", port: 0 });
  t.after(() => app.close());
  const response = await fetch(`${url}/signed`);
  assert.equal(response.status, 503);
  assert.ok(response.headers.get("retry-after"));
  const text = await response.text();
  assert.match(text, /"code":"storage_unavailable"/);
  assert.doesNotMatch(text, /bk_1/);
});
