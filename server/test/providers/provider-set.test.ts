import assert from "node:assert/strict";
import { once } from "node:events";
import { createServer, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { join } from "node:path";
import { test, type TestContext } from "node:test";
import { isConfigured, loadConfig, type ProviderConfig } from "../../src/config.ts";
import { parseJsonDocument } from "../../src/lib/json-document.ts";
import { type ConnectedProvider, connectProviders, needsSimulator } from "../../src/providers/provider-set.ts";
import type { UpstreamResponse } from "../../src/providers/transport.ts";

const house: ProviderConfig = {
  name: "house",
  dialect: "openai",
  apiKey: undefined,
  keyless: true,
  baseUrl: "http://127.0.0.1:9/v1",
  defaultModel: "llm",
  timeouts: { connectMs: 1_000, firstTokenMs: 2_000, thinkingFirstTokenMs: 60_000, idleMs: 3_000, attemptMs: 4_000 },
  maxInFlight: 7,
  maxQueued: 3,
  continuation: "instruct",
  streamUsage: true,
  outputLimit: "max_tokens",
  models: [],
};
const unset: ProviderConfig = { ...house, name: "unset", keyless: false };

const connect = (t: TestContext, providers: readonly ProviderConfig[], requestTimeoutMs = 60_000) => {
  const set = connectProviders({ providers, requestTimeoutMs, allowPrivateAddresses: true }, undefined);
  t.after(() => set.close());
  return set;
};

/** A server that begins to answer and goes on when it is told to; counts the connections that are open. */
async function openEndedServer(t: TestContext) {
  const open = new Set<object>();
  const answers: ServerResponse[] = [];
  const server = createServer((request, response) => {
    request.resume().on("end", () => {
      response.writeHead(200, { "content-type": "text/event-stream" }).write("data: 1\n\n");
      answers.push(response);
    });
  });
  server.on("connection", (socket) => {
    open.add(socket);
    socket.on("close", () => open.delete(socket));
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  t.after(() => {
    server.close();
    server.closeAllConnections();
  });
  return {
    baseUrl: `http://127.0.0.1:${(server.address() as AddressInfo).port}/v1`,
    open,
    finish: () => answers.forEach((answer) => answer.end("data: 2\n\n")),
  };
}

const ask = ({ provider, transport }: ConnectedProvider): Promise<UpstreamResponse> =>
  transport.send(
    provider.prepare("chat", parseJsonDocument(Buffer.from('{"model":"llm"}')), { id: "llm", reasons: false }),
    AbortSignal.timeout(10_000),
  );

async function textOf({ body }: UpstreamResponse): Promise<string> {
  let text = "";
  for await (const chunk of body) text += chunk.toString("utf8");
  return text;
}

async function until(holds: () => boolean): Promise<void> {
  for (const end = Date.now() + 10_000; !holds();) {
    assert.ok(Date.now() < end, "it did not come about in time");
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
}

/** Asks again and again; what is still taken is left open. */
async function untilRefused(send: () => Promise<UpstreamResponse>): Promise<void> {
  for (const end = Date.now() + 10_000; Date.now() < end; await new Promise((resolve) => setTimeout(resolve, 20))) {
    const refused = await send().then(
      () => false,
      () => true,
    );
    if (refused) return;
  }
  assert.fail("everything was taken");
}

test("the simulator is needed only where no provider can be asked, with a key or without one", () => {
  assert.equal(needsSimulator({ providers: [] }), true);
  assert.equal(needsSimulator({ providers: [unset] }), true);
  assert.equal(needsSimulator({ providers: [unset, house] }), false);
  assert.equal(needsSimulator({ providers: [{ ...unset, apiKey: "k" }] }), false);
});

test("who has no key and needs one is known but cannot be found", (t) => {
  const set = connect(t, [unset, house]);
  assert.deepEqual(set.known, ["unset", "house"]);
  assert.deepEqual(
    set.all.map(({ provider }) => provider.name),
    ["house"],
  );
  assert.equal(set.find("unset"), undefined);
  assert.equal(set.find("house")?.maxInFlight, 7);
  assert.equal(set.find("house")?.maxQueued, 3);
});

test("a model that thinks gets the time for it, and a model's own timeouts win over its provider's", (t) => {
  const set = connect(t, [
    {
      ...house,
      models: [
        { id: "Slow", timeouts: { first_token_seconds: 9, idle_seconds: 8 } },
        { id: "thinker", timeouts: { thinking_first_token_seconds: 90 } },
      ],
    },
  ]);
  const connected = set.find("house")!;
  const { timeouts } = house;
  assert.deepEqual(connected.timeoutsOf({ id: "llm", reasons: false }), timeouts);
  assert.deepEqual(connected.timeoutsOf({ id: "llm", reasons: true }), {
    ...timeouts,
    firstTokenMs: 60_000,
    attemptMs: 60_000,
  });
  assert.deepEqual(connected.timeoutsOf({ id: "slow", reasons: false }), {
    ...timeouts,
    firstTokenMs: 9_000,
    idleMs: 8_000,
  });
  assert.equal(connected.timeoutsOf({ id: "slow", reasons: true }).firstTokenMs, 9_000);
  assert.deepEqual(connected.timeoutsOf({ id: "thinker", reasons: true }), {
    ...timeouts,
    thinkingFirstTokenMs: 90_000,
    firstTokenMs: 90_000,
    attemptMs: 90_000,
  });
});

test("replaced, a provider that is as it was stays the very same; one that changed keeps its connections where it can", (t) => {
  const other = { ...house, name: "other" };
  const set = connect(t, [house, other]);
  const [sameBefore, otherBefore] = [set.find("house")!, set.find("other")!];
  const tuned = { ...other, defaultModel: "newer", maxInFlight: 9 };
  assert.deepEqual(set.replace([structuredClone(house), tuned], undefined), []);
  assert.equal(set.find("house"), sameBefore);
  const otherAfter = set.find("other")!;
  assert.deepEqual([otherAfter.provider.defaultModel, otherAfter.maxInFlight], ["newer", 9]);
  assert.equal(otherAfter.transport, otherBefore.transport);
  assert.deepEqual(set.replace([{ ...house, baseUrl: "http://127.0.0.1:10/v1" }], undefined), ["house", "other"]);
  assert.notEqual(set.find("house")!.transport, sameBefore.transport);
  assert.equal(set.find("other"), undefined);
  assert.deepEqual(set.known, ["house"]);
});

test("a provider that went away finishes what it has in hand, may still be asked by who was routed to it, and is closed then", async (t) => {
  const server = await openEndedServer(t);
  const set = connect(t, [{ ...house, baseUrl: server.baseUrl }], 200);
  const connected = set.find("house")!;
  const first = await ask(connected);
  set.replace([], undefined);
  assert.equal(set.find("house"), undefined);
  assert.deepEqual(set.all, []);
  const late = await ask(connected);
  await until(() => server.open.size === 2);
  // Once nobody can be left who was routed here, nothing new is taken; both streams are still in hand.
  await untilRefused(() => ask(connected));
  server.finish();
  assert.match(await textOf(first), /data: 2/);
  assert.match(await textOf(late), /data: 2/);
  await until(() => server.open.size === 0);
});

test("docs/examples/providers.yaml is loaded as it stands, and every provider in it can be asked", (t) => {
  const keys = { GROQ_API_KEY: "k1", DEEPSEEK_API_KEY: "k2", OPENROUTER_API_KEY: "k3", VLLM_API_KEY: "k4" };
  const path = join(import.meta.dirname, "..", "..", "..", "docs", "examples", "providers.yaml");
  const config = loadConfig({ ...keys, BRIKK_CONFIG: path });
  assert.deepEqual(
    config.providers.filter(isConfigured).map(({ name, keyless }) => [name, keyless]),
    [
      ["groq", false],
      ["deepseek", false],
      ["openrouter", false],
      ["ollama", true],
      ["vllm", false],
    ],
  );
  assert.deepEqual(
    config.policies.map(({ name }) => name),
    ["private", "cheap", "llama"],
  );
  const set = connectProviders(config, undefined);
  t.after(() => set.close());
  assert.deepEqual(
    set.all.map(({ provider }) => `${new URL(provider.baseUrl).origin}${provider.probe().path}`),
    [
      "https://api.groq.com/openai/v1/models",
      "https://api.deepseek.com/models",
      "https://openrouter.ai/api/v1/models",
      "http://127.0.0.1:11434/v1/models",
      "http://127.0.0.1:8000/v1/models",
    ],
  );
});
