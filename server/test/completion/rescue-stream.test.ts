import assert from "node:assert/strict";
import { test } from "node:test";
import { setTimeout as pause } from "node:timers/promises";
import { BrikkError } from "../../src/errors.ts";
import { coded, eventually } from "../ledger/ledger-fixture.ts";
import {
  answerStream,
  breakStream,
  chunksOf,
  costsOf,
  delta,
  DONE,
  hang,
  inTurn,
  openSse,
  type Play,
  playedPath,
  type PlayedProvider,
  playProvider,
  refuse,
  usageChunk,
} from "./played-providers.ts";

const CONTINUE = { stream: true, rescue: "continue" } as const;
const RESTART = { stream: true, rescue: "restart" } as const;
const counts = (...providers: readonly PlayedProvider[]): number[] => providers.map(({ bodies }) => bodies.length);
const messagesOf = ({ bodies }: PlayedProvider, turn = 1): unknown[] => bodies[turn - 1]!["messages"] as unknown[];
const marksOf = (sse: string): unknown[] => chunksOf(sse).flatMap(({ brikk }) => (brikk === undefined ? [] : [brikk]));
const costIn = (sse: string): number | undefined =>
  chunksOf(sse)
    .map(({ usage }) => (usage as { cost_usd?: number } | null | undefined)?.cost_usd)
    .findLast((cost) => cost !== undefined);
const left = (): BrikkError => new BrikkError("client_closed_request", "The caller left.");

for (const [what, texts] of [
  ["goes on at once", [", ", "world", "!"]],
  ["says all of it again first", ["Hello", ", ", "world", "!"]],
  ["says it again in small pieces first", ["He", "ll", "o", ", world!"]],
  ["says it again and goes on in one piece", ["Hello, world!"]],
] as const) {
  test(`continue: the caller sees one whole stream when whoever takes over ${what}`, async (t) => {
    const a = await playProvider(t, "a", breakStream(["Hel", "lo"], "chat-a"));
    const b = await playProvider(t, "b", answerStream(texts, "chat-b", [20, 4]), { continuation: "prefix" });
    const { ask } = await playedPath(t, [a, b]);
    const { error, text, sse, row } = await ask(CONTINUE);
    assert.equal(error, undefined);
    assert.equal(text, "Hello, world!");
    assert.ok(sse.endsWith(DONE));
    assert.deepEqual([...new Set(chunksOf(sse).map(({ id }) => id))], ["chat-a"]);
    const mark = { rescue: "continue", served_by: ["a/a-model", "b/b-model"] };
    assert.deepEqual(marksOf(sse), [mark, mark]);
    assert.deepEqual(messagesOf(b).slice(1), [{ role: "assistant", content: "Hello", prefix: true }]);
    assert.deepEqual(
      [row["outcome"], row["provider"], row["rescue"], row["attempts"], row["fallback"]],
      ["completed", "b", "continue", 2n, 1n],
    );
    const [cost, earlier] = costsOf(row) as [bigint, bigint];
    assert.equal(cost, earlier + 24n);
    assert.equal(costIn(sse), Number(cost) / 1e9);
    const usage = chunksOf(sse).at(-1)!["usage"] as Record<string, number>;
    assert.equal(usage["total_tokens"], Number(cost));
    assert.equal(usage["total_tokens"], usage["prompt_tokens"]! + usage["completion_tokens"]!);
  });
}

test("continue: a model that takes no prefix is told to go on", async (t) => {
  const a = await playProvider(t, "a", breakStream(["Hello"]));
  const b = await playProvider(t, "b", answerStream([" world"]));
  const { ask } = await playedPath(t, [a, b]);
  assert.equal((await ask(CONTINUE)).text, "Hello world");
  const [, said, instruction] = messagesOf(b) as { role: string; content: string }[];
  assert.deepEqual(said, { role: "assistant", content: "Hello" });
  assert.equal(instruction!.role, "user");
});

test("continue: what only looked like a repetition is the caller's all the same", async (t) => {
  for (const texts of [["Hell", "ish!"], ["Hel"]]) {
    const a = await playProvider(t, "a", breakStream(["Hello"]));
    const b = await playProvider(t, "b", answerStream(texts));
    const { ask } = await playedPath(t, [a, b]);
    assert.equal((await ask(CONTINUE)).text, `Hello${texts.join("")}`);
  }
});

test("continue: the caller's limit holds for the whole answer, and one that is used up is not gone on with", async (t) => {
  const a = await playProvider(t, "a", breakStream(["one two three four"]));
  const b = await playProvider(t, "b", answerStream([" five"]));
  const { ask } = await playedPath(t, [a, b]);
  await ask({ ...CONTINUE, body: { max_tokens: 10 } });
  assert.equal(b.bodies[0]!["max_tokens"], 6);
  const { row, error } = await ask({ ...CONTINUE, body: { max_tokens: 4 } });
  assert.ok(coded("provider_error")(error));
  assert.deepEqual([row["outcome"], counts(a, b)], ["truncated", [2, 1]]);
});

test("continue: what was cut is charged by what it was asked and said, not by what its successor was asked", async (t) => {
  const long = "word ".repeat(200).trim();
  const cut = breakStream([long]);
  const alone = await playProvider(t, "alone", cut);
  const plain = await (await playedPath(t, [alone])).ask({ stream: true, body: { max_tokens: 1_000 } });
  assert.equal(plain.row["outcome"], "truncated");
  const a = await playProvider(t, "a", cut);
  const b = await playProvider(t, "b", answerStream(["."]));
  const { row } = await (await playedPath(t, [a, b])).ask({ ...CONTINUE, body: { max_tokens: 1_000 } });
  assert.equal(row["outcome"], "completed");
  assert.equal(row["earlier_cost_nano_usd"], plain.row["cost_nano_usd"]);
});

test("continue: a second cut in the middle of a repetition is gone on with from what the caller has", async (t) => {
  const a = await playProvider(t, "a", breakStream(["Hello world"]), { continuation: "prefix" });
  const b = await playProvider(t, "b", breakStream(["Hello"]), { continuation: "prefix" });
  const c = await playProvider(t, "c", answerStream(["!"]), { continuation: "prefix" });
  const { ask } = await playedPath(t, [a, b, c], { maxRetries: 2 });
  const { text, row } = await ask(CONTINUE);
  const asked = [
    ...(b.bodies.length > 0 ? [messagesOf(b)] : []),
    ...c.bodies.map((_, turn) => messagesOf(c, turn + 1)),
  ];
  for (const messages of asked)
    assert.deepEqual(messages.at(-1), { role: "assistant", content: "Hello world", prefix: true });
  assert.equal(text, "Hello world!");
  assert.equal(row["outcome"], "completed");
});

test("continue: what stood behind a fault and was not passed on is not taken for said", async (t) => {
  const faulty: Play = ({ response }) => {
    openSse(response);
    response.end(`${delta("one")}data: {"cut\n\n${delta(" two")}`);
  };
  const a = await playProvider(t, "a", faulty);
  const b = await playProvider(t, "b", answerStream([" two three"]), { continuation: "prefix" });
  const { ask } = await playedPath(t, [a, b]);
  const { text } = await ask(CONTINUE);
  assert.deepEqual(messagesOf(b).at(-1), { role: "assistant", content: "one", prefix: true });
  assert.equal(text, "one two three");
});

test("restart: the caller is told that what came is void, and gets the whole answer after it under the same id", async (t) => {
  const a = await playProvider(t, "a", breakStream(["Hel"], "chat-a"));
  const b = await playProvider(t, "b", answerStream(["Good day."], "chat-b"));
  const { ask } = await playedPath(t, [a, b]);
  const { sse, text, row } = await ask(RESTART);
  assert.equal(text, "HelGood day.");
  const chunks = chunksOf(sse);
  const notice = chunks.findIndex(({ choices, usage }) => (choices as unknown[]).length === 0 && usage == null);
  assert.deepEqual(chunks[notice]!["brikk"], { rescue: "restart", served_by: ["a/a-model", "b/b-model"] });
  assert.deepEqual([...new Set(chunks.map(({ id }) => id))], ["chat-a"]);
  assert.equal(messagesOf(b).length, 1);
  assert.deepEqual([row["outcome"], row["rescue"]], ["completed", "restart"]);
});

test("restart begins anew also where tool calls were on their way; continue does not go on with those", async (t) => {
  const calling: Play = ({ response }) => {
    openSse(response);
    const tool = { index: 0, id: "call_1", type: "function", function: { name: "weather", arguments: '{"ci' } };
    response.write(
      `data: ${JSON.stringify({ id: "x", choices: [{ index: 0, delta: { tool_calls: [tool] }, finish_reason: null }] })}\n\n`,
      () => setImmediate(() => response.destroy()),
    );
  };
  for (const [mode, outcome, asked] of [
    [CONTINUE, "truncated", [1, 0]],
    [RESTART, "completed", [1, 1]],
  ] as const) {
    const a = await playProvider(t, "a", calling);
    const b = await playProvider(t, "b", answerStream(["It rains."]));
    const { row } = await (await playedPath(t, [a, b])).ask(mode);
    assert.deepEqual([row["outcome"], counts(a, b)], [outcome, asked]);
  }
});

test("without the caller's wish, and for a stream that is finished, nobody takes over", async (t) => {
  const finished: Play = ({ response }) => {
    openSse(response);
    response.write(delta("Hi") + delta("", "chat-1", "stop"), () => setImmediate(() => response.destroy()));
  };
  for (const [play, options] of [
    [breakStream(["Hel"]), { stream: true }],
    [finished, CONTINUE],
    [finished, RESTART],
  ] as const) {
    const a = await playProvider(t, "a", play);
    const b = await playProvider(t, "b", answerStream(["x"]));
    const { row, sse, error } = await (await playedPath(t, [a, b])).ask(options);
    assert.deepEqual([row["outcome"], row["rescue"], counts(a, b)], ["truncated", null, [1, 0]]);
    assert.ok(coded("provider_error")(error) && !sse.includes("[DONE]"));
  }
});

test("where the budget does not pay for another answer the stream ends as without a rescue", async (t) => {
  const rows = [];
  for (const [name, options] of [
    ["plain", { stream: true }],
    ["rescue", CONTINUE],
  ] as const) {
    const a = await playProvider(t, "a", breakStream(["Hello"]));
    const b = await playProvider(t, "b", answerStream([" world"]));
    const { row, error } = await (await playedPath(t, [a, b])).ask({ ...options, hardCap: 300n });
    assert.ok(coded("provider_error")(error), name);
    assert.deepEqual(counts(a, b), [1, 0]);
    rows.push([row["outcome"], row["provider"], row["attempts"], row["rescue"], ...costsOf(row)]);
  }
  assert.deepEqual(rows[1], rows[0]);
});

test("a rescue that fails leaves a row about the one who spoke, and charges what the others may be billed for", async (t) => {
  const empty: Play = ({ response }) => void response.writeHead(200).end(DONE);
  for (const [play, billed] of [
    [refuse(503), false],
    [empty, true],
  ] as const) {
    const a = await playProvider(t, "a", inTurn(breakStream(["Hello"]), refuse(401)));
    const b = await playProvider(t, "b", play, { perToken: 1_000n });
    const { ask } = await playedPath(t, [a, b]);
    const { row, error, sse } = await ask({ ...CONTINUE, hardCap: 10_000_000n });
    assert.ok(error && !sse.includes("[DONE]"));
    assert.deepEqual([row["outcome"], row["provider"], row["fallback"], row["rescue"]], ["truncated", "a", 0n, null]);
    const [cost, earlier] = costsOf(row) as [bigint, bigint];
    const tokens = (row["fresh_input_tokens"] as bigint) + (row["output_tokens"] as bigint);
    assert.equal(cost, earlier + tokens);
    assert.equal(earlier >= 1_000n, billed);
  }
});

test("whoever cannot take over is followed by the next one at once, not asked again first", async (t) => {
  for (const play of [refuse(503), refuse(400), refuse(429, { "retry-after": "60" })]) {
    const a = await playProvider(t, "a", breakStream(["Hello"]));
    const b = await playProvider(t, "b", play);
    const c = await playProvider(t, "c", answerStream([" world"]));
    const { ask } = await playedPath(t, [a, b, c], { maxRetries: 3 });
    const { text, row } = await ask(CONTINUE);
    assert.deepEqual([text, row["provider"], counts(a, b, c)], ["Hello world", "c", [1, 1, 1]]);
  }
});

test("where nobody else is there, whoever broke off is asked to go on", async (t) => {
  const a = await playProvider(t, "a", inTurn(breakStream(["Hello"]), answerStream([" world"])));
  const { ask } = await playedPath(t, [a], { maxRetries: 1 });
  const { text, row } = await ask(CONTINUE);
  assert.deepEqual([text, row["outcome"], row["attempts"]], ["Hello world", "completed", 2n]);
});

test("a caller who leaves while somebody takes over is charged for both, once each", async (t) => {
  const a = await playProvider(t, "a", breakStream(["Hello"]), { perToken: 1_000n });
  const b = await playProvider(t, "b", hang, { perToken: 1n });
  const { ask } = await playedPath(t, [a, b]);
  const controller = new AbortController();
  const asking = ask({ ...CONTINUE, controller, hardCap: 1_000_000_000n });
  await eventually(() => b.bodies.length === 1);
  await pause(30);
  controller.abort(left());
  const { row } = await asking;
  await eventually(() => b.hungUp === 1);
  const [cost, earlier] = costsOf(row) as [bigint, bigint];
  assert.equal(row["outcome"], "cancelled");
  // Once a thousand a token for who spoke, once one for who was at it; whichever of them the row is about.
  assert.ok(earlier > 0n && cost > earlier);
  assert.ok(cost % 1_000n > 0n && cost >= 1_000n);
});

test("a deadline that passes while somebody takes over is told in the stream", async (t) => {
  const a = await playProvider(t, "a", breakStream(["Hello"]));
  const b = await playProvider(t, "b", hang);
  const { ask } = await playedPath(t, [a, b]);
  const controller = new AbortController();
  const asking = ask({ ...CONTINUE, controller });
  await eventually(() => b.bodies.length === 1);
  controller.abort(new BrikkError("deadline_exceeded", "Too long."));
  const { row, error } = await asking;
  assert.ok(coded("deadline_exceeded")(error));
  assert.equal(row["outcome"], "truncated");
});

test("a stream that breaks again and again is gone on with as often as the attempts allow, and every piece is charged", async (t) => {
  const a = await playProvider(t, "a", inTurn(breakStream(["1"]), breakStream(["3"]), breakStream(["5"])));
  const b = await playProvider(t, "b", inTurn(breakStream(["2"]), breakStream(["4"]), answerStream(["x"])));
  const { ask } = await playedPath(t, [a, b], { maxRetries: 3 });
  const { text, row, sse } = await ask(CONTINUE);
  assert.deepEqual([text, row["outcome"], row["attempts"]], ["12345", "truncated", 5n]);
  assert.ok(!sse.includes("[DONE]"));
  const [cost, earlier] = costsOf(row) as [bigint, bigint];
  assert.ok(earlier > 0n && cost > earlier);
});

test("the exact count of whoever takes over is not mixed up with the estimate of who was cut", async (t) => {
  const counted: Play = ({ response }) => {
    openSse(response);
    response.write(delta("Hello") + usageChunk(50, 2), () => setImmediate(() => response.destroy()));
  };
  const a = await playProvider(t, "a", counted);
  const b = await playProvider(t, "b", answerStream([" world"], "chat-b", [70, 3]));
  const { ask } = await playedPath(t, [a, b]);
  const { row } = await ask(CONTINUE);
  assert.deepEqual([row["outcome"], ...costsOf(row)], ["completed", 52n + 73n, 52n]);
});
