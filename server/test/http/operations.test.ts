import assert from "node:assert/strict";
import { after, test } from "node:test";
import { setImmediate as turn } from "node:timers/promises";
import { newSecret } from "../../src/access/secret.ts";
import { startGateway } from "../harness/gateway-under-test.ts";

const brikk = await startGateway({
  environment: { BRIKK_REQUIRE_AUTH: "true", BRIKK_ADMIN_TOKEN: "an-admin-token-of-this-test" },
});
after(() => brikk.close());

const getJson = async (path: string, url = brikk.url): Promise<{ status: number; body: Record<string, unknown> }> => {
  const response = await fetch(`${url}${path}`);
  return { status: response.status, body: (await response.json()) as Record<string, unknown> };
};

const chat = (url: string, secret: string, body: object = {}): Promise<Response> =>
  fetch(`${url}/v1/chat/completions`, {
    method: "POST",
    headers: { "content-type": "application/json", authorization: `Bearer ${secret}` },
    body: JSON.stringify({ model: "gpt-4o-mini", messages: [{ role: "user", content: "Hello there" }], ...body }),
  });

test("/health and /health/live answer without a key", async () => {
  const { status, body } = await getJson("/health");
  assert.equal(status, 200);
  assert.deepEqual(
    { ...body, uptime_seconds: 0 },
    { status: "ok", version: "0.0.0-test", uptime_seconds: 0, in_flight: 0 },
  );
  assert.deepEqual(await getJson("/health/live"), { status: 200, body: { status: "ok" } });
});

test("/health/ready is ready with storage, ledger and providers, and names each", async () => {
  const { status, body } = await getJson("/health/ready");
  assert.equal(status, 200);
  assert.equal(body["ready"], true);
  const checks = body["checks"] as Record<string, { ok: boolean }>;
  assert.deepEqual(Object.keys(checks), ["storage", "ledger", "providers", "rate_limits", "secrets", "accepting"]);
  assert.ok(Object.values(checks).every(({ ok }) => ok));
});

test("a draining server takes no new request, says so to probes, and finishes what it has in hand", async () => {
  const draining = await startGateway({ simulator: { tokensPerSecond: 100 } });
  const { secret } = await draining.createKey();
  try {
    const stream = await chat(draining.url, secret, { stream: true });
    assert.equal((await getJson("/health", draining.url)).body["in_flight"], 1);
    const drained = draining.gateway.inFlight.drain(30_000);
    const ready = await getJson("/health/ready", draining.url);
    assert.equal(ready.status, 503);
    assert.equal(ready.body["ready"], false);
    assert.equal((ready.body["checks"] as { accepting: { ok: boolean } }).accepting.ok, false);
    assert.equal((await getJson("/health", draining.url)).body["status"], "draining");
    assert.equal((await getJson("/health/live", draining.url)).status, 200);
    const refused = await chat(draining.url, secret);
    assert.equal(refused.status, 503);
    assert.equal(refused.headers.get("retry-after"), "1");
    assert.equal(refused.headers.get("x-should-retry"), null, "another instance can serve it");
    assert.equal(refused.headers.get("connection"), "close");
    assert.equal(((await refused.json()) as { error: { code: string } }).error.code, "draining");
    const text = await stream.text();
    assert.match(text, /data: \[DONE\]\n\n$/);
    await drained;
    assert.deepEqual(
      (await draining.events()).map(({ outcome }) => outcome),
      ["completed"],
    );
  } finally {
    await draining.close();
  }
});

test("a drain that takes too long cuts what is left off: streams and plain answers are told so, and each is settled", async () => {
  const slow = await startGateway();
  try {
    const { secret } = await slow.createKey();
    slow.simulator.faults.set({ vendor: "openai", fault: { kind: "stall", afterTokens: 3 } });
    slow.simulator.faults.set({ vendor: "mistral", fault: { kind: "hang" } });
    const stream = await chat(slow.url, secret, { stream: true });
    const key = await slow.gateway.authenticate({ authorization: `Bearer ${secret}` });
    const reserved = (): bigint => slow.gateway.ledger.standing(key).budgets[0]!.reserved;
    const ofStream = reserved();
    const plain = chat(slow.url, secret, { model: "mistral-small-latest" });
    // Its provider is asked as soon as its worst case is set aside too.
    while (reserved() === ofStream) await turn();
    await slow.gateway.inFlight.drain(1);
    const text = await stream.text();
    assert.ok(!text.includes("[DONE]"));
    assert.match(text, /event: error\ndata: \{"error":\{[^\n]*"code":"draining"/);
    const refused = await plain;
    assert.equal(refused.status, 503);
    assert.equal(((await refused.json()) as { error: { code: string } }).error.code, "draining");
    const rows = (await slow.events()).map(({ outcome, usage_source: source, error_code: code }) =>
      [outcome, source, code].join(" "),
    );
    assert.deepEqual(rows.sort(), ["failed estimated draining", "truncated estimated draining"]);
  } finally {
    await slow.close();
  }
});

/** The value of one series of the text format; undefined when it is not there. */
const seriesOf = (text: string, name: string, labels: Record<string, string>): number | undefined => {
  const line = text
    .split("\n")
    .find(
      (each) =>
        (each.startsWith(`${name}{`) || each.startsWith(`${name} `)) &&
        Object.entries(labels).every(([label, value]) => each.includes(`${label}="${value}"`)),
    );
  return line === undefined ? undefined : Number(line.slice(line.lastIndexOf(" ") + 1));
};

test("/metrics counts requests, tokens, cost, latency and first tokens as the ledger has them", async () => {
  const { secret } = await brikk.createKey();
  const before = (await brikk.events()).length;
  const streamed = await chat(brikk.url, secret, { stream: true });
  await streamed.text();
  await (await chat(brikk.url, secret)).text();
  await (await chat(brikk.url, secret, { model: "no-such-model" })).text();
  await turn();
  const response = await fetch(`${brikk.url}/metrics`);
  assert.match(response.headers.get("content-type") ?? "", /^text\/plain; version=0\.0\.4/);
  const text = await response.text();
  const rows = (await brikk.events()).slice(before);
  const labels = { provider: "openai", model: "gpt-4o-mini" };
  assert.equal(
    seriesOf(text, "brikk_requests_total", { ...labels, operation: "chat", outcome: "completed", stream: "true" }),
    1,
  );
  assert.equal(
    seriesOf(text, "brikk_requests_total", { ...labels, operation: "chat", outcome: "completed", stream: "false" }),
    1,
  );
  assert.equal(seriesOf(text, "brikk_requests_total", { provider: "none", model: "none", outcome: "refused" }), 1);
  assert.equal(
    seriesOf(text, "brikk_tokens_total", { ...labels, kind: "output" }),
    rows.reduce((sum, row) => sum + Number(row["output_tokens"]), 0),
  );
  const costUsd = rows.reduce((sum, row) => sum + Number(row["cost_nano_usd"]), 0) / 1e9;
  assert.ok(Math.abs(seriesOf(text, "brikk_cost_usd_total", labels)! - costUsd) < 1e-9);
  assert.equal(seriesOf(text, "brikk_time_to_first_token_seconds_count", labels), 1);
  assert.equal(seriesOf(text, "brikk_request_duration_seconds_count", { provider: "openai", stream: "false" }), 1);
  assert.equal(seriesOf(text, "brikk_attempts_total", labels), 2);
  assert.equal(seriesOf(text, "brikk_in_flight_requests", {}), 0);
  assert.ok(
    seriesOf(text, "brikk_http_requests_total", { method: "POST", route: "/v1/chat/completions", status: "200" })! >= 1,
  );
  assert.ok(!text.includes("no-such-model"), "labels are bounded: nothing a caller makes up");
});

test("paths that nobody serves share one label, so that a scanner cannot fill the metrics", async () => {
  for (const path of ["/wp-admin", "/secret-path-of-a-caller", "/v1/none"])
    await (await fetch(`${brikk.url}${path}`)).text();
  const text = await (await fetch(`${brikk.url}/metrics`)).text();
  assert.ok(!text.includes("wp-admin") && !text.includes("secret-path"));
  assert.ok(seriesOf(text, "brikk_http_requests_total", { route: "unknown", status: "404" })! >= 3);
});

interface OpenApi {
  readonly openapi: string;
  readonly paths: Record<
    string,
    Record<
      string,
      {
        operationId?: string;
        summary?: string;
        security?: unknown[];
        tags?: string[];
        responses?: Record<string, { content?: Record<string, { schema?: unknown }> }>;
      }
    >
  >;
  readonly components: {
    readonly securitySchemes: Record<string, { type: string }>;
    readonly schemas: Record<string, { example?: unknown }>;
  };
  readonly security: unknown[];
}

test("/openapi.json is OpenAPI 3.0 with every public route, all ways to authenticate, and no reference that leads nowhere", async () => {
  const document = (await getJson("/openapi.json")).body as unknown as OpenApi;
  assert.match(document.openapi, /^3\.0\.\d$/);
  assert.deepEqual(
    Object.entries(document.paths)
      .flatMap(([path, methods]) => Object.keys(methods).map((method) => `${method.toUpperCase()} ${path}`))
      .sort(),
    [
      "DELETE /admin/fire-drill/faults",
      "DELETE /admin/fire-drill/faults/{id}",
      "DELETE /admin/keys/{id}",
      "DELETE /admin/provider-credentials/{provider}",
      "DELETE /panel/runs/{id}",
      "GET /admin/audit",
      "GET /admin/audit/head",
      "GET /admin/fire-drill",
      "GET /admin/keys",
      "GET /admin/keys/{id}",
      "GET /admin/keys/{id}/usage",
      "GET /admin/provider-credentials",
      "GET /admin/usage",
      "GET /admin/usage/requests",
      "GET /admin/usage/timeseries",
      "GET /agents",
      "GET /health",
      "GET /health/circuit-breakers",
      "GET /health/live",
      "GET /health/providers",
      "GET /health/ready",
      "GET /keys/me",
      "GET /panel/runs",
      "GET /panel/runs/{id}",
      "GET /usage/me",
      "GET /usage/me/requests",
      "GET /usage/me/timeseries",
      "GET /v1/models",
      "PATCH /admin/keys/{id}",
      "POST /admin/circuit-breakers/reset",
      "POST /admin/fire-drill/faults",
      "POST /admin/keys",
      "POST /admin/keys/{id}/revoke",
      "POST /admin/keys/{id}/rotate",
      "POST /admin/keys/{id}/signing-secret",
      "POST /admin/provider-credentials/{provider}/test",
      "POST /agents/bridge",
      "POST /agents/route/chat",
      "POST /agents/{agent}/chat",
      "POST /keys/rotate",
      "POST /panel/runs",
      "POST /panel/runs/{id}/stop",
      "POST /panel/runs/{id}/turns/{index}/translation",
      "POST /sandbox/keys",
      "POST /v1/chat/completions",
      "POST /v1/embeddings",
      "POST /v1/explain",
      "PUT /admin/provider-credentials/{provider}",
    ],
  );
  assert.deepEqual(
    Object.values(document.components.securitySchemes)
      .map(({ type }) => type)
      .sort(),
    ["apiKey", "http", "http"],
  );
  assert.equal(document.security.length, 2);
  const ids = new Set<string>();
  for (const [path, methods] of Object.entries(document.paths)) {
    for (const operation of Object.values(methods)) {
      assert.ok(operation.operationId && operation.summary && operation.tags?.length, path);
      assert.ok(!ids.has(operation.operationId), `${operation.operationId} is there twice`);
      ids.add(operation.operationId);
      assert.ok(operation.responses && ("200" in operation.responses || "201" in operation.responses), path);
      const open = operation.security?.length === 0;
      assert.equal(open, path.startsWith("/health") || path === "/sandbox/keys", path);
      const admin = path.startsWith("/admin");
      assert.deepEqual(operation.security, open ? [] : admin ? [{ adminToken: [] }] : undefined, path);
      if (!open)
        for (const status of ["401", "429", "500", ...(admin ? [] : ["503"])])
          assert.ok(operation.responses[status], `${path} ${status}`);
    }
  }
  for (const [, pointer] of JSON.stringify(document).matchAll(/"\$ref":"#\/([^"]+)"/g)) {
    assert.ok(
      pointer!
        .split("/")
        .reduce<unknown>((value, part) => (value as Record<string, unknown> | undefined)?.[part], document),
      String(pointer),
    );
  }
  for (const name of [
    "ChatCompletionRequest",
    "ChatCompletion",
    "ModelList",
    "Usage",
    "Key",
    "AgentAnswer",
    "RoutedAnswer",
    "Error",
  ]) {
    assert.ok(document.components.schemas[name]?.example, `${name} has an example`);
  }
});

test("/docs works offline: everything the page asks for is served from here, and nothing else may be asked", async () => {
  const page = await fetch(`${brikk.url}/docs`);
  assert.equal(page.status, 200);
  const html = await page.text();
  assert.match(html, /Brikk API/);
  const base = page.url.endsWith("/") ? page.url : page.url.slice(0, page.url.lastIndexOf("/") + 1);
  const references = [...html.matchAll(/(?:src|href)="([^"#]+)"/g)].map(([, address]) => address!);
  assert.ok(
    references.some((address) => address.endsWith(".js")) && references.some((address) => address.endsWith(".css")),
  );
  for (const address of references) {
    const target = new URL(address, base);
    assert.equal(target.origin, brikk.url, `${address} is on another host`);
    const asset = await fetch(target);
    assert.equal(asset.status, 200, target.pathname);
    const text = await asset.text();
    if (target.pathname.endsWith(".css")) assert.doesNotMatch(text, /@import|url\(\s*['"]?(?:https?:)?\/\//i);
    if (target.pathname.endsWith("initializer.js"))
      assert.doesNotMatch(text, /https?:\/\/(?!stackoverflow\.com\/a\/)/i);
  }
  const policy = page.headers.get("content-security-policy") ?? "";
  assert.match(policy, /default-src 'none'; script-src 'self'; style-src 'self'/);
  assert.doesNotMatch(
    policy,
    /https?:|swagger\.io|\*|upgrade-insecure-requests/,
    "no foreign host, and no upgrade that breaks plain http",
  );
  assert.equal(((await (await fetch(`${brikk.url}/docs/json`)).json()) as OpenApi).openapi.slice(0, 3), "3.0");
});

test("/ leads to the documentation", async () => {
  const response = await fetch(`${brikk.url}/`, { redirect: "manual" });
  assert.equal(response.status, 302);
  assert.equal(response.headers.get("location"), "/docs");
});

test("when storage does not answer, readiness says so and a key that is not known is 503, never 401; a known key goes on", async () => {
  const broken = await startGateway({ environment: { BRIKK_REQUIRE_AUTH: "true" } });
  const known = await broken.createKey();
  const get = (secret: string): Promise<Response> =>
    fetch(`${broken.url}/v1/models`, { headers: { authorization: `Bearer ${secret}` } });
  assert.equal((await get(known.secret)).status, 200);
  // A secret of the right form that memory does not know and only the database could tell.
  await broken.gateway.database.close();
  try {
    const ready = await getJson("/health/ready", broken.url);
    assert.equal(ready.status, 503);
    assert.equal((ready.body["checks"] as { storage: { ok: boolean } }).storage.ok, false);
    const response = await get(newSecret());
    assert.equal(response.status, 503);
    assert.equal(((await response.json()) as { error: { code: string } }).error.code, "storage_unavailable");
    assert.ok(response.headers.get("retry-after"));
    assert.equal((await get(known.secret)).status, 200);
    assert.equal(
      (await fetch(`${broken.url}/usage/me`, { headers: { authorization: `Bearer ${known.secret}` } })).status,
      503,
    );
  } finally {
    await broken.close();
  }
});
