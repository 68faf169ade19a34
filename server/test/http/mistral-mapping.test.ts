import assert from "node:assert/strict";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { after, test } from "node:test";
import { startSimulator } from "@brikk/simulator";
import { startGateway } from "../harness/gateway-under-test.ts";

/** What reached the providers: a server before the simulator that keeps each body and hands it on, so that the simulator's strictness judges it too. */
const simulator = await startSimulator({ firstTokenMs: 0, tokensPerSecond: 0 });
const received: { path: string; text: string; headers: Record<string, unknown> }[] = [];
const listener = createServer((request, response) => {
  const chunks: Buffer[] = [];
  request.on("data", (chunk: Buffer) => chunks.push(chunk));
  request.on("end", () => {
    const body = Buffer.concat(chunks);
    received.push({ path: request.url!, text: body.toString("utf8"), headers: request.headers });
    fetch(`${simulator.url}${request.url}`, {
      method: "POST",
      headers: { authorization: request.headers.authorization!, "content-type": "application/json" },
      body,
    }).then(
      async (answer) => {
        response.writeHead(answer.status, { "content-type": answer.headers.get("content-type")! });
        response.end(Buffer.from(await answer.arrayBuffer()));
      },
      (error: unknown) => response.destroy(error as Error),
    );
  });
});
await new Promise<void>((resolve) => listener.listen(0, "127.0.0.1", resolve));
const origin = `http://127.0.0.1:${(listener.address() as AddressInfo).port}`;
const brikk = await startGateway({ providers: { openai: `${origin}/openai/v1`, mistral: `${origin}/mistral/v1` } });
after(async () => {
  await brikk.close();
  await simulator.close();
  await new Promise((resolve) => {
    listener.close(resolve);
    listener.closeAllConnections();
  });
});

const messages = [{ role: "user", content: "¿Por qué?" }];

/** Sends the text as it is and gives back what the provider received. */
async function forwarded(
  text: string,
  path = "/v1/chat/completions",
): Promise<{
  status: number;
  text: string;
  body: Record<string, unknown>;
  path: string;
  headers: Record<string, unknown>;
}> {
  const response = await fetch(`${brikk.url}${path}`, {
    method: "POST",
    headers: { "content-type": "application/json", authorization: "Bearer sk-callers-own" },
    body: text,
  });
  await response.arrayBuffer();
  const last = received.at(-1)!;
  return { ...last, status: response.status, body: JSON.parse(last.text) as Record<string, unknown> };
}

const asMistral = (fields: object): Promise<{ status: number; body: Record<string, unknown> }> =>
  forwarded(JSON.stringify({ model: "mistral-small-latest", messages, ...fields }));

test("max_completion_tokens and seed go to Mistral under its names, with their values", async () => {
  const { status, body } = await asMistral({ max_completion_tokens: 12, seed: 34 });
  assert.equal(status, 200);
  assert.deepEqual(body, { model: "mistral-small-latest", messages, max_tokens: 12, random_seed: 34 });
});

test("Mistral's own names stay; where both stand, Mistral's is the one that goes", async () => {
  const { status, body } = await asMistral({ max_tokens: 3, max_completion_tokens: 9, random_seed: 1, seed: 2 });
  assert.equal(status, 200);
  assert.deepEqual(body, { model: "mistral-small-latest", messages, max_tokens: 3, random_seed: 1 });
});

test("a null where Mistral knows no such field is taken out", async () => {
  const { status, body } = await asMistral({ max_completion_tokens: null, seed: null });
  assert.equal(status, 200);
  assert.deepEqual(body, { model: "mistral-small-latest", messages });
});

test("what OpenAI's SDKs send and Mistral refuses is taken out where it changes nothing in the answer", async () => {
  const { status, body } = await asMistral({
    stream: true,
    stream_options: { include_usage: true },
    user: "u-1",
    store: false,
  });
  assert.equal(status, 200);
  assert.deepEqual(body, { model: "mistral-small-latest", messages, stream: true });
});

test("a developer's message becomes a system message", async () => {
  const { status, body } = await asMistral({ messages: [{ role: "developer", content: "Be brief." }, ...messages] });
  assert.equal(status, 200);
  assert.deepEqual(body["messages"], [{ role: "system", content: "Be brief." }, ...messages]);
});

test("a field that would change the answer is never dropped in silence: Mistral says that it does not know it", async () => {
  const { status, body } = await asMistral({ logit_bias: { 50256: -100 } });
  assert.equal(status, 422);
  assert.deepEqual(body["logit_bias"], { 50256: -100 });
});

test("what needs no mapping reaches Mistral to the byte", async () => {
  const text = `{ "model" : "mistral-small-latest",\n  "messages":[{"role":"user","content":"\\u00bfPor qu\\u00e9? 1.0"}], "temperature": 0.70, "safe_prompt":true }`;
  const sent = await forwarded(text);
  assert.equal(sent.status, 200);
  assert.equal(sent.text, text);
});

test("what needs no change reaches OpenAI to the byte, unknown fields and number forms included", async () => {
  const text = `{"model":"gpt-4o-mini",  "messages":[{"role":"user","content":"caf\\u00e9"}], "temperature":1.0e0, "metadata":{"a":"b"} }`;
  const sent = await forwarded(text);
  assert.equal(sent.status, 200);
  assert.equal(sent.text, text);
});

test("provider/model names the provider, which receives its own name for the model; `models` is Brikk's and stays here", async () => {
  const first = await forwarded(
    JSON.stringify({ model: "mistral/mistral-small-latest", models: ["gpt-4o-mini"], messages }),
  );
  assert.equal(first.path, "/mistral/v1/chat/completions");
  assert.deepEqual(first.body, { model: "mistral-small-latest", messages });
});

test("a stream's usage is always asked of OpenAI, and the caller's other stream options stay", async () => {
  const bare = await forwarded(JSON.stringify({ model: "gpt-4o-mini", messages, stream: true }));
  assert.deepEqual(bare.body["stream_options"], { include_usage: true });
  const declined = await forwarded(
    JSON.stringify({
      model: "gpt-4o-mini",
      messages,
      stream: true,
      stream_options: { include_usage: false, include_obfuscation: false },
    }),
  );
  assert.deepEqual(declined.body["stream_options"], { include_usage: true, include_obfuscation: false });
  const plain = await forwarded(JSON.stringify({ model: "gpt-4o-mini", messages }));
  assert.ok(!("stream_options" in plain.body));
});

test("embeddings reach Mistral as they were written", async () => {
  const sent = await forwarded(JSON.stringify({ model: "mistral-embed", input: ["a", "b"] }), "/v1/embeddings");
  assert.equal(sent.status, 200);
  assert.equal(sent.path, "/mistral/v1/embeddings");
  assert.deepEqual(sent.body, { model: "mistral-embed", input: ["a", "b"] });
});

test("the caller's credentials, cookies and addresses never reach a provider", async () => {
  await fetch(`${brikk.url}/v1/chat/completions`, {
    method: "POST",
    headers: {
      "content-type": "application/json",
      authorization: "Bearer sk-callers-own",
      cookie: "session=callers",
      "x-forwarded-for": "10.1.2.3",
      "openai-organization": "org-callers",
    },
    body: JSON.stringify({ model: "gpt-4o-mini", messages }),
  }).then((response) => response.arrayBuffer());
  const { headers } = received.at(-1)!;
  assert.equal(headers["authorization"], "Bearer simulated");
  assert.doesNotMatch(JSON.stringify(headers), /callers|10\.1\.2\.3/);
});
