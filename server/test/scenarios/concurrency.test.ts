import assert from "node:assert/strict";
import { once } from "node:events";
import {
  createServer,
  type IncomingMessage,
  request as httpRequest,
  type Server,
  type ServerResponse,
} from "node:http";
import type { AddressInfo } from "node:net";
import { type TestContext, test } from "node:test";
import type { Simulator } from "@brikk/simulator";
import { Agent, request } from "undici";
import { startGateway } from "../harness/gateway-under-test.ts";

type ServedEntry = ReturnType<Simulator["served"]["list"]>[number];

const MB = 1_048_576;

/** pico-USD per token, from the vendors' pages: fresh input, cached input, output. */
const RATES: Readonly<Record<string, readonly [bigint, bigint, bigint]>> = {
  "gpt-4o-mini": [150_000n, 75_000n, 600_000n],
  "mistral-small-latest": [150_000n, 15_000n, 600_000n],
};

/** What the vendor's own count costs, reckoned here: exact, and rounded up to the next nano-USD per request. */
function costOfServed({ model, usage }: ServedEntry): bigint {
  const [fresh, cached, output] = RATES[model]!;
  const pico =
    BigInt(usage.promptTokens - usage.cachedTokens) * fresh +
    BigInt(usage.cachedTokens) * cached +
    BigInt(usage.completionTokens) * output;
  return pico / 1_000n + (pico % 1_000n === 0n ? 0n : 1n);
}

async function listen(t: TestContext, server: Server): Promise<string> {
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  t.after(
    () =>
      new Promise<void>((resolve) => {
        server.close(() => resolve());
        server.closeAllConnections();
      }),
  );
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}/v1`;
}

/** The largest resident set seen while something runs. */
function watchMemory(): { stop(): number } {
  const before = process.memoryUsage.rss();
  let most = before;
  const timer = setInterval(() => (most = Math.max(most, process.memoryUsage.rss())), 20);
  return {
    stop() {
      clearInterval(timer);
      return Math.max(most, process.memoryUsage.rss()) - before;
    },
  };
}

test("200 streams at once on one process all complete, each with its own bytes and nobody else's, in bounded memory", async (t) => {
  const STREAMS = 200;
  const CHUNKS = 60;
  // Every answer is told by the prompt, so that bytes of one stream in another would show.
  const chunksOf = (name: string): string[] =>
    Array.from(
      { length: CHUNKS },
      (_, index) =>
        `data: {"choices":[{"index":0,"delta":{"content":"${name} ${index} 日本語🎉 ${"x".repeat(index * 7)}"},"finish_reason":null}]}\n\n`,
    );
  const ENDING = 'data: {"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}\n\n';
  let open = 0;
  const allOpen = Promise.withResolvers<void>();
  const baseUrl = await listen(
    t,
    createServer((incoming, response) => void serve(incoming, response)),
  );
  async function serve(incoming: IncomingMessage, response: ServerResponse): Promise<void> {
    const body = JSON.parse(Buffer.concat(await incoming.toArray()).toString("utf8")) as {
      messages: { content: string }[];
    };
    const name = body.messages[0]!.content;
    response.writeHead(200, { "content-type": "text/event-stream" });
    const [first, ...others] = chunksOf(name);
    response.write(first);
    if (++open === STREAMS) allOpen.resolve();
    // Nobody is finished before everybody has begun.
    await allOpen.promise;
    for (const chunk of others) if (!response.write(chunk)) await once(response, "drain");
    response.end(
      `${ENDING}data: {"choices":[],"usage":{"prompt_tokens":${name.length},"completion_tokens":${CHUNKS}}}\n\ndata: [DONE]\n\n`,
    );
  }
  const gateway = await startGateway({ providers: { openai: baseUrl } });
  t.after(() => gateway.close());
  const agent = new Agent({ connections: STREAMS });
  t.after(() => agent.close());
  const memory = watchMemory();
  const answers = await Promise.all(
    Array.from({ length: STREAMS }, async (_, index) => {
      const name = `stream-${index}`;
      const answer = await request(`${gateway.url}/v1/chat/completions`, {
        method: "POST",
        dispatcher: agent,
        headers: { "content-type": "application/json", "x-request-id": name },
        body: JSON.stringify({ model: "gpt-4o-mini", stream: true, messages: [{ role: "user", content: name }] }),
      });
      return { name, status: answer.statusCode, text: await answer.body.text() };
    }),
  );
  const grewBy = memory.stop();
  for (const { name, status, text } of answers) {
    assert.equal(status, 200);
    assert.equal(text, `${chunksOf(name).join("")}${ENDING}data: [DONE]\n\n`);
  }
  // 200 streams of 20 kB, with gateway, provider and callers in this one process.
  assert.ok(grewBy < 200 * MB, `grew by ${Math.round(grewBy / MB)} MB`);
  const rows = await gateway.events();
  assert.deepEqual(rows.map((row) => String(row["request_id"])).sort(), answers.map(({ name }) => name).sort());
  for (const row of rows)
    assert.deepEqual(
      [row["outcome"], row["usage_source"], row["fresh_input_tokens"], row["output_tokens"]],
      ["completed", "exact", BigInt(String(row["request_id"]).length), BigInt(CHUNKS)],
    );
});

test("the ledger is what the providers counted, to the token and to the nano-USD, over many callers at once", async (t) => {
  const gateway = await startGateway();
  t.after(() => gateway.close());
  const agent = new Agent({ connections: 100 });
  t.after(() => agent.close());
  // Long enough that OpenAI caches its beginning.
  const long = "The tide comes in twice a day and goes out again. ".repeat(160);
  const keys = await Promise.all([0, 1, 2].map((number) => gateway.createKey({ name: `caller ${number}` })));
  await Promise.all(
    Array.from({ length: 300 }, async (_, index) => {
      const content =
        index % 6 === 0 ? `${long} Question ${index % 5}: why?` : `Question ${index}: なぜ潮は満ちるのですか。`;
      const answer = await request(`${gateway.url}/v1/chat/completions`, {
        method: "POST",
        dispatcher: agent,
        headers: { "content-type": "application/json", authorization: `Bearer ${keys[index % 3]!.secret}` },
        body: JSON.stringify({
          model: Object.keys(RATES)[index % 2],
          stream: index % 4 < 2,
          messages: [{ role: "user", content }],
        }),
      });
      assert.equal(answer.statusCode, 200);
      await answer.body.dump();
    }),
  );
  const served = gateway.simulator.served.list();
  const rows = await gateway.events();
  assert.equal(served.length, 300);
  assert.equal(rows.length, 300);
  assert.ok(
    served.some(({ usage }) => usage.cachedTokens > 0),
    "nothing was cached, so that price was not tried",
  );
  for (const model of Object.keys(RATES)) {
    const theirs = served.filter((entry) => entry.model === model);
    const ours = rows.filter((row) => row["model"] === model);
    const sum = (column: string): bigint => ours.reduce((total, row) => total + (row[column] as bigint), 0n);
    const total = (of: (entry: ServedEntry) => number): bigint =>
      BigInt(theirs.reduce((all, entry) => all + of(entry), 0));
    assert.equal(
      sum("fresh_input_tokens"),
      total(({ usage }) => usage.promptTokens - usage.cachedTokens),
    );
    assert.equal(
      sum("cached_input_tokens"),
      total(({ usage }) => usage.cachedTokens),
    );
    assert.equal(
      sum("output_tokens"),
      total(({ usage }) => usage.completionTokens),
    );
    assert.equal(
      sum("cost_nano_usd"),
      theirs.reduce((all, entry) => all + costOfServed(entry), 0n),
    );
  }
  const rollUps = await gateway.all(
    "select key_id, sum(cost_nano_usd) as cost, sum(requests) as requests from usage_hourly group by key_id",
  );
  for (const { id, secret } of keys) {
    const cost = rows
      .filter((row) => row["key_id"] === id)
      .reduce((all, row) => all + (row["cost_nano_usd"] as bigint), 0n);
    assert.deepEqual(
      rollUps.find((row) => row["key_id"] === id),
      { key_id: id, cost, requests: 100n },
    );
    const answer = await fetch(`${gateway.url}/usage/me`, { headers: { authorization: `Bearer ${secret}` } });
    const usage = (await answer.json()) as { today: { cost_usd: number } };
    assert.equal(BigInt(Math.round(usage.today.cost_usd * 1e9)), cost);
  }
});

test("a caller who reads slowly costs bounded memory, and the provider is held back", async (t) => {
  const TOTAL = 50 * MB;
  const event = Buffer.from(
    `data: {"choices":[{"index":0,"delta":{"content":"${"y".repeat(65_400)}"},"finish_reason":null}]}\n\n`,
  );
  const ENDING = 'data: {"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}\n\n';
  const events = Math.ceil(TOTAL / event.length);
  let pushed = 0;
  let waits = 0;
  const push = async (response: ServerResponse): Promise<void> => {
    response.writeHead(200, { "content-type": "text/event-stream" });
    for (let index = 0; index < events; index++) {
      // What the socket took, in full; the rest waits in the provider's own memory.
      if (!response.write(event)) {
        waits += 1;
        await once(response, "drain");
      }
      pushed += event.length;
    }
    response.end(
      `${ENDING}data: {"choices":[],"usage":{"prompt_tokens":9,"completion_tokens":${events}}}\n\ndata: [DONE]\n\n`,
    );
  };
  const baseUrl = await listen(
    t,
    createServer((incoming, response) => void incoming.resume().on("end", () => void push(response))),
  );
  const gateway = await startGateway({ providers: { openai: baseUrl } });
  t.after(() => gateway.close());
  const outgoing = httpRequest(`${gateway.url}/v1/chat/completions`, {
    method: "POST",
    agent: false,
    headers: { "content-type": "application/json" },
  });
  outgoing.end(JSON.stringify({ model: "gpt-4o-mini", stream: true, messages: [{ role: "user", content: "go" }] }));
  const [answer] = (await once(outgoing, "response")) as [IncomingMessage];
  answer.pause();

  // The provider goes on until everything between it and the reader is full; then it stands still.
  let before = -1;
  for (let still = 0; still < 10; still = pushed === before ? still + 1 : 0) {
    before = pushed;
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
  const heldBack = pushed;
  assert.ok(waits > 0);
  // The kernel's buffers of two connections and little more; half of the answer is still with the provider.
  assert.ok(heldBack < TOTAL / 2, `${Math.round(heldBack / MB)} MB were taken in for a caller who reads nothing`);

  let received = 0;
  let mostBetween = 0;
  const memory = watchMemory();
  let last = "";
  for await (const chunk of answer as AsyncIterable<Buffer>) {
    received += chunk.length;
    mostBetween = Math.max(mostBetween, pushed - received);
    last = (last + chunk.toString("latin1")).slice(-200);
    // One chunk for each turn, so that the provider is always the faster.
    await new Promise((resolve) => setImmediate(resolve));
  }
  const grewBy = memory.stop();
  assert.equal(received, events * event.length + ENDING.length + "data: [DONE]\n\n".length);
  assert.ok(last.endsWith(`${ENDING}data: [DONE]\n\n`));
  assert.ok(mostBetween < TOTAL / 2, `${Math.round(mostBetween / MB)} MB lay between the provider and the caller`);
  // The text itself is kept for an estimate, once; everything else is in flight.
  assert.ok(grewBy < 150 * MB, `grew by ${Math.round(grewBy / MB)} MB`);
  t.diagnostic(
    `held back after ${(heldBack / MB).toFixed(1)} MB, at most ${(mostBetween / MB).toFixed(1)} MB on the way, rss +${(grewBy / MB).toFixed(0)} MB`,
  );
  const [row] = await gateway.events();
  assert.deepEqual([row!["outcome"], row!["output_tokens"]], ["completed", BigInt(events)]);
});
