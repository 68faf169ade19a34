import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { parseUtcTime } from "../../src/lib/utc-time.ts";

const moments = fc.integer({ min: Date.UTC(1970, 0, 1), max: Date.UTC(2200, 0, 1) });

test("every moment is read back from its ISO form, and every date is its first moment", () => {
  fc.assert(
    fc.property(moments, (ms) => {
      const iso = new Date(ms).toISOString();
      assert.equal(parseUtcTime(iso), ms);
      assert.equal(parseUtcTime(iso.slice(0, -1)), ms);
      assert.equal(parseUtcTime(iso.slice(0, 10)), Date.parse(`${iso.slice(0, 10)}T00:00:00Z`));
    }),
  );
});

test("an offset is obeyed, and without one it is UTC wherever this machine is", () => {
  assert.equal(parseUtcTime("2026-11-23T10:30+02:00"), Date.UTC(2026, 10, 23, 8, 30));
  assert.equal(parseUtcTime("2026-11-23T10:30:15-05:30"), Date.UTC(2026, 10, 23, 16, 0, 15));
  assert.equal(parseUtcTime("2026-11-23T10:30"), Date.UTC(2026, 10, 23, 10, 30));
});

test("what names no moment is refused", () => {
  for (const text of [
    "",
    "yesterday",
    "2026",
    "2026-11",
    "2026-02-30",
    "2026-13-01",
    "2026-11-23 10:00",
    "2026-11-23T25:00Z",
    "2026-11-23T10:00 02:00",
    "1763892000000",
    "2026-11-23T10:00:00Zulu",
    " 2026-11-23",
  ])
    assert.equal(parseUtcTime(text), undefined, text);
});
