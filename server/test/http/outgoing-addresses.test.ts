import assert from "node:assert/strict";
import { once } from "node:events";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { createServer, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test, type TestContext } from "node:test";
import { newFernetKey } from "../../src/lib/fernet.ts";
import { ConfigError, loadConfig } from "../../src/config.ts";
import { createBudgetWebhook } from "../../src/ledger/budget-webhook.ts";
import { nanoUsd } from "../../src/lib/money.ts";
import { ProviderError } from "../../src/providers/provider.ts";
import { createTransport } from "../../src/providers/transport.ts";
import { startGateway } from "../harness/gateway-under-test.ts";

const folder = mkdtempSync(join(tmpdir(), "brikk-outgoing-"));
after(() => rmSync(folder, { recursive: true, force: true }));

const PRODUCTION = {
  NODE_ENV: "production",
  BRIKK_REQUIRE_AUTH: "true",
  BRIKK_ENCRYPTION_KEY: newFernetKey(),
};
const WEBHOOK_SECRET = `whsec_${Buffer.alloc(32, 7).toString("base64")}`;

const faultsOf = (environment: Record<string, string>): readonly string[] => {
  try {
    loadConfig(environment);
    return [];
  } catch (error) {
    assert.ok(error instanceof ConfigError);
    return error.faults;
  }
};

/** A server on loopback that remembers who came. */
async function insideServer(t: TestContext, answer?: (response: ServerResponse) => void) {
  const visits: string[] = [];
  const server = createServer((request, response) => {
    visits.push(`${request.method} ${request.url}`);
    request.resume();
    if (answer) answer(response);
    else response.end("{}");
  }).listen(0, "127.0.0.1");
  await once(server, "listening");
  t.after(() => {
    server.close();
    server.closeAllConnections();
  });
  return { port: (server.address() as AddressInfo).port, visits };
}

const INSIDE = [
  "http://127.0.0.1:8000",
  "http://localhost:11434/v1",
  "http://10.1.2.3/v1",
  "https://192.168.0.10/v1",
  "http://169.254.169.254/latest",
  "http://100.64.0.1/v1",
  "http://[::1]:8000/v1",
  "http://[fd00:ec2::254]/v1",
  "http://[::ffff:10.0.0.1]/v1",
  "http://2130706433/v1",
  "http://0xa9fea9fe/v1",
  "http://0177.0.0.1/v1",
];

test("in production an address inside a private network is a fault of the settings, however it is spelled, unless it is allowed", () => {
  const path = join(folder, "house.json");
  for (const address of INSIDE) {
    const [fault, ...others] = faultsOf({ ...PRODUCTION, OPENAI_BASE_URL: address });
    assert.match(
      fault ?? "",
      /^The provider openai has the address .*; set BRIKK_ALLOW_PRIVATE_ADDRESSES=true/,
      address,
    );
    assert.deepEqual(others, []);
    writeFileSync(path, JSON.stringify({ providers: [{ name: "house", base_url: address, default_model: "m" }] }));
    assert.match(faultsOf({ ...PRODUCTION, BRIKK_CONFIG: path })[0] ?? "", /^The provider house has the address /);
    const webhook = { BRIKK_BUDGET_WEBHOOK_URL: `${address}/secret-path`, BRIKK_BUDGET_WEBHOOK_SECRET: WEBHOOK_SECRET };
    const [hook] = faultsOf({ ...PRODUCTION, ...webhook });
    assert.match(hook ?? "", /^BRIKK_BUDGET_WEBHOOK_URL has an address inside a private network/);
    assert.doesNotMatch(hook ?? "", /secret-path/);
    for (const allowed of [
      { ...PRODUCTION, BRIKK_ALLOW_PRIVATE_ADDRESSES: "true" },
      // The default outside production.
      {},
    ])
      assert.deepEqual(faultsOf({ ...allowed, ...webhook, OPENAI_BASE_URL: address, BRIKK_CONFIG: path }), []);
    assert.equal(faultsOf({ BRIKK_ALLOW_PRIVATE_ADDRESSES: "false", OPENAI_BASE_URL: address }).length, 1);
  }
  assert.deepEqual(faultsOf({ ...PRODUCTION, OPENAI_BASE_URL: "https://gateway.example.com/v1" }), []);
});

test("a provider's name that leads inside is not connected to, and the simulator's own address is", async (t) => {
  const { port, visits } = await insideServer(t);
  const transport = createTransport({
    provider: "house",
    origin: `http://localhost:${port}`,
    connectTimeoutMs: 1_000,
    maxConnections: 1,
    allowPrivateAddresses: false,
  });
  t.after(() => transport.close());
  await assert.rejects(
    transport.send(
      { method: "GET", path: "/models", headers: {}, body: Buffer.alloc(0) },
      new AbortController().signal,
    ),
    (error) => error instanceof ProviderError && error.fault === "unreachable" && !/localhost|127/.test(error.message),
  );
  assert.deepEqual(visits, []);
  const brikk = await startGateway({
    simulatorServes: "alone",
    environment: { BRIKK_ALLOW_PRIVATE_ADDRESSES: "false" },
  });
  t.after(() => brikk.close());
  assert.equal((await ask(brikk.url, "gpt-4o-mini")).status, 200);
});

test("a budget webhook's name that leads inside is not connected to", async (t) => {
  const { port, visits } = await insideServer(t);
  const webhook = createBudgetWebhook({
    url: `http://localhost:${port}/hook`,
    secrets: [Buffer.alloc(32)],
    allowPrivateAddresses: false,
  });
  t.after(() => webhook.close());
  const delivery = await webhook.send(
    {
      alertId: "a",
      alert: "soft_cap",
      budgetId: "k/day",
      scopeId: "k",
      window: "day",
      windowStartMs: 0,
      windowEndMs: 1,
      spent: nanoUsd(1n),
      softCap: nanoUsd(1n),
      hardCap: undefined,
      createdAtMs: 0,
    },
    0,
  );
  assert.deepEqual(delivery, { kind: "failed", reason: "ERR_PRIVATE_ADDRESS" });
  assert.deepEqual(visits, []);
});

const ask = (url: string, model: string, content: unknown = "Hello"): Promise<Response> =>
  fetch(`${url}/v1/chat/completions`, {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify({ model, messages: [{ role: "user", content }] }),
  });

test("a provider's redirect is not followed, whatever its status and wherever it leads", async (t) => {
  const elsewhere = await insideServer(t);
  for (const status of [301, 302, 303, 307, 308]) {
    const provider = await insideServer(t, (response) =>
      response.writeHead(status, { location: `http://127.0.0.1:${elsewhere.port}/v1/chat/completions` }).end(),
    );
    const brikk = await startGateway({
      simulatorServes: "alone",
      environment: {
        OPENAI_API_KEY: "sk-test",
        OPENAI_BASE_URL: `http://127.0.0.1:${provider.port}/v1`,
        PROVIDER_MAX_RETRIES: "0",
      },
    });
    t.after(() => brikk.close());
    const response = await ask(brikk.url, "gpt-4o-mini");
    assert.equal(response.status, 502, String(status));
    assert.equal(response.headers.get("location"), null);
    assert.equal(provider.visits.length, 1);
  }
  assert.deepEqual(elsewhere.visits, []);
});

interface Schema {
  readonly properties?: Readonly<Record<string, Schema>>;
  readonly format?: string;
  readonly [keyword: string]: unknown;
}

test("no field of any request names an address that the gateway goes to: those that hold one are passed on and never fetched", async (t) => {
  const { port, visits } = await insideServer(t);
  const brikk = await startGateway({ environment: { BRIKK_ADMIN_TOKEN: "an-admin-token-of-this-test" } });
  t.after(() => brikk.close());
  const document = (await (await fetch(`${brikk.url}/openapi.json`)).json()) as {
    paths: Record<string, Record<string, { requestBody?: unknown; parameters?: unknown[] }>>;
    components: { schemas: Record<string, Schema> };
  };
  const names = new Set<string>();
  const found = new Set<string>();
  const walk = (route: string, value: unknown, seen: ReadonlySet<string>): void => {
    if (value === null || typeof value !== "object") return;
    const schema = value as Schema;
    const reference = schema["$ref"];
    if (typeof reference === "string") {
      const name = reference.split("/").at(-1)!;
      if (!seen.has(name)) walk(route, document.components.schemas[name], new Set([...seen, name]));
      return;
    }
    for (const [name, property] of Object.entries(schema.properties ?? {})) {
      names.add(name);
      if (
        /url|uri|host|origin|endpoint|webhook|callback|address|proxy|redirect/i.test(name) ||
        /^ur[il]$/.test(property.format ?? "")
      )
        found.add(`${route} ${name}`);
    }
    for (const [keyword, inner] of Object.entries(schema)) if (keyword !== "example") walk(route, inner, seen);
  };
  let operations = 0;
  for (const [path, methods] of Object.entries(document.paths))
    for (const [method, { requestBody, parameters }] of Object.entries(methods)) {
      operations += 1;
      walk(`${method} ${path}`, requestBody, new Set());
      for (const parameter of parameters ?? [])
        walk(`${method} ${path}`, { properties: { [(parameter as { name: string }).name]: {} } }, new Set());
    }
  assert.ok(operations > 20);
  for (const name of ["messages", "api_key", "fault", "if-match", "provider", "cursor"])
    assert.ok(names.has(name), `the walk misses ${name}`);
  // A new name here asks for an answer to the question who goes to that address.
  assert.deepEqual([...found], []);

  const inside = `http://127.0.0.1:${port}/picture.png`;
  const content = [
    { type: "text", text: `Look at ${inside}` },
    { type: "image_url", image_url: { url: inside } },
    { type: "input_audio", input_audio: { data: inside, format: "wav" } },
    { type: "file", file: { file_data: inside, filename: inside } },
  ];
  for (const model of ["gpt-4o-mini", "mistral-small-latest", "brikk/auto"]) await ask(brikk.url, model, content);
  for (const [path, body] of [
    ["/v1/explain", { model: "gpt-4o-mini", messages: [{ role: "user", content }] }],
    ["/v1/embeddings", { model: "text-embedding-3-small", input: inside }],
    ["/agents/route/chat", { message: inside, meta: { callback_url: inside } }],
    [
      "/v1/chat/completions",
      { model: inside, messages: [{ role: "user", content: "x" }], base_url: inside, webhook: inside },
    ],
  ] as const)
    await (
      await fetch(`${brikk.url}${path}`, {
        method: "POST",
        headers: {
          "content-type": "application/json",
          "x-forwarded-host": `127.0.0.1:${port}`,
          forwarded: `host=127.0.0.1:${port}`,
          "x-base-url": inside,
        },
        body: JSON.stringify(body),
      })
    ).arrayBuffer();
  assert.deepEqual(visits, []);
});
