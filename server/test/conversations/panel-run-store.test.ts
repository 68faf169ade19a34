import assert from "node:assert/strict";
import { test } from "node:test";
import type { Conversation, Turn } from "../../src/conversations/conversation.ts";
import { createPanelRunStore, RUN_DAYS, RUNS_IN_ALL, RUNS_PER_KEY } from "../../src/conversations/panel-run-store.ts";
import { DAY_MS } from "../../src/lib/clock.ts";
import { nanoUsd } from "../../src/lib/money.ts";
import { createTestClock } from "../lib/test-clock.ts";
import { onEachDatabase, scratchDatabase } from "../storage/scratch.ts";

const turn: Turn = {
  index: 1,
  round: 1,
  agent: "نور",
  language: "ar",
  requestId: "req.t1",
  provider: "mistral",
  model: "small",
  message: "مرحبا 😀",
  result: {
    outcome: "completed",
    inputTokens: 5,
    outputTokens: 7,
    cost: nanoUsd(9_007_199_254_740_993n),
    latencyMs: 3,
    timeToFirstTokenMs: 2,
    attempts: 1,
    failedAttempts: [],
    routeReason: "policy mistral",
    fallback: true,
    simulated: true,
    finishReason: "stop",
    clampedMaxTokens: undefined,
    error: undefined,
  },
};

const runOf = (number: number, startedAtMs: number, more: Partial<Conversation> = {}): Conversation => ({
  id: `run_${String(number).padStart(24, "0")}`,
  kind: "panel",
  requestId: "req",
  opening: "何が？",
  agents: [{ name: "نور", language: "ar", provider: undefined, model: undefined }],
  plannedTurns: 8,
  startedAtMs,
  turns: [],
  end: undefined,
  ...more,
});

const finished = (run: Conversation): Conversation => ({
  ...run,
  turns: [turn],
  end: { ended: "max_turns", atMs: run.startedAtMs + 5, error: undefined },
});

onEachDatabase("a run comes back as it was kept, for its key alone", async (t, dialect) => {
  const { database } = await scratchDatabase(t, dialect);
  const clock = createTestClock();
  const store = createPanelRunStore({ database, clock });
  const run = runOf(1, clock.now());
  await store.insert("bk_a", run);
  assert.deepEqual(JSON.stringify(await store.find("bk_a", run.id)), JSON.stringify(run));
  await store.update(finished(run));
  const found = await store.find("bk_a", run.id);
  assert.deepEqual(found?.turns[0]?.result?.cost, turn.result?.cost);
  assert.equal(found?.turns[0]?.message, turn.message);
  assert.equal(found?.end?.ended, "max_turns");
  assert.equal(await store.find("bk_b", run.id), undefined);
  assert.equal(await store.remove("bk_b", run.id), false);
  await store.wantStop("bk_b", run.id);
  assert.deepEqual(await store.beat([run.id]), [{ runId: run.id, stopWanted: false, readAtMs: 0 }]);
  assert.equal(await store.remove("bk_a", run.id), true);
  assert.deepEqual(await store.beat([run.id]), []);
  await store.update(run);
  assert.equal(await store.find("bk_a", run.id), undefined, "an update brings nothing back");
});

onEachDatabase("runs are listed newest first, page by page, each once", async (t, dialect) => {
  const { database } = await scratchDatabase(t, dialect);
  const clock = createTestClock();
  const store = createPanelRunStore({ database, clock });
  // Three of each moment, so that the id has to decide.
  for (let number = 0; number < 12; number += 1)
    await store.insert("bk_a", runOf(number, clock.now() + Math.floor(number / 3)));
  await store.insert("bk_b", runOf(99, clock.now()));
  const seen: string[] = [];
  let after: Parameters<typeof store.list>[1]["after"];
  do {
    const page = await store.list("bk_a", { after, limit: 5 });
    seen.push(...page.runs.map(({ id }) => id));
    after = page.next;
  } while (after);
  assert.deepEqual(
    seen,
    Array.from({ length: 12 }, (_, index) => runOf(11 - index, 0).id),
  );
});

onEachDatabase("a key keeps its newest runs, and none that is under way is pushed out", async (t, dialect) => {
  const { database } = await scratchDatabase(t, dialect);
  const clock = createTestClock();
  const store = createPanelRunStore({ database, clock });
  await store.insert("bk_b", finished(runOf(999, clock.now())));
  await store.insert("bk_a", runOf(0, clock.now()));
  for (let number = 1; number <= RUNS_PER_KEY + 5; number += 1) {
    clock.advance(1);
    const run = runOf(number, clock.now());
    await store.insert("bk_a", run);
    await store.update(finished(run));
  }
  const { runs } = await store.list("bk_a", { after: undefined, limit: 200 });
  assert.equal(runs.length, RUNS_PER_KEY + 1);
  assert.equal(runs[0]?.id, runOf(RUNS_PER_KEY + 5, 0).id);
  assert.equal(runs.at(-1)?.id, runOf(0, 0).id);
  assert.equal(runs.at(-2)?.id, runOf(6, 0).id);
  assert.ok(await store.find("bk_b", runOf(999, 0).id), "another key's are its own");
});

onEachDatabase("what is kept in all is bounded, and so is its age", async (t, dialect) => {
  const { database } = await scratchDatabase(t, dialect);
  const clock = createTestClock();
  const store = createPanelRunStore({ database, clock });
  await database.transact(
    Array.from({ length: RUNS_IN_ALL + 10 }, (_, number) => ({
      sql: "insert into panel_runs (run_id, key_id, created_at_ms, finished_at_ms, heartbeat_at_ms, read_at_ms, stop_wanted, document) values (?, ?, ?, ?, 0, 0, 0, ?)",
      params: [
        `run_${number}`,
        `bk_${number}`,
        clock.now() + number,
        clock.now() + number,
        JSON.stringify(runOf(number, 0)),
      ],
    })),
  );
  const count = async (): Promise<bigint> =>
    (await database.all({ sql: "select count(*) as runs from panel_runs", params: [] }))[0]!["runs"] as bigint;
  const run = finished(runOf(1, clock.now() + RUNS_IN_ALL + 20));
  await store.insert("bk_a", run);
  await store.update(run);
  assert.equal(await count(), BigInt(RUNS_IN_ALL));
  clock.advance(RUN_DAYS * DAY_MS + RUNS_IN_ALL + 100);
  assert.equal(await store.find("bk_a", run.id), undefined, "not shown any more, although it is there");
  await store.insert("bk_a", runOf(2, clock.now()));
  assert.equal(await count(), 1n);
});

onEachDatabase("a run without a sign of life is told as interrupted, with what was said", async (t, dialect) => {
  const { database } = await scratchDatabase(t, dialect);
  const clock = createTestClock();
  const store = createPanelRunStore({ database, clock });
  const run = { ...runOf(1, clock.now()), turns: [turn] };
  await store.insert("bk_a", run);
  clock.advance(20_000);
  await store.beat([run.id]);
  clock.advance(20_000);
  assert.equal((await store.find("bk_a", run.id))?.end, undefined, "it gave a sign 20 s ago");
  clock.advance(20_000);
  const found = await store.find("bk_a", run.id);
  assert.equal(found?.end?.ended, "interrupted");
  assert.equal(found?.end?.error?.code, "internal_error");
  assert.equal(found?.turns.length, 1);
});

test("a server that is its database's only one finds the runs of the one before interrupted at once, and finished ones as they were", async (t) => {
  const { database } = await scratchDatabase(t);
  const clock = createTestClock();
  const store = createPanelRunStore({ database, clock });
  const [under, over] = [runOf(1, clock.now()), finished(runOf(2, clock.now()))];
  await store.insert("bk_a", under);
  await store.insert("bk_a", over);
  await store.update(over);
  await store.disown();
  assert.equal((await store.find("bk_a", under.id))?.end?.ended, "interrupted");
  assert.equal((await store.find("bk_a", over.id))?.end?.ended, "max_turns");
});
