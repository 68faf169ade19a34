import assert from "node:assert/strict";
import { test } from "node:test";
import { answered } from "../../src/conversations/agent-message.ts";

const answer = (message: object, finish_reason?: string) =>
  answered({ choices: [{ index: 0, message, finish_reason }] });

test("an answer that reached its limit does not look whole", () => {
  assert.deepEqual(answer({ content: "And then" }, "length"), { text: "And then", finishReason: "length" });
  assert.deepEqual(answer({ content: "Hello" }), { text: "Hello", finishReason: undefined });
});

test("of what a model thinks and says, what it says is its answer; a refusal is one", () => {
  const parts = [
    { type: "thinking", thinking: [{ type: "text", text: "hm" }] },
    { type: "text", text: "مرحبا" },
  ];
  assert.equal(answer({ content: parts }).text, "مرحبا");
  assert.equal(answer({ content: null, refusal: "I cannot help with that." }).text, "I cannot help with that.");
  assert.equal(answer({ content: null }).text, "");
});
