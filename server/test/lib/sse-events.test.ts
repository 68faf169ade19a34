import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { sseData, sseEvent, SseFramer } from "../../src/lib/sse-events.ts";

const frame = (chunks: readonly Buffer[], maxEventBytes = 1_000_000): string[] => {
  const framer = new SseFramer(maxEventBytes);
  return chunks.flatMap((chunk) => framer.push(chunk)).map((event) => event.toString("utf8"));
};

function cut(bytes: Buffer, places: readonly number[]): Buffer[] {
  const sorted = [...places].map((place) => Math.min(place, bytes.length)).sort((a, b) => a - b);
  const chunks: Buffer[] = [];
  let start = 0;
  for (const place of [...sorted, bytes.length]) {
    chunks.push(bytes.subarray(start, place));
    start = place;
  }
  return chunks;
}

const lineEnd = fc.constantFrom("\n", "\r\n");
const line = fc.oneof(
  fc.string({ unit: "grapheme", maxLength: 12 }).map((text) => `data: ${text.replaceAll(/[\r\n]/g, "")}`),
  fc.constantFrom(
    "data:",
    "data",
    ": a comment",
    "event: delta",
    "id: 7",
    "retry: 10",
    'data:{"a":"é日🎉"}',
    "\uFEFFdata: x",
    " ",
  ),
);
const event = fc
  .tuple(fc.array(fc.tuple(line, lineEnd), { minLength: 1, maxLength: 4 }), lineEnd)
  .map(([lines, end]) => lines.map(([text, ending]) => text + ending).join("") + end);

test("a stream gives the same events, byte for byte, however the network cuts it", () => {
  fc.assert(
    fc.property(fc.array(event, { maxLength: 6 }), fc.array(fc.nat(400), { maxLength: 8 }), (events, places) => {
      const bytes = Buffer.from(events.join(""));
      assert.deepEqual(frame(cut(bytes, places)), events);
      assert.deepEqual(frame([...bytes].map((byte) => Buffer.from([byte]))), events);
    }),
  );
});

test("empty lines between events stand alone and belong to no event", () => {
  assert.deepEqual(frame([Buffer.from("\n\r\ndata: a\n\n\ndata: b\r\n\r\n")]), [
    "\n",
    "\r\n",
    "data: a\n\n",
    "\n",
    "data: b\r\n\r\n",
  ]);
});

test("an event that was cut off is not given out, and can be told by its bytes", () => {
  const framer = new SseFramer(100);
  assert.equal(framer.push(Buffer.from("data: a\n\ndata: b\n")).length, 1);
  assert.equal(framer.unfinishedBytes, 8);
  assert.equal(framer.push(Buffer.from("\n")).length, 1);
  assert.equal(framer.unfinishedBytes, 0);
});

test("one event may not outgrow the bound, while many events together may", () => {
  const whole = Buffer.from(`data: ${"x".repeat(40)}\n\n`);
  const framer = new SseFramer(64);
  for (let index = 0; index < 100; index++) framer.push(whole);
  framer.push(Buffer.alloc(60, "x"));
  assert.throws(() => framer.push(Buffer.alloc(10, "x")), RangeError);
});

test("a carriage return inside a line does not end it", () => {
  assert.deepEqual(frame([Buffer.from("data: a\rb\n"), Buffer.from("\r"), Buffer.from("\n")]), ["data: a\rb\n\r\n"]);
  assert.deepEqual(frame([Buffer.from("data: a\n\rx\n\n")]), ["data: a\n\rx\n\n"]);
});

const data: readonly [string, string, string | undefined][] = [
  ["one line", "data: text\n\n", "text"],
  ["no space behind the colon", "data:text\n\n", "text"],
  ["only the first space goes", "data:  text\n\n", " text"],
  ["CRLF", "data: text\r\n\r\n", "text"],
  ["several data lines are joined by a newline", "data: a\r\ndata:b\n\n", "a\nb"],
  ["other fields and comments say nothing", ": hello\nevent: delta\nid: 1\ndata: text\n\n", "text"],
  ["the mark at the stream's start is none of the data", "\uFEFFdata: text\n\n", "text"],
  ["empty data is data", "data:\n\n", ""],
  ["a comment has none", ": ping\n\n", undefined],
  ["a blank line has none", "\n", undefined],
  ["a field that only begins like data has none", "database: x\n\n", undefined],
  ["multi-byte text", "data: é日本🎉\n\n", "é日本🎉"],
];
for (const [what, bytes, expected] of data) {
  test(`an event's data is read: ${what}`, () => {
    assert.equal(sseData(Buffer.from(bytes)), expected);
  });
}

test("what is written as an event is one event and reads as the same value", () => {
  fc.assert(
    fc.property(fc.jsonValue(), (value) => {
      const bytes = sseEvent(value);
      assert.equal(frame([bytes]).length, 1);
      assert.equal(sseData(bytes), JSON.stringify(value));
    }),
  );
});
