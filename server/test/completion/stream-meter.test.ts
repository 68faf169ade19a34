import assert from "node:assert/strict";
import { test } from "node:test";
import { StreamMeter } from "../../src/completion/stream-meter.ts";

const event = (data: unknown): Buffer =>
  Buffer.from(`data: ${typeof data === "string" ? data : JSON.stringify(data)}\n\n`);
const chunk = (delta: unknown, rest: object = {}): Buffer =>
  event({ id: "c", choices: [{ index: 0, delta, finish_reason: null }], usage: null, ...rest });
const metered = (...events: Buffer[]): { meter: StreamMeter; kinds: string[] } => {
  const meter = new StreamMeter();
  return { meter, kinds: events.map((bytes) => meter.read(bytes).kind) };
};

const readings: readonly [string, Buffer, string, string][] = [
  ["a role alone is no output", chunk({ role: "assistant", content: "" }), "quiet", ""],
  ["a role with a null content is no output", chunk({ role: "assistant", content: null, refusal: null }), "quiet", ""],
  ["text", chunk({ content: "日本 🎉" }), "output", "日本 🎉"],
  ["a refusal", chunk({ refusal: "I cannot" }), "output", "I cannot"],
  ["reasoning that a vendor shows", chunk({ reasoning_content: "hm" }), "output", "hm"],
  [
    "a tool call's name; its id and type are no tokens",
    chunk({ tool_calls: [{ index: 0, id: "call_1", type: "function", function: { name: "weather", arguments: "" } }] }),
    "output",
    "weather",
  ],
  [
    "a tool call's arguments",
    chunk({ tool_calls: [{ index: 0, function: { arguments: '{"a":' } }] }),
    "output",
    '{"a":',
  ],
  [
    "Magistral's content list",
    chunk({ content: [{ type: "thinking", thinking: [{ type: "text", text: "let me" }] }] }),
    "output",
    "let me",
  ],
  ["Magistral's text part", chunk({ content: [{ type: "text", text: "see" }] }), "output", "see"],
  ["an empty content list", chunk({ content: [] }), "quiet", ""],
  ["a comment", Buffer.from(": ping\n\n"), "quiet", ""],
  ["a chunk without choices", event({ id: "c" }), "quiet", ""],
  ["an empty list of choices without usage", event({ choices: [] }), "quiet", ""],
  ["a choice without a delta", event({ choices: [{ index: 0 }] }), "quiet", ""],
  ["[DONE]", event("[DONE]"), "done", ""],
  ["text that is no JSON", event('{"choices":'), "malformed", ""],
  ["null", event("null"), "malformed", ""],
  ["a number", event("7"), "malformed", ""],
  ["a choice that is no object", event({ choices: ["x"] }), "malformed", ""],
];
for (const [what, bytes, kind, text] of readings) {
  test(`a stream's event is read as ${kind}: ${what}`, () => {
    const { meter, kinds } = metered(bytes);
    assert.deepEqual(kinds, [kind]);
    assert.equal(meter.text.join(""), text);
  });
}

test("a finish is output, and the answer is whole when every choice that began has finished", () => {
  const meter = new StreamMeter();
  const choice = (index: number, finish: string | null) =>
    event({ choices: [{ index, delta: { content: "x" }, finish_reason: finish }] });
  assert.equal(meter.finished, false);
  meter.read(choice(0, null));
  meter.read(choice(1, null));
  meter.read(choice(0, "stop"));
  assert.equal(meter.finished, false);
  meter.read(choice(1, "length"));
  assert.equal(meter.finished, true);
});

test("a usage chunk of its own is told from usage that rides on output", () => {
  const usage = { prompt_tokens: 7, completion_tokens: 3, total_tokens: 10 };
  const alone = new StreamMeter().read(event({ choices: [], usage }));
  assert.ok(alone.kind === "usage" && alone.alone);
  const riding = new StreamMeter().read(
    event({ choices: [{ index: 0, delta: { content: "" }, finish_reason: "stop" }], usage }),
  );
  assert.ok(riding.kind === "usage" && !riding.alone);
  const withoutChoices = new StreamMeter().read(event({ usage }));
  assert.ok(withoutChoices.kind === "usage" && withoutChoices.alone);
});

test("the usage chunk is given as it came", () => {
  const chunkBefore = {
    id: "c",
    service_tier: "default",
    choices: [],
    usage: { prompt_tokens: 7, completion_tokens: 3, total_tokens: 10, prompt_tokens_details: { cached_tokens: 2 } },
  };
  const read = new StreamMeter().read(event(chunkBefore));
  assert.ok(read.kind === "usage");
  assert.deepEqual(read.chunk, chunkBefore);
});

test("usage that cannot be billed by does not replace one that can", () => {
  const { meter } = metered(
    event({ choices: [], usage: { prompt_tokens: 7, completion_tokens: 3 } }),
    event({ choices: [], usage: { prompt_tokens: -1 } }),
  );
  assert.equal(meter.usage?.freshInputTokens, 7);
});

test("the last usage counts when a vendor sends it with every chunk", () => {
  const running = (completion: number) =>
    event({
      choices: [{ index: 0, delta: { content: "x" } }],
      usage: { prompt_tokens: 7, completion_tokens: completion },
    });
  assert.equal(metered(running(1), running(2), running(3)).meter.usage?.outputTokens, 3);
});

const errors: readonly [unknown, string][] = [
  [{ error: { message: "overloaded", type: "server_error" } }, "overloaded"],
  [{ error: "plain words" }, "plain words"],
  [{ error: { code: 3000 } }, "no reason given"],
  [{ object: "error", error: { message: { detail: [] } } }, "no reason given"],
  [{ object: "error", message: "out of memory", type: "internal_server_error", code: 500 }, "out of memory"],
  [{ error: { message: "x".repeat(2_000) } }, "x".repeat(500)],
];
for (const [data, message] of errors) {
  test(`a vendor's error inside a stream is seen: ${JSON.stringify(data).slice(0, 60)}`, () => {
    const read = new StreamMeter().read(event(data));
    assert.ok(read.kind === "vendor-error");
    assert.equal(read.message, message);
  });
}

test("an error member that is null is no error", () => {
  assert.equal(new StreamMeter().read(chunk({ content: "x" }, { error: null })).kind, "output");
});
