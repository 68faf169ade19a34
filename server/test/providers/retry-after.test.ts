import assert from "node:assert/strict";
import { test } from "node:test";
import type { ResponseHeaders } from "../../src/providers/provider.ts";
import { readRetryAfter } from "../../src/providers/retry-after.ts";

const NOW = Date.UTC(2026, 10, 23, 12);
const table: readonly [string, ResponseHeaders, number | undefined][] = [
  ["nothing said", {}, undefined],
  ["seconds", { "retry-after": "7" }, 7_000],
  ["zero", { "retry-after": "0" }, 0],
  ["a fraction of a second", { "retry-after": "0.5" }, 500],
  ["a date to come", { "retry-after": "Mon, 23 Nov 2026 12:00:30 GMT" }, 30_000],
  ["a date that has passed", { "retry-after": "Mon, 23 Nov 2026 11:00:00 GMT" }, 0],
  ["milliseconds win over seconds", { "retry-after-ms": "250", "retry-after": "9" }, 250],
  ["unreadable milliseconds leave the seconds", { "retry-after-ms": "soon", "retry-after": "9" }, 9_000],
  ["empty milliseconds leave the seconds", { "retry-after-ms": "", "retry-after": "9" }, 9_000],
  ["negative seconds", { "retry-after": "-5" }, undefined],
  ["words", { "retry-after": "later" }, undefined],
  ["an empty text", { "retry-after": "" }, undefined],
  ["sent twice: the first", { "retry-after": ["3", "9"] }, 3_000],
];
for (const [what, headers, expected] of table) {
  test(`how long a provider asks to be left alone: ${what}`, () => {
    assert.equal(readRetryAfter(headers, NOW), expected);
  });
}
