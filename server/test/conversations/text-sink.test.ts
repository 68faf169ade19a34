import assert from "node:assert/strict";
import { test } from "node:test";
import { createTextSink } from "../../src/conversations/text-sink.ts";

const event = (content: unknown, finish: string | null = null): string =>
  `data: ${JSON.stringify({ choices: [{ index: 0, delta: { content }, finish_reason: finish }] })}\n\n`;

function heard(...writes: readonly string[]): {
  readonly pieces: string[];
  readonly sink: ReturnType<typeof createTextSink>;
} {
  const pieces: string[] = [];
  const sink = createTextSink({ opened: () => undefined, said: (text) => void pieces.push(text) });
  for (const text of writes) void sink.write(Buffer.from(text));
  return { pieces, sink };
}

test("text comes as it came, one piece for each write, and nothing else of the stream is text", () => {
  const { pieces, sink } = heard(
    ": comment\n\n" + event("日本") + event("語"),
    event(""),
    `data: ${JSON.stringify({ choices: [], usage: { prompt_tokens: 1 } })}\n\n`,
    event(
      [
        { type: "thinking", thinking: [{ type: "text", text: "hm" }] },
        { type: "text", text: "مرحبا" },
      ],
      "length",
    ),
  );
  assert.deepEqual(pieces, ["日本語", "مرحبا"]);
  assert.equal(sink.finishReason, "length");
});

test("a character that a vendor cut in two is passed on whole", () => {
  const [high, low] = ["\ud83d", "\ude00"];
  const { pieces } = heard(event(`a${high}`), event(`${low}b`), event(high), event(low));
  assert.deepEqual(pieces, ["a", "😀b", "😀"]);
});

test("a model that will not answer is heard to say so", () => {
  const refusing = (refusal: string): string =>
    `data: ${JSON.stringify({ choices: [{ index: 0, delta: { content: null, refusal }, finish_reason: null }] })}\n\n`;
  assert.deepEqual(heard(refusing("I cannot "), refusing("help with that.")).pieces, ["I cannot ", "help with that."]);
});
