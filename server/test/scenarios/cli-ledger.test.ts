import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { test, type TestContext } from "node:test";
import { fileURLToPath } from "node:url";
import { createKeyStore } from "../../src/access/key-store.ts";
import { raiseEventsFrom } from "../../src/ledger/events-from.ts";
import { systemClock } from "../../src/lib/clock.ts";
import { lockInstance } from "../../src/storage/instance-lock.ts";
import { openDatabase } from "../../src/storage/open-database.ts";
import { addDayWindows, DAY_MS, MONDAY_MS, rollUpEvents, seedEvents } from "../ledger/ledger-rows.ts";
import { sourceUrl } from "../storage/scratch.ts";
import { brikkOnScratch, printed } from "./brikk-command.ts";

const EVENTS = 2_500;
const RANGE = ["--from", "2026-11-23", "--to", "2026-11-25"] as const;

/** Two days of events of a key and another, while a server holds the lock. */
async function running(t: TestContext) {
  const command = brikkOnScratch(t);
  const lock = lockInstance(command.path);
  t.after(() => lock.release());
  const database = await openDatabase({ url: command.url });
  t.after(() => database.close());
  const { key } = await createKeyStore({ database, clock: systemClock }).create({ name: "=demo" });
  await seedEvents(database, {
    count: EVENTS,
    fromMs: MONDAY_MS,
    stepMs: Math.floor((2 * DAY_MS) / EVENTS),
    keyIds: [key.id, "bk_other0000001"],
  });
  await rollUpEvents(database);
  await addDayWindows(database);
  return { ...command, database, keyId: key.id };
}

test("ledger verify says in short what it proved, in words and in JSON, while a server runs", async (t) => {
  const { brikk } = await running(t);
  const { code, stdout, stderr } = await brikk("ledger", "verify");
  assert.deepEqual([code, stderr], [0, ""]);
  assert.match(stdout, /^The ledger holds\.\n/);
  assert.match(stdout, /Budget windows +4, with 0 leases\n/);
  assert.match(stdout, /Usage events +2500\n/);
  const verified = await printed<Record<string, unknown>>(brikk("ledger", "verify", "--json"));
  assert.deepEqual(
    [verified["ok"], verified["events"], verified["faults"], verified["written_off_usd"]],
    [true, EVENTS, [], "0"],
  );
});

test("ledger verify ends with 1 and names each faulty row with what was found and what should be there", async (t) => {
  const { brikk, database, keyId } = await running(t);
  await database.transact([
    {
      sql: "update budget_windows set spent_nano_usd = spent_nano_usd + 1 where scope_id = ? and window_start_ms = ?",
      params: [keyId, MONDAY_MS],
    },
    { sql: "delete from usage_hourly where key_id = ? and hour_start_ms = ?", params: ["bk_other0000001", MONDAY_MS] },
  ]);
  const { code, stdout, stderr } = await brikk("ledger", "verify");
  assert.deepEqual([code, stderr], [1, ""]);
  assert.match(stdout, /^The ledger does not hold: \d+ faulty rows\.\n/);
  const amount = "0\\.\\d+ USD";
  assert.match(
    stdout,
    new RegExp(
      `\\n  window-spent: budget_id ${keyId}/day, window_start 2026-11-23T00:00:00\\.000Z: spent is ${amount}, its hours and write-offs give ${amount}\\n`,
    ),
  );
  assert.match(stdout, /\n {2}hour: hour_start 2026-11-23T00:00:00\.000Z, key_id bk_other0000001, .*: requests is 0, /);
  const json = await brikk("ledger", "verify", "--json");
  assert.equal(json.code, 1);
  const { ok, faulty_rows: rows, faults } = JSON.parse(json.stdout) as Record<string, unknown>;
  assert.equal(ok, false);
  assert.equal(rows, (faults as unknown[]).length);
  const [first] = faults as { rule: string; row: object; figures: Record<string, string>[] }[];
  assert.equal(first?.rule, "window-spent");
  assert.deepEqual(Object.keys(first.figures[0] ?? {}), ["name", "found", "expected"]);
});

interface Line {
  readonly event_id: string;
  readonly key_id: string;
  readonly key_name: string | null;
  readonly cost_nano_usd: number;
}

const linesOf = (stdout: string): Line[] =>
  stdout
    .trimEnd()
    .split("\n")
    .map((line) => JSON.parse(line) as Line);

test("ledger export writes the events of its range, all keys or one, in the order of time, while a server runs", async (t) => {
  const { brikk, database, keyId } = await running(t);
  const all = await brikk("ledger", "export", ...RANGE, "--format", "jsonl");
  assert.deepEqual([all.code, all.stderr], [0, ""]);
  const rows = await database.all({
    sql: "select event_id, cost_nano_usd from usage_events order by occurred_at_ms, event_id",
    params: [],
  });
  assert.deepEqual(
    linesOf(all.stdout).map(({ event_id: id, cost_nano_usd: cost }) => [id, cost]),
    rows.map((row) => [row["event_id"], Number(row["cost_nano_usd"])]),
  );
  const own = linesOf((await brikk("ledger", "export", ...RANGE, "--format", "jsonl", "--key", keyId)).stdout);
  assert.equal(own.length, EVENTS / 2);
  assert.ok(own.every((line) => line.key_id === keyId && line.key_name === "=demo"));
  const csv = (await brikk("ledger", "export", ...RANGE, "--format", "csv", "--key", keyId)).stdout.split("\r\n");
  assert.equal(csv.length, 1 + EVENTS / 2 + 1);
  assert.match(csv[0] ?? "", /^event_id,request_id,key_id,key_name,occurred_at,/);
  assert.match(csv[1] ?? "", /^00000000-0000-7000-8000-000000000000,req_0,bk_\w{12},'=demo,2026-11-23T00:00:00\.000Z,/);
  const none = await brikk("ledger", "export", "--from", "2026-12-01", "--to", "2026-12-02", "--format", "jsonl");
  assert.deepEqual([none.code, none.stdout, none.stderr], [0, "", ""]);
});

test("ledger export begins where retention left off and says so", async (t) => {
  const { brikk, database } = await running(t);
  await database.transact([raiseEventsFrom(MONDAY_MS + DAY_MS)]);
  const { code, stdout, stderr } = await brikk("ledger", "export", ...RANGE, "--format", "jsonl");
  assert.equal(code, 0);
  assert.equal(linesOf(stdout).length, EVENTS / 2);
  assert.match(stderr, /^Events before 2026-11-24T00:00:00\.000Z were deleted, [^\n]*\n$/);
});

test("a reader of an export who has seen enough ends it quietly", async (t) => {
  // More than a pipe holds, so that the export is still writing when the reader goes.
  const { url, keyId } = await running(t);
  const cli = fileURLToPath(sourceUrl("cli.ts"));
  const line = `"${process.execPath}" "${cli}" ledger export ${RANGE.join(" ")} --format csv --key ${keyId}; echo "code $?" >&2`;
  const child = spawn("sh", ["-c", `(${line}) | head -n 2`], {
    env: { PATH: process.env["PATH"], DATABASE_URL: url },
  });
  let stdout = "";
  let stderr = "";
  child.stdout.setEncoding("utf8").on("data", (text: string) => (stdout += text));
  child.stderr.setEncoding("utf8").on("data", (text: string) => (stderr += text));
  await new Promise((resolve) => child.on("close", resolve));
  assert.equal(stdout.split("\r\n").length, 3);
  assert.equal(stderr, "code 0\n");
});
