import assert from "node:assert/strict";
import { test } from "node:test";
import { inputTexts, readCompletionRequest } from "../../src/completion/completion-request.ts";
import { parseJsonDocument } from "../../src/lib/json-document.ts";

const chat = (body: object) =>
  readCompletionRequest(
    "chat",
    parseJsonDocument(Buffer.from(JSON.stringify({ model: "m", messages: [{ role: "user", content: "x" }], ...body }))),
  );
const embeddings = (body: object) =>
  readCompletionRequest("embeddings", parseJsonDocument(Buffer.from(JSON.stringify({ model: "m", ...body }))));

test("what a request leaves out or sets to null has OpenAI's default", () => {
  for (const body of [
    {},
    { stream: null, stream_options: null, n: null, max_tokens: null, max_completion_tokens: null, models: null },
  ]) {
    const { stream, wantsUsage, choices, maxOutputTokens, fallbackModels } = chat(body);
    assert.deepEqual(
      { stream, wantsUsage, choices, maxOutputTokens, fallbackModels },
      { stream: false, wantsUsage: false, choices: 1, maxOutputTokens: undefined, fallbackModels: [] },
    );
  }
});

test("the limits of a request are read, of two output limits the higher, for the vendor chooses which to obey", () => {
  const { choices, maxOutputTokens, wantsUsage, stream, fallbackModels } = chat({
    n: 3,
    max_tokens: 50,
    max_completion_tokens: 20,
    stream: true,
    stream_options: { include_usage: true },
    models: ["b", "c"],
  });
  assert.deepEqual(
    { choices, maxOutputTokens, wantsUsage, stream, fallbackModels },
    { choices: 3, maxOutputTokens: 50, wantsUsage: true, stream: true, fallbackModels: ["b", "c"] },
  );
  assert.equal(chat({ max_tokens: 50 }).maxOutputTokens, 50);
});

test("an embedding is never a stream", () => {
  assert.equal(embeddings({ input: "x", stream: true }).stream, false);
});

test("an embedding has one answer without a limit, whatever stands in a body that no schema has looked at", () => {
  for (const n of [0, -1_000, 1e-7, 1e21, 128]) {
    const { choices, maxOutputTokens } = embeddings({ input: "x", n, max_tokens: n, max_completion_tokens: n });
    assert.deepEqual({ choices, maxOutputTokens }, { choices: 1, maxOutputTokens: undefined });
  }
});

test("every text of the input counts for an estimate, a picture's bytes do not", () => {
  const request = chat({
    messages: [
      { role: "system", content: "be brief" },
      {
        role: "user",
        content: [
          { type: "text", text: "what is this?" },
          { type: "image_url", image_url: { url: "data:image/png;base64,AAAABBBB" } },
        ],
      },
      {
        role: "assistant",
        content: null,
        tool_calls: [{ id: "call_1", type: "function", function: { name: "look", arguments: '{"a":1}' } }],
      },
    ],
    tools: [{ type: "function", function: { name: "look", description: "looks closely" } }],
  });
  const texts = inputTexts(request).join("\n");
  for (const expected of ["be brief", "what is this?", "look", '{"a":1}', "looks closely"])
    assert.ok(texts.includes(expected), expected);
  assert.ok(!texts.includes("AAAABBBB"));
  assert.deepEqual(inputTexts(embeddings({ input: ["a", "b"] })), ["a", "b"]);
  assert.deepEqual(inputTexts(embeddings({ input: [[1, 2], [3]] })), []);
});
