import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { eventTexts } from "../../src/cli/event-text.ts";
import type { ExportedEvent } from "../../src/ledger/usage-export.ts";
import { eventRow } from "../ledger/ledger-rows.ts";

const { csv, jsonl } = eventTexts;
const exported = (row: Partial<ExportedEvent>): ExportedEvent => ({ key_name: "demo", ...eventRow(row), ...row });

/** RFC 4180, read strictly: a quote stands only around a cell or doubled within one. */
function parseCsv(text: string): string[][] {
  const rows: string[][] = [];
  let row: string[] = [];
  const cell = /(?:"((?:[^"]|"")*)"|([^",\r\n]*))(,|\r\n)/y;
  while (cell.lastIndex < text.length) {
    const match = cell.exec(text);
    assert.ok(match, `not CSV: ${JSON.stringify(text)}`);
    row.push(match[1]?.replaceAll('""', '"') ?? match[2] ?? "");
    if (match[3] === "\r\n") {
      rows.push(row);
      row = [];
    }
  }
  return rows;
}

const asRecord = (event: ExportedEvent): Record<string, string> => {
  const [names = [], cells = [], ...more] = parseCsv(csv.head + csv.line(event));
  assert.deepEqual([more, cells.length], [[], names.length]);
  return Object.fromEntries(names.map((name, index) => [name, cells[index] ?? ""]));
};

const hostile = fc.oneof(
  fc.string({ unit: fc.constantFrom('"', ",", "\r", "\n", "=", "+", "-", "@", "\t", "a", "'", ";", "ä") }),
  fc.string(),
);

test("whatever callers write, a CSV row is one row, reads back as it was, and no cell begins a formula", () => {
  fc.assert(
    fc.property(hostile, hostile, hostile, (model, requestId, name) => {
      const record = asRecord(exported({ requested_model: model, request_id: requestId, key_name: name }));
      const texts = { requested_model: model, request_id: requestId, key_name: name };
      for (const [column, text] of Object.entries(texts)) {
        const cell = record[column] ?? "";
        assert.ok(cell === text || cell === `'${text}`);
        assert.doesNotMatch(cell, /^[=+\-@\t\r\n]/);
        assert.equal(cell !== text, /^[=+\-@\t\r\n＝＋－＠]/.test(text));
      }
    }),
  );
});

test("a JSON line is one line and reads back as it was", () => {
  fc.assert(
    fc.property(hostile, (model) => {
      const line = jsonl.line(exported({ requested_model: model }));
      assert.equal(line.indexOf("\n"), line.length - 1);
      assert.equal((JSON.parse(line) as { requested_model: string }).requested_model, model);
    }),
  );
});

test("both forms have the same columns, with exact amounts and UTC times", () => {
  const event = exported({ cost_nano_usd: 9_007_199_254_740_993n, occurred_at_ms: 1_795_392_000_001n, provider: null });
  const record = asRecord(event);
  const line = jsonl.line(event);
  assert.deepEqual(Object.keys(record), Object.keys(JSON.parse(line) as object));
  assert.deepEqual(
    [record["cost_usd"], record["cost_nano_usd"], record["occurred_at"], record["provider"], record["stream"]],
    ["9007199.254740993", "9007199254740993", "2026-11-23T00:00:00.001Z", "", "false"],
  );
  assert.ok(line.includes('"cost_usd":"9007199.254740993","cost_nano_usd":9007199254740993,'));
  assert.ok(line.includes('"provider":null,'));
});
