import assert from "node:assert/strict";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { type TestContext, test } from "node:test";
import { startSimulator } from "@brikk/simulator";
import { nanoUsd } from "../../src/lib/money.ts";
import { startGateway } from "../harness/gateway-under-test.ts";

/** What a provider was sent, on its way to the simulator. */
async function recordBodies(
  t: TestContext,
  simulatorUrl: string,
): Promise<{ url: string; bodies: Record<string, unknown>[] }> {
  const bodies: Record<string, unknown>[] = [];
  const server = createServer(async (incoming, response) => {
    const body = Buffer.concat(await incoming.toArray());
    bodies.push(JSON.parse(body.toString("utf8")) as Record<string, unknown>);
    const answer = await fetch(`${simulatorUrl}${incoming.url}`, {
      method: "POST",
      headers: { "content-type": "application/json", authorization: "Bearer sk-test" },
      body,
    });
    response.writeHead(answer.status, { "content-type": answer.headers.get("content-type") ?? "" });
    response.end(Buffer.from(await answer.arrayBuffer()));
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  t.after(() => {
    server.close();
    server.closeAllConnections();
  });
  return { url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`, bodies };
}

const LIMITS = ["max_tokens", "max_completion_tokens"] as const;
type Limit = (typeof LIMITS)[number];

/** The vendor's model, what the caller said, and where the vendor finds the shorter limit. */
const CASES: readonly {
  vendor: "openai" | "mistral";
  model: string;
  said: readonly Limit[];
  sent: readonly Limit[];
}[] = [
  { vendor: "openai", model: "gpt-4o-mini", said: [], sent: ["max_completion_tokens"] },
  { vendor: "openai", model: "gpt-4o-mini", said: ["max_tokens"], sent: ["max_tokens"] },
  { vendor: "openai", model: "gpt-4o-mini", said: ["max_completion_tokens"], sent: ["max_completion_tokens"] },
  { vendor: "mistral", model: "mistral-small-latest", said: [], sent: ["max_tokens"] },
  { vendor: "mistral", model: "mistral-small-latest", said: ["max_tokens"], sent: ["max_tokens"] },
  { vendor: "mistral", model: "mistral-small-latest", said: ["max_completion_tokens"], sent: ["max_tokens"] },
];

test("what the budget does not pay for in full is answered shorter: the provider is told, the caller and the ledger are too", async (t) => {
  const simulator = await startSimulator({ firstTokenMs: 0, tokensPerSecond: 0 });
  t.after(() => simulator.close());
  const recorders = {
    openai: await recordBodies(t, simulator.openaiBaseUrl),
    mistral: await recordBodies(t, simulator.mistralBaseUrl),
  };
  const brikk = await startGateway({ providers: { openai: recorders.openai.url, mistral: recorders.mistral.url } });
  t.after(() => brikk.close());
  for (const { vendor, model, said, sent } of CASES) {
    for (const stream of [false, true]) {
      const name = `${vendor}, ${said.join() || "no limit said"}, ${stream ? "streamed" : "plain"}`;
      // Pays for the question, whichever way it is counted, and for 20 to 100 tokens of answer.
      const cap = nanoUsd(70_000n);
      const { id, secret } = await brikk.createKey({ hardCap: cap, softCap: cap });
      const response = await fetch(`${brikk.url}/v1/chat/completions`, {
        method: "POST",
        headers: { "content-type": "application/json", authorization: `Bearer ${secret}` },
        body: JSON.stringify({
          model,
          messages: [{ role: "user", content: "Tell me everything about the sea, in ten long paragraphs." }],
          ...Object.fromEntries(said.map((limit) => [limit, 4_000])),
          ...(stream && { stream }),
        }),
      });
      const text = await response.text();
      assert.equal(response.status, 200, `${name}: ${text}`);
      const clamped = Number(response.headers.get("x-brikk-max-tokens-clamped"));
      assert.ok(clamped >= 16 && clamped < 117, `${name}: clamped to ${clamped}`);
      const body = recorders[vendor].bodies.at(-1)!;
      assert.deepEqual(
        LIMITS.filter((limit) => limit in body).map((limit) => [limit, body[limit]]),
        sent.map((limit) => [limit, clamped]),
        name,
      );
      assert.match(text, /"finish_reason":"length"/, name);
      const row = (await brikk.events()).at(-1)!;
      assert.deepEqual(
        [row["key_id"], row["outcome"], row["clamped_max_tokens"], row["output_tokens"]],
        [id, "completed", BigInt(clamped), BigInt(clamped)],
        name,
      );
      assert.ok((row["cost_nano_usd"] as bigint) <= (row["reserved_nano_usd"] as bigint), name);
      assert.ok((row["reserved_nano_usd"] as bigint) <= cap, name);
    }
  }
});

test("an answer that fits is not shortened, and nobody is told that it was", async (t) => {
  const brikk = await startGateway();
  t.after(() => brikk.close());
  const { secret } = await brikk.createKey();
  const response = await fetch(`${brikk.url}/v1/chat/completions`, {
    method: "POST",
    headers: { "content-type": "application/json", authorization: `Bearer ${secret}` },
    body: JSON.stringify({ model: "gpt-4o-mini", messages: [{ role: "user", content: "Hello" }] }),
  });
  await response.arrayBuffer();
  assert.deepEqual([response.status, response.headers.get("x-brikk-max-tokens-clamped")], [200, null]);
  assert.equal((await brikk.events()).at(-1)?.["clamped_max_tokens"], null);
});
