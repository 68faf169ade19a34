import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import type { Conversation, TurnResult } from "../../src/conversations/conversation.ts";
import { openTranscript } from "../../src/conversations/transcript.ts";
import { BEFORE_ALL, eventsAfter, placeOf, type TranscriptEvent } from "../../src/conversations/transcript-events.ts";
import { ZERO_USD } from "../../src/lib/money.ts";

const result: TurnResult = {
  outcome: "completed",
  inputTokens: 1,
  outputTokens: 1,
  cost: ZERO_USD,
  latencyMs: 1,
  timeToFirstTokenMs: 1,
  attempts: 1,
  failedAttempts: [],
  routeReason: "policy mistral",
  fallback: false,
  simulated: true,
  finishReason: "stop",
  clampedMaxTokens: undefined,
  error: undefined,
};

/** Every state that a conversation of these turns passes through, told in these pieces. */
function statesOf(turns: readonly (readonly string[])[]): readonly Conversation[] {
  const transcript = openTranscript({
    id: "run",
    kind: "panel",
    requestId: "req",
    opening: "Hello",
    agents: [],
    plannedTurns: turns.length,
    startedAtMs: 0,
  });
  const states = [transcript.now];
  const note = (): void => void states.push(transcript.now);
  const served = { provider: "p", model: "m" };
  for (const [at, pieces] of turns.entries()) {
    const index = at + 1;
    transcript.begin({ index, round: 1, agent: "a", language: "ja", requestId: `req.t${index}`, ...served });
    note();
    for (const piece of pieces) {
      transcript.say(piece);
      note();
    }
    transcript.finish(served, result);
    note();
  }
  transcript.end({ ended: "max_turns", atMs: 1, error: undefined });
  note();
  return states;
}

const textOf = (events: readonly TranscriptEvent[]): string =>
  events.map((event) => (event.kind === "turn-delta" ? `${event.turn.index}:${event.text}` : "")).join("");

test("a reader that leaves after any event and comes back by its id at any time gets every event and every character exactly once", () => {
  const pieces = fc.array(fc.array(fc.string({ minLength: 1, maxLength: 5, unit: "grapheme" }), { maxLength: 4 }), {
    minLength: 1,
    maxLength: 4,
  });
  fc.assert(
    fc.property(pieces, fc.infiniteStream(fc.nat(6)), (turns, steps) => {
      const states = statesOf(turns);
      const got: TranscriptEvent[] = [];
      let lastId: string | undefined;
      let at = 0;
      for (;;) {
        at = Math.min(states.length - 1, at + 1 + steps.next().value);
        const place = lastId === undefined ? BEFORE_ALL : placeOf(lastId)!;
        const { events } = eventsAfter(states[at]!, place);
        // It leaves in the middle of what it could have had.
        const taken = at === states.length - 1 ? events : events.slice(0, steps.next().value);
        got.push(...taken);
        lastId = taken.at(-1)?.id ?? lastId;
        if (lastId === "end") break;
      }
      const ids = got.map(({ id, kind }) => `${kind} ${id}`);
      assert.equal(new Set(ids).size, ids.length);
      for (const [index, said] of turns.entries()) {
        const own = got.filter((event) => "turn" in event && event.turn.index === index + 1);
        assert.equal(own[0]?.kind, "turn-started");
        assert.equal(own.at(-1)?.kind, "turn-finished");
        assert.equal(own.map((event) => (event.kind === "turn-delta" ? event.text : "")).join(""), said.join(""));
      }
      assert.deepEqual([got[0]?.kind, got.at(-1)?.kind], ["run-started", "run-ended"]);
    }),
  );
});

test("a reader who is told in one go and one who is told piece by piece are told the same", () => {
  const states = statesOf([["こん", "にちは"], ["مرحبا"]]);
  let place = BEFORE_ALL;
  let text = "";
  for (const state of states) {
    const next = eventsAfter(state, place);
    ({ place } = next);
    text += textOf(next.events).replace(/\d:/g, "");
  }
  assert.equal(text, "こんにちはمرحبا");
  assert.equal(textOf(eventsAfter(states.at(-1)!, BEFORE_ALL).events), "1:こんにちは2:مرحبا");
  assert.deepEqual(eventsAfter(states.at(-1)!, placeOf("end")!).events, []);
});

test("after a place that its server took with it, as the turn was never written down, comes the end", () => {
  const states = statesOf([["one"]]);
  const { events } = eventsAfter(states.at(-1)!, placeOf("2.7")!);
  assert.deepEqual(
    events.map(({ kind }) => kind),
    ["run-ended"],
  );
});

test("what is no id of these events is told apart", () => {
  for (const id of ["", "x", "1", "0.0", "1.", "1.x", "1.end2", "-1.0", "100.0", "1.1234567", "end ", "01.2"])
    assert.equal(placeOf(id), undefined, id);
});
