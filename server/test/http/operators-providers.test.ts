import assert from "node:assert/strict";
import { once } from "node:events";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { createServer, type IncomingHttpHeaders, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { PassThrough } from "node:stream";
import { after, test, type TestContext } from "node:test";
import { startSimulator } from "@brikk/simulator";
import { loadConfig } from "../../src/config.ts";
import { startGatewayProcess } from "../harness/gateway-process.ts";
import { type GatewayUnderTest, type HarnessOptions, startGateway } from "../harness/gateway-under-test.ts";

const folder = mkdtempSync(join(tmpdir(), "brikk-providers-"));
after(() => rmSync(folder, { recursive: true, force: true }));
let files = 0;

const write = (file: object, path = join(folder, `${files++}.json`)): string => {
  writeFileSync(path, JSON.stringify(file));
  return path;
};

interface Asked {
  readonly path: string;
  readonly headers: IncomingHttpHeaders;
  readonly body: Record<string, unknown>;
}

/** A server of the operator's own: keeps what it is asked, and answers as it is told to or as the simulator does. */
async function ownServer(t: TestContext, answer?: (response: ServerResponse, asked: Asked) => void) {
  const simulator = await startSimulator({ firstTokenMs: 0, tokensPerSecond: 0 });
  const asked: Asked[] = [];
  const server = createServer(async (request, response) => {
    const chunks: Buffer[] = [];
    for await (const chunk of request) chunks.push(chunk as Buffer);
    const text = Buffer.concat(chunks).toString("utf8");
    const path = request.url!;
    asked.push({
      path,
      headers: request.headers,
      body: text === "" ? {} : (JSON.parse(text) as Record<string, unknown>),
    });
    if (answer) return answer(response, asked.at(-1)!);
    const upstream = await fetch(`${simulator.url}/openai${path}`, {
      method: "POST",
      headers: { authorization: request.headers.authorization ?? "Bearer any", "content-type": "application/json" },
      body: text,
    });
    response.writeHead(upstream.status, { "content-type": upstream.headers.get("content-type")! });
    return response.end(Buffer.from(await upstream.arrayBuffer()));
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  t.after(async () => {
    server.close();
    server.closeAllConnections();
    await simulator.close();
  });
  return { baseUrl: `http://127.0.0.1:${(server.address() as AddressInfo).port}/v1`, asked };
}

async function gatewayWith(t: TestContext, file: object, options: HarnessOptions = {}): Promise<GatewayUnderTest> {
  const gateway = await startGateway({
    ...options,
    environment: { BRIKK_CONFIG: write(file), ...options.environment },
  });
  t.after(() => gateway.close());
  return gateway;
}

const post = (url: string, path: string, body: object): Promise<Response> =>
  fetch(`${url}${path}`, {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify(body),
  });
const chat = (url: string, body: object = {}): Promise<Response> =>
  post(url, "/v1/chat/completions", {
    model: "house/gpt-4o-mini",
    messages: [{ role: "user", content: "Why is the sky blue?" }],
    ...body,
  });
const codeOf = async (response: Response): Promise<string> =>
  ((await response.json()) as { error: { code: string } }).error.code;

/** The simulator knows the model; the price is the operator's. */
const priced = { id: "gpt-4o-mini", input_usd_per_million: 2, output_usd_per_million: 4 };
const house = (baseUrl: string, more: object = {}) => ({ name: "house", base_url: baseUrl, models: [priced], ...more });

test("a provider of the file serves whole answers and streams, with its own key, at its own price, under its own name", async (t) => {
  const server = await ownServer(t);
  const gateway = await gatewayWith(
    t,
    { providers: [house(server.baseUrl, { api_key_env: "HOUSE_KEY" })] },
    { environment: { HOUSE_KEY: "sk-of-the-house" } },
  );
  const { url } = gateway;
  const whole = await chat(url);
  assert.equal(whole.status, 200);
  assert.equal(whole.headers.get("x-brikk-provider"), "house");
  const { usage } = (await whole.json()) as { usage: { prompt_tokens: number; completion_tokens: number } };
  const stream = await chat(url, { stream: true });
  assert.match(await stream.text(), /data: \[DONE\]\n\n$/);
  const agent = await post(url, "/agents/house/chat", { message: "Hello" });
  assert.equal(((await agent.json()) as { provider: string }).provider, "house");

  assert.deepEqual(
    server.asked.map(({ path, headers, body }) => [path, headers["authorization"], body["model"]]),
    Array.from({ length: 3 }, () => ["/v1/chat/completions", "Bearer sk-of-the-house", "gpt-4o-mini"]),
  );
  assert.deepEqual(server.asked[1]!.body["stream_options"], { include_usage: true });
  const rows = await gateway.events();
  assert.deepEqual(
    rows.map(({ provider, simulated, usage_source, outcome }) => [provider, Number(simulated), usage_source, outcome]),
    Array.from({ length: 3 }, () => ["house", 0, "exact", "completed"]),
  );
  const nanoUsd = usage.prompt_tokens * 2_000 + usage.completion_tokens * 4_000;
  assert.equal(Number(rows[0]!["cost_nano_usd"]), nanoUsd);
});

test("a provider without a key is sent no credentials, not even the caller's", async (t) => {
  const server = await ownServer(t);
  const { url } = await gatewayWith(t, { providers: [house(server.baseUrl)] });
  const response = await fetch(`${url}/v1/chat/completions`, {
    method: "POST",
    headers: { "content-type": "application/json", authorization: "Bearer sk-callers-own" },
    body: JSON.stringify({ model: "house/gpt-4o-mini", messages: [{ role: "user", content: "Hi" }] }),
  });
  assert.equal(response.status, 200);
  assert.equal(server.asked.length, 1);
  assert.equal(server.asked[0]!.headers.authorization, undefined);
});

test("models of the file are listed with the operator's price, and their provider among the others", async (t) => {
  const { url } = await gatewayWith(t, { providers: [house("http://127.0.0.1:9/v1")] });
  const { data } = (await (await fetch(`${url}/v1/models`)).json()) as {
    data: { id: string; owned_by: string; simulated: boolean; price: Record<string, unknown> }[];
  };
  const [own, ...others] = data.filter(({ owned_by: owner }) => owner === "house");
  assert.equal(others.length, 0);
  assert.deepEqual([own?.id, own?.simulated, own?.price["input_usd_per_million"]], ["gpt-4o-mini", false, 2]);
  const health = (await (await fetch(`${url}/health/providers`)).json()) as { providers: { name: string }[] };
  assert.deepEqual(
    health.providers.map(({ name }) => name),
    ["openai", "mistral", "house"],
  );
});

test("a model of the file's provider without a price is refused at use, and nobody is asked", async (t) => {
  const server = await ownServer(t);
  const { url } = await gatewayWith(t, {
    providers: [{ name: "house", base_url: server.baseUrl, default_model: "llm" }],
  });
  for (const response of [
    await chat(url, { model: "house/llm" }),
    await post(url, "/agents/house/chat", { message: "Hi" }),
  ]) {
    assert.equal(response.status, 400);
    assert.equal(await codeOf(response), "model_price_unknown");
  }
  assert.equal(server.asked.length, 0);
});

test("a provider's key that is refused stands in no answer, no log line, no metric and no row", async (t) => {
  const simulator = await startSimulator({ firstTokenMs: 0, tokensPerSecond: 0 });
  t.after(() => simulator.close());
  const key = "sk-invalid-hunter2hunter2";
  const log = new PassThrough();
  let logged = "";
  log.on("data", (chunk: Buffer) => (logged += chunk.toString("utf8")));
  const gateway = await gatewayWith(
    t,
    { providers: [house(simulator.openaiBaseUrl, { api_key_env: "HOUSE_KEY" })] },
    { environment: { HOUSE_KEY: key }, log },
  );
  const { url } = gateway;
  const response = await chat(url);
  const answer = await response.text();
  assert.equal(response.status, 502);
  assert.match(answer, /provider_credentials_rejected/);
  const stream = await (await chat(url, { stream: true })).text();
  const metrics = await (await fetch(`${url}/metrics`)).text();
  const health = await (await fetch(`${url}/health/providers`)).text();
  assert.match(logged, /provider_credentials_rejected/);
  const rows = JSON.stringify(await gateway.all("select * from usage_events"), (_, value: unknown) =>
    typeof value === "bigint" ? String(value) : value,
  );
  for (const text of [answer, stream, logged, metrics, health, rows]) assert.doesNotMatch(text, /hunter2/);
});

test("a server that refuses to be asked for usage is not asked, and what it served is estimated and marked so", async (t) => {
  const server = await ownServer(t);
  const gateway = await gatewayWith(t, { providers: [house(server.baseUrl, { stream_usage: false })] });
  const { url } = gateway;
  const stream = await (await chat(url, { stream: true })).text();
  assert.match(stream, /data: \[DONE\]\n\n$/);
  assert.ok(!("stream_options" in server.asked[0]!.body));
  const [row] = await gateway.events();
  assert.equal(row?.["usage_source"], "estimated");
  assert.ok(Number(row?.["cost_nano_usd"]) > 0);
});

const faults: readonly [what: string, status: number, body: object, code: string, answered: number][] = [
  ["empty balance", 402, { error: { message: "Insufficient Balance" } }, "provider_quota_exceeded", 502],
  ["empty balance in a 200", 200, { error: { code: 402, message: "x" } }, "provider_quota_exceeded", 502],
  ["rate limit in a 200", 200, { error: { code: 429, message: "x" } }, "provider_rate_limited", 429],
  ["failure in a 200", 200, { error: { code: 502, message: "x" } }, "provider_error", 502],
];
for (const [what, status, body, code, answered] of faults) {
  test(`a reseller's ${what} is what it is to the caller: ${code}`, async (t) => {
    const server = await ownServer(t, (response) =>
      response.writeHead(status, { "content-type": "application/json" }).end(JSON.stringify(body)),
    );
    const { url } = await gatewayWith(t, { providers: [house(server.baseUrl)] });
    const response = await chat(url);
    assert.deepEqual([response.status, await codeOf(response)], [answered, code]);
  });
}

test("taken out while it streams, a provider finishes its answer; new requests do not find it, and others go on", async (t) => {
  let goOn: (() => void) | undefined;
  const chunk = (delta: object, finish: string | null = null): string =>
    `data: ${JSON.stringify({ id: "c", object: "chat.completion.chunk", created: 1, model: "m", choices: [{ index: 0, delta, finish_reason: finish }] })}\n\n`;
  const server = await ownServer(t, (response) => {
    response.writeHead(200, { "content-type": "text/event-stream" }).write(chunk({ role: "assistant", content: "Be" }));
    goOn = () => response.end(`${chunk({ content: "gun" })}${chunk({}, "stop")}data: [DONE]\n\n`);
  });
  const brikk = await gatewayWith(t, { providers: [house(server.baseUrl)] });
  const { url, gateway } = brikk;
  const stream = await chat(url, { stream: true });
  assert.equal(stream.headers.get("x-brikk-provider"), "house");

  gateway.replaceConfigFile(loadConfig({ BRIKK_CONFIG: write({ providers: [] }) }));
  assert.equal((await chat(url)).status, 404);
  assert.equal((await post(url, "/agents/house/chat", { message: "Hi" })).status, 404);
  assert.equal((await chat(url, { model: "gpt-4o-mini" })).status, 200);

  goOn!();
  const text = await stream.text();
  assert.match(text, /gun/);
  assert.match(text, /data: \[DONE\]\n\n$/);
  assert.deepEqual(
    (await brikk.events()).filter(({ provider }) => provider === "house").map(({ outcome }) => outcome),
    ["completed"],
  );
});

test("an explanation refuses what would be refused, as the only candidate is to be left alone for an hour", async (t) => {
  const busy = await ownServer(t, (response) => response.writeHead(429, { "retry-after": "3600" }).end("{}"));
  const { url } = await gatewayWith(t, { providers: [house(busy.baseUrl)] });
  const request = { model: "house/gpt-4o-mini", messages: [{ role: "user", content: "Hi" }] };
  const explained = async () =>
    (await (await post(url, "/v1/explain", request)).json()) as {
      passes: boolean;
      refusal: { status: number; code: string } | null;
      route: { candidates: object[] };
    };
  assert.equal((await explained()).passes, true);
  await chat(url);
  const { passes, refusal, route } = await explained();
  const refused = await chat(url);
  assert.deepEqual([passes, refusal?.status, refusal?.code], [false, refused.status, await codeOf(refused)]);
  assert.equal(route.candidates.length, 1);
});

test("what was learnt of a server is forgotten when its name is given to another one, or to none", async (t) => {
  const busy = await ownServer(t, (response) => response.writeHead(429, { "retry-after": "3600" }).end("{}"));
  const { url, gateway } = await gatewayWith(t, { providers: [house(busy.baseUrl)] });
  assert.equal((await chat(url)).status, 429);
  assert.equal((await chat(url)).status, 429);
  assert.equal(busy.asked.length, 1, "it is left alone");
  assert.match(await (await fetch(`${url}/metrics`)).text(), /^brikk_circuit_breaker_state\{provider="house"/m);

  const reload = (providers: object[]) => gateway.replaceConfigFile(loadConfig({ BRIKK_CONFIG: write({ providers }) }));
  const well = await ownServer(t);
  reload([house(well.baseUrl)]);
  assert.equal((await chat(url)).status, 200);

  reload([]);
  const { breakers } = (await (await fetch(`${url}/health/circuit-breakers`)).json()) as { breakers: object[] };
  assert.deepEqual(breakers, []);
  assert.doesNotMatch(
    await (await fetch(`${url}/metrics`)).text(),
    /^brikk_(circuit_breaker_state|provider_in_flight)\{provider="house"/m,
  );
});

test("SIGHUP takes providers, models, prices and policies anew; a faulty file is refused whole, and so is one that leaves nobody", async (t) => {
  const server = await ownServer(t);
  const simulator = await startSimulator({ firstTokenMs: 0, tokensPerSecond: 0 });
  t.after(() => simulator.close());
  const path = write({ providers: [house(server.baseUrl)] });
  const child = await startGatewayProcess(t, {
    databaseUrl: `sqlite:${join(folder, "sighup.db")}`,
    simulator,
    environment: { BRIKK_CONFIG: path, LOG_LEVEL: "info", OPENAI_API_KEY: "", MISTRAL_API_KEY: "" },
  });
  const modelsOf = async (): Promise<string[]> => {
    const { data } = (await (await fetch(`${child.url}/v1/models`)).json()) as {
      data: { id: string; owned_by: string; simulated: boolean; price: { input_usd_per_million: number } }[];
    };
    assert.ok(
      data.every(({ simulated }) => !simulated),
      "a provider without a key switches the simulator off",
    );
    return data.map(({ id, owned_by: owner, price }) => `${owner}/${id} ${price.input_usd_per_million}`);
  };
  const reload = async (file: object, said: RegExp): Promise<void> => {
    write(file, path);
    const before = child.said().length;
    child.signal("SIGHUP");
    for (const end = Date.now() + 10_000; !said.test(child.said().slice(before));) {
      assert.ok(Date.now() < end, child.said());
      await new Promise((resolve) => setTimeout(resolve, 10));
    }
  };
  assert.deepEqual(await modelsOf(), ["house/gpt-4o-mini 2"]);

  const other = { ...house(server.baseUrl), name: "other", models: [{ ...priced, input_usd_per_million: 9 }] };
  await reload({ providers: [house(server.baseUrl), other] }, /the config file was read again/);
  assert.deepEqual(await modelsOf(), ["house/gpt-4o-mini 2", "other/gpt-4o-mini 9"]);
  assert.equal((await chat(child.url, { model: "other/gpt-4o-mini" })).status, 200);

  await reload(
    { providers: [other], policies: [{ name: "other", candidates: [] }], prices: [{ provider: "x" }] },
    /the config file is faulty.*/,
  );
  assert.match(child.said(), /policies\.0\.candidates/);
  assert.match(child.said(), /prices\.0\.model/);
  assert.deepEqual(await modelsOf(), ["house/gpt-4o-mini 2", "other/gpt-4o-mini 9"]);

  await reload({ providers: [] }, /leaves no provider at all/);
  assert.deepEqual(await modelsOf(), ["house/gpt-4o-mini 2", "other/gpt-4o-mini 9"]);
  assert.equal((await chat(child.url)).status, 200);
});
