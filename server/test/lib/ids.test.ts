import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import {
  formatTraceparent,
  isSaneRequestId,
  newKeyId,
  newRequestId,
  newTraceContext,
  parseTraceparent,
  randomBase62,
  toBase62,
  uuidv7,
} from "../../src/lib/ids.ts";

const DIGITS = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

test("key ids and request ids have the promised form", () => {
  assert.match(newKeyId(), /^bk_[0-9A-Za-z]{12}$/);
  assert.match(newRequestId(), /^req_[0-9A-Za-z]{24}$/);
  assert.ok(isSaneRequestId(newRequestId()));
});

test("every base62 character is equally likely", () => {
  const draws = 620_000;
  const counts = new Map<string, number>();
  for (const character of randomBase62(draws)) counts.set(character, (counts.get(character) ?? 0) + 1);
  assert.equal(counts.size, 62);
  const expected = draws / 62;
  const chiSquare = [...counts.values()].reduce((sum, count) => sum + (count - expected) ** 2 / expected, 0);
  // 61 degrees of freedom: above 160 by chance once in 10^10 runs. Taking bytes modulo 62 gives about 900.
  assert.ok(chiSquare < 160, `chi-square ${chiSquare}`);
});

test("ids do not repeat, however the pool of random bytes is consumed", () => {
  const ids = new Set<string>();
  for (let n = 0; n < 20_000; n += 1) ids.add(newKeyId()).add(newRequestId()).add(uuidv7());
  assert.equal(ids.size, 60_000);
});

test("toBase62 is positional notation, filled up with zeros", () => {
  fc.assert(
    fc.property(fc.integer({ min: 0, max: 0xffff_ffff }), (value) => {
      const text = toBase62(value, 6);
      assert.equal(text.length, 6);
      assert.equal(
        [...text].reduce((sum, digit) => sum * 62 + DIGITS.indexOf(digit), 0),
        value,
      );
    }),
  );
});

test("UUIDs are of version 7 and variant 10, and carry their time", () => {
  const farAhead = Date.UTC(2040, 0, 1);
  const uuid = uuidv7(farAhead);
  assert.match(uuid, /^[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/);
  assert.equal(Number.parseInt(uuid.slice(0, 13).replace("-", ""), 16), farAhead);
});

test("UUIDs of one process sort as made: in one millisecond, past the counter's end, and while the clock steps back", () => {
  const times = fc.array(fc.integer({ min: Date.UTC(2041, 0, 1), max: Date.UTC(2041, 0, 1) + 5 }), {
    minLength: 1,
    maxLength: 200,
  });
  fc.assert(
    fc.property(times, (clock) => {
      const made = clock.map((ms) => uuidv7(ms));
      assert.deepEqual(made, [...made].sort());
    }),
  );
  const sameMs = Array.from({ length: 10_000 }, () => uuidv7(0));
  assert.deepEqual(sameMs, [...sameMs].sort());
  assert.equal(new Set(sameMs).size, sameMs.length);
});

test("request ids that could harm a header, a log or a URL are not kept", () => {
  for (const sane of ["a", "req_1", "trace:1.2-3", "x".repeat(128)]) assert.ok(isSaneRequestId(sane), sane);
  for (const unfit of ["", "x".repeat(129), "a b", "a\nb", "a\n", "a/b", "ü", "<script>", '"'])
    assert.ok(!isSaneRequestId(unfit), unfit);
});

const hex = (length: number) =>
  fc.string({ unit: fc.constantFrom(...Array.from("0123456789abcdef")), minLength: length, maxLength: length });

test("a traceparent that is formatted can be read back", () => {
  fc.assert(
    fc.property(hex(32), hex(16), fc.boolean(), (traceId, spanId, sampled) => {
      fc.pre(!/^0+$/.test(traceId) && !/^0+$/.test(spanId));
      assert.deepEqual(parseTraceparent(formatTraceparent({ traceId, spanId, sampled })), { traceId, spanId, sampled });
    }),
  );
});

test("traceparents are read as W3C Trace Context says, later versions and other flags included", () => {
  const trace = "4bf92f3577b34da6a3ce929d0e0e4736";
  const span = "00f067aa0ba902b7";
  const context = { traceId: trace, spanId: span, sampled: true };
  assert.deepEqual(parseTraceparent(` 00-${trace}-${span}-03 `), context);
  assert.deepEqual(parseTraceparent(`01-${trace}-${span}-01-what-comes-later`), context);
  const wrong = [
    "",
    "nonsense",
    `ff-${trace}-${span}-01`,
    `00-${trace}-${span}-01-more`,
    `01-${trace}-${span}-01more`,
    `00-${"0".repeat(32)}-${span}-01`,
    `00-${trace}-${"0".repeat(16)}-01`,
    `00-${trace.toUpperCase()}-${span}-01`,
    `00-${trace}-${span}`,
    `00-${trace.slice(1)}-${span}-01`,
  ];
  for (const header of wrong) assert.equal(parseTraceparent(header), undefined, header);
});

test("a new span stays in its parent's trace and keeps its sampling; without a parent it starts an unrecorded trace", () => {
  const parent = { ...newTraceContext(), sampled: true };
  const child = newTraceContext(parent);
  assert.equal(child.traceId, parent.traceId);
  assert.notEqual(child.spanId, parent.spanId);
  assert.equal(child.sampled, true);
  const root = newTraceContext();
  assert.equal(root.sampled, false);
  assert.deepEqual(parseTraceparent(formatTraceparent(root)), root);
});
