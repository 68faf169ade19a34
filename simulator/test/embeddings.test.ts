import assert from "node:assert/strict";
import { test } from "node:test";
import { post, simulatorForTests } from "./client.ts";
import type { Json } from "./client.ts";

const { openaiBaseUrl, mistralBaseUrl, served } = await simulatorForTests();
const openai = `${openaiBaseUrl}/embeddings`;
const mistral = `${mistralBaseUrl}/embeddings`;

test("vectors have unit length, repeat for the same text and differ for another", async () => {
  const { json } = await post(openai, {
    model: "text-embedding-3-small",
    input: ["green tea", "green tea", "a slow train"],
  });
  const vectors = json.data.map((item: Json) => item.embedding as number[]) as number[][];
  assert.deepEqual(
    json.data.map((item: Json) => item.index),
    [0, 1, 2],
  );
  assert.ok(vectors.every((vector) => vector.length === 1536 && Math.abs(Math.hypot(...vector) - 1) < 1e-5));
  assert.deepEqual(vectors[0], vectors[1]);
  assert.notDeepEqual(vectors[0], vectors[2]);
  assert.equal(json.usage.prompt_tokens, json.usage.total_tokens);
  assert.equal(served.list().at(-1)?.usage.promptTokens, json.usage.prompt_tokens);
});

test("base64 holds the same vector as 32-bit floats", async () => {
  const [floats, base64] = await Promise.all(
    ["float", "base64"].map((format) =>
      post(openai, { model: "text-embedding-3-large", input: "tea", encoding_format: format, dimensions: 256 }),
    ),
  );
  assert.ok(floats !== undefined && base64 !== undefined);
  const bytes = Buffer.from(base64.json.data[0].embedding, "base64");
  const decoded = Array.from({ length: 256 }, (_, place) => bytes.readFloatLE(place * 4));
  assert.deepEqual(decoded, (floats.json.data[0].embedding as number[]).map(Math.fround));
});

test("token lists count one token each", async () => {
  const one = await post(openai, { model: "text-embedding-ada-002", input: [1, 2, 3] });
  assert.deepEqual([one.json.data.length, one.json.usage.prompt_tokens], [1, 3]);
  const two = await post(openai, { model: "text-embedding-ada-002", input: [[1, 2], [3]] });
  assert.deepEqual([two.json.data.length, two.json.usage.prompt_tokens], [2, 3]);
});

test("Mistral's vectors have 1,024 numbers, and each vendor refuses what it does not know", async () => {
  const { json } = await post(mistral, { model: "mistral-embed", input: "tea" });
  assert.equal(json.data[0].embedding.length, 1024);
  assert.equal((await post(mistral, { model: "mistral-embed", input: "tea", dimensions: 5 })).status, 422);
  assert.equal((await post(openai, { model: "text-embedding-3-small", input: "" })).status, 400);
  assert.equal((await post(openai, { model: "text-embedding-3-small", input: "tea", dimensions: 5000 })).status, 400);
});
