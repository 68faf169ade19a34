import assert from "node:assert/strict";
import { join } from "node:path";
import { after, beforeEach, test } from "node:test";
import { detectLanguage } from "../../src/conversations/language.ts";
import { parseUsd } from "../../src/lib/money.ts";
import { startGateway } from "../harness/gateway-under-test.ts";
import { noPostgres } from "../harness/postgres-databases.ts";
import { followBill } from "../harness/provider-bill.ts";
import { eventually } from "../ledger/ledger-fixture.ts";
import { createTestClock } from "../lib/test-clock.ts";
import { assertHolds, ledgerTotal } from "../scenarios/ledger-audit.ts";
import { scratchFolder, scratchPostgresUrl } from "../storage/scratch.ts";
import {
  clientOf,
  eventsIn,
  openStream,
  spokenIn,
  turnsIn,
  type WireEvent,
  type WireRun,
} from "./conversation-events.ts";

const brikk = await startGateway();
after(() => brikk.close());
beforeEach(() => {
  brikk.simulator.faults.clear();
  brikk.gateway.health.reset();
});

const PROMPT = { prompt: "What makes a city good to live in?" };
/** Slow enough for a test to act in the middle of a turn. */
const SLOW = { simulator: { tokensPerSecond: 200 } };
/** The same, for runs that are waited for. */
const BRISK = { simulator: { tokensPerSecond: 900 } };

async function panel(secret: string, body: object = PROMPT): Promise<WireEvent[]> {
  const response = await clientOf(brikk, secret).post("/panel/runs", body);
  const text = await response.text();
  assert.equal(response.status, 200, text);
  return eventsIn(text);
}

const idIn = (events: readonly WireEvent[]): string => events[0]!.data["run_id"] as string;
const endIn = (events: readonly WireEvent[]) =>
  events.at(-1)! as unknown as {
    readonly event: string;
    readonly data: Pick<WireRun, "ended" | "error" | "totals">;
  };

test("four agents speak in their languages over two rounds, each turn marked with language and direction, and the sum is the vendors' bill", async () => {
  const key = await brikk.createKey();
  const bill = followBill(brikk.simulator);
  const events = await panel(key.secret);
  const turns = turnsIn(events);
  assert.deepEqual(
    turns.map(({ index, round, lang, dir, provider, status }) => [index, round, lang, dir, provider, status].join(" ")),
    [
      "1 1 en ltr openai completed",
      "2 1 es ltr mistral completed",
      "3 1 ja ltr openai completed",
      "4 1 ar rtl mistral completed",
      "5 2 en ltr openai completed",
      "6 2 es ltr mistral completed",
      "7 2 ja ltr openai completed",
      "8 2 ar rtl mistral completed",
    ],
  );
  const spoken = spokenIn(events);
  for (const turn of turns) {
    assert.equal(detectLanguage(turn.message.replaceAll(PROMPT.prompt.slice(0, -1), "")), turn.lang, turn.message);
    assert.equal(spoken.get(turn.index), turn.message);
    assert.equal(turn.fallback, false);
  }
  assert.equal(events[0]!.event, "run.started");
  const end = endIn(events);
  assert.deepEqual([end.event, end.data.ended, end.data.totals.turns], ["run.finished", "max_turns", 8]);
  const rows = (await brikk.events()).filter((row) => row["key_id"] === key.id);
  assert.deepEqual(
    rows.map((row) => row["request_id"]),
    turns.map((turn) => turn.request_id),
  );
  assert.equal(bill.requests, 8);
  assert.equal(await ledgerTotal(brikk.gateway.database, key.id), bill.total);
  assert.equal(Math.round(end.data.totals.cost_usd * 1e9), Number(bill.total));
  let soFar = 0;
  for (const { data } of events.filter(({ event }) => event === "turn.finished")) {
    const { cost_usd, totals } = data as unknown as WireRun["turns"][number] & Pick<WireRun, "totals">;
    soFar += Math.round(cost_usd * 1e9);
    assert.equal(Math.round(totals.cost_usd * 1e9), soFar, "what the run has cost so far comes with each turn");
  }
  await assertHolds(brikk.gateway.database);
});

test("the requests of the eighth turn are still small, whatever was asked and said", async () => {
  const { secret } = await brikk.createKey();
  const events = await panel(secret, { prompt: "日本の都市について。".repeat(390), max_tokens: 1_000 });
  assert.equal(endIn(events).data.ended, "max_turns");
  for (const { usage } of turnsIn(events)) assert.ok(usage.prompt_tokens < 12_000, `${usage.prompt_tokens} tokens`);
});

test("when a vendor is broken its agents are stood in for in the same language and marked, and the run finishes", async () => {
  const { secret } = await brikk.createKey();
  brikk.simulator.faults.set({ vendor: "openai", fault: { kind: "status", status: 500 } });
  const events = await panel(secret);
  const turns = turnsIn(events);
  assert.deepEqual(
    turns.map(({ lang, provider, fallback, status }) => [lang, provider, fallback, status].join(" ")),
    [1, 2].flatMap(() => [
      "en mistral true completed",
      "es mistral false completed",
      "ja mistral true completed",
      "ar mistral false completed",
    ]),
  );
  for (const { lang, message } of turns)
    assert.equal(detectLanguage(message.replaceAll(PROMPT.prompt.slice(0, -1), "")), lang);
  assert.equal(endIn(events).data.totals.fallbacks, 4);
  for (const { fallback, failed_attempts } of turns)
    assert.deepEqual(
      failed_attempts.map(({ provider, fault, status }) => `${provider} ${fault} ${status}`),
      fallback ? ["openai overloaded 500"] : [],
    );
  // Also where the router knows better than to ask it, as its breaker is open or it asked to be left alone.
  brikk.gateway.health.reset();
  brikk.simulator.faults.clear();
  brikk.simulator.faults.set({ vendor: "openai", count: 1, fault: { kind: "status", status: 429, retryAfter: 600 } });
  const cooling = await panel(secret);
  assert.equal(endIn(cooling).data.totals.fallbacks, 4);
  assert.match(turnsIn(cooling)[2]!.route_reason ?? "", /openai\/gpt-4o-mini behind, it cools down/);
});

test("a budget that ends in the middle stops the run cleanly, with the rule and its numbers, and keeps what was said", async () => {
  const key = await brikk.createKey({ hardCap: parseUsd("0.0015")!, softCap: parseUsd("0.0015")! });
  const events = await panel(key.secret);
  const { event, data } = endIn(events);
  assert.deepEqual([event, data.ended, data.error?.code], ["run.stopped", "budget", "hard_cap_exceeded"]);
  assert.equal(data.error?.details?.["limit_usd"], 0.0015);
  assert.ok(data.error?.details?.["resets_at"]);
  const turns = turnsIn(events);
  assert.ok(turns.length >= 2 && turns.length < 8, `${turns.length} turns`);
  assert.ok((await ledgerTotal(brikk.gateway.database, key.id)) <= 1_500_000n);
  const kept = (await (await clientOf(brikk, key.secret).get(`/panel/runs/${idIn(events)}`)).json()) as WireRun;
  assert.deepEqual([kept.status, kept.ended, kept.turns.length], ["stopped", "budget", turns.length]);
  await assertHolds(brikk.gateway.database);
});

test("a rate limit in the middle ends the run with the rule; a run that was refused at once is none", async () => {
  const few = await brikk.createKey({ rateLimitPerMin: 2 });
  const events = await panel(few.secret);
  const { data } = endIn(events);
  assert.deepEqual([data.ended, data.error?.code, turnsIn(events).length], ["rate_limit", "rate_limit_exceeded", 2]);
  assert.equal(data.error?.details?.["rule"], "key-rpm");
  const again = await clientOf(brikk, few.secret).post("/panel/runs", PROMPT);
  assert.equal(again.status, 429);
  const broke = await brikk.createKey({ hardCap: parseUsd("0")!, softCap: parseUsd("0")! });
  assert.equal((await clientOf(brikk, broke.secret).post("/panel/runs", PROMPT)).status, 402);
  const { runs } = (await (await clientOf(brikk, broke.secret).get("/panel/runs")).json()) as { runs: unknown[] };
  assert.deepEqual(runs, []);
});

test("what a key may not use speaks for nobody, in no turn and no translation", async () => {
  const { id, secret } = await brikk.createKey({ allowedProviders: ["mistral"] });
  const events = await panel(secret);
  assert.deepEqual(
    turnsIn(events).map(({ provider, fallback }) => `${provider} ${fallback}`),
    [1, 2, 3, 4].flatMap(() => ["mistral true", "mistral false"]),
  );
  assert.match(turnsIn(events)[0]!.route_reason ?? "", /without openai\/gpt-4o-mini: is not among the key's/);
  const path = `/panel/runs/${idIn(events)}/turns/1/translation`;
  assert.equal((await clientOf(brikk, secret).post(path, { language: "ja" })).status, 200);
  const rows = (await brikk.events()).filter((row) => row["key_id"] === id);
  assert.deepEqual([...new Set(rows.map((row) => row["provider"]))], ["mistral"]);
  const named = {
    first_message: "Hello",
    agents: [{ provider: "mistral" }, { provider: "openai", model: "gpt-4o-mini" }],
  };
  assert.equal((await clientOf(brikk, secret).post("/agents/bridge", named)).status, 403);
});

test("a key with one slot holds a run while it reads it", async () => {
  const { secret } = await brikk.createKey({ maxConcurrentRequests: 1 });
  assert.equal(endIn(await panel(secret)).data.ended, "max_turns");
});

test("a key whose one slot a turn holds reads, lists, stops and deletes its runs all the same", async () => {
  const slow = await startGateway({ simulator: { tokensPerSecond: 20 } });
  try {
    const { secret } = await slow.createKey({ maxConcurrentRequests: 1 });
    const client = clientOf(slow, secret);
    const stream = await openStream(slow, secret, "/panel/runs", { body: PROMPT });
    await stream.until(({ event }) => event === "turn.delta");
    stream.leave();
    await stream.ended;
    const path = `/panel/runs/${idIn(stream.events)}`;
    const again = await openStream(slow, secret, path);
    assert.equal(again.status, 200);
    await again.until(({ event }) => event === "turn.delta");
    assert.equal((await client.get("/panel/runs")).status, 200);
    assert.equal((await client.get(path)).status, 200);
    assert.equal((await client.post("/panel/runs", PROMPT)).status, 429, "what asks a model takes a slot");
    assert.equal((await client.post(`${path}/stop`, {})).status, 200);
    await again.ended;
    assert.equal((await client.delete(path)).status, 200);
  } finally {
    await slow.close();
  }
});

test("a reader that reloads gets every event exactly once, and the run goes on meanwhile", async () => {
  const slow = await startGateway(BRISK);
  try {
    const { secret } = await slow.createKey();
    const first = await openStream(slow, secret, "/panel/runs", { body: PROMPT });
    await first.until(({ event, data }) => event === "turn.delta" && data["index"] === 2);
    first.leave();
    await first.ended;
    const got = [...first.events];
    const path = `/panel/runs/${idIn(got)}`;
    for (;;) {
      const lastId = got.findLast(({ id }) => id !== undefined)!.id!;
      const next = await openStream(slow, secret, path, { headers: { "last-event-id": lastId } });
      assert.equal(next.status, 200);
      const seen = Number.parseInt(lastId, 10);
      const enough = await next.until(
        ({ event, data }) => event === "run.finished" || (event === "turn.delta" && Number(data["index"]) > seen),
      );
      next.leave();
      await next.ended;
      got.push(...next.events);
      if (enough.event === "run.finished") break;
    }
    const ids = got.map(({ id }) => id);
    assert.equal(new Set(ids).size, ids.length, "no event came twice");
    assert.deepEqual(
      got.filter(({ event }) => event !== "turn.delta").map(({ event }) => event),
      ["run.started", ...Array.from({ length: 8 }, () => ["turn.started", "turn.finished"]).flat(), "run.finished"],
    );
    const spoken = spokenIn(got);
    for (const turn of turnsIn(got)) assert.equal(spoken.get(turn.index), turn.message, `turn ${turn.index}`);
    // The same from storage, now that it is over.
    const replay = await openStream(slow, secret, path);
    await replay.ended;
    assert.deepEqual(spokenIn(replay.events), spoken);
    assert.deepEqual(turnsIn(replay.events), turnsIn(got));
    const over = await clientOf(slow, secret).get(path, { accept: "text/event-stream", "last-event-id": "end" });
    assert.deepEqual([over.status, await over.text()], [204, ""], "who has the end is told to ask no more");
    const wrong = await clientOf(slow, secret).get(path, { accept: "text/event-stream", "last-event-id": "none" });
    assert.equal(wrong.status, 400);
  } finally {
    await slow.close();
  }
});

test("a run that nobody has read for 30 s is stopped; one with a reader is not", async () => {
  const clock = createTestClock();
  const slow = await startGateway({ simulator: { tokensPerSecond: 20 }, clock });
  try {
    const { secret } = await slow.createKey();
    const [left, kept] = await Promise.all([1, 2].map(() => openStream(slow, secret, "/panel/runs", { body: PROMPT })));
    await Promise.all([left!, kept!].map((one) => one.until(({ event }) => event === "turn.delta")));
    left!.leave();
    const read = async (): Promise<WireRun> =>
      (await (await clientOf(slow, secret).get(`/panel/runs/${idIn(left!.events)}`)).json()) as WireRun;
    /** Lets time pass, and the runs be looked after. */
    const pass = async (ms: number): Promise<void> => {
      clock.advance(ms);
      const now = clock.now();
      const beats = async (): Promise<boolean> =>
        (await slow.all("select heartbeat_at_ms from panel_runs where finished_at_ms is null")).every(
          (row) => Number(row["heartbeat_at_ms"]) >= now,
        );
      await eventually(beats);
    };
    await pass(25_000);
    assert.equal((await read()).ended, null);
    await pass(31_000);
    await eventually(async () => (await read()).ended !== null);
    const run = await read();
    assert.match(run.error?.message ?? "", /^Nobody has read the run/);
    assert.equal(run.turns.at(-1)?.status, "cancelled");
    assert.equal(slow.gateway.inFlight.count, 1, "the other goes on");
    kept!.leave();
  } finally {
    await slow.close();
  }
});

test("a stop cuts the turn under way, which is charged as far as it came, and its reader is told", async () => {
  const slow = await startGateway(SLOW);
  try {
    const key = await slow.createKey();
    const client = clientOf(slow, key.secret);
    const stream = await openStream(slow, key.secret, "/panel/runs", { body: PROMPT });
    await stream.until(({ event, data }) => event === "turn.delta" && data["index"] === 2);
    const response = await client.post(`/panel/runs/${idIn(stream.events)}/stop`, {});
    const run = (await response.json()) as WireRun;
    await stream.ended;
    assert.equal(response.status, 200);
    assert.deepEqual(
      [run.status, run.ended, run.turns.map(({ status }) => status).join(" ")],
      ["stopped", "stopped", "completed cancelled"],
    );
    const last = endIn(stream.events);
    assert.deepEqual([last.event, last.data.ended, last.data.totals], ["run.stopped", "stopped", run.totals]);
    assert.ok(run.turns[1]!.cost_usd > 0);
    assert.equal(Math.round(run.totals.cost_usd * 1e9), Number(await ledgerTotal(slow.gateway.database, key.id)));
    const again = await client.post(`/panel/runs/${run.id}/stop`, {});
    assert.deepEqual(await again.json(), run, "a second stop changes nothing");
    await assertHolds(slow.gateway.database);
  } finally {
    await slow.close();
  }
});

test("another key can neither read nor stop nor delete nor translate a run, running or finished, nor see it listed", async () => {
  const slow = await startGateway(BRISK);
  try {
    const owner = await slow.createKey();
    const other = clientOf(slow, (await slow.createKey()).secret);
    const stream = await openStream(slow, owner.secret, "/panel/runs", { body: PROMPT });
    await stream.until(({ event }) => event === "turn.finished");
    const path = `/panel/runs/${idIn(stream.events)}`;
    const attempts = async (): Promise<number[]> => {
      const responses = await Promise.all([
        other.get(path),
        other.get(path, { accept: "text/event-stream" }),
        other.post(`${path}/stop`, {}),
        other.delete(path),
        other.post(`${path}/turns/1/translation`, { language: "en" }),
      ]);
      await Promise.all(responses.map((response) => response.arrayBuffer()));
      return responses.map(({ status }) => status);
    };
    assert.deepEqual(await attempts(), [404, 404, 404, 404, 404]);
    await stream.ended;
    assert.equal(endIn(stream.events).data.ended, "max_turns", "and nothing happened to it");
    assert.deepEqual(await attempts(), [404, 404, 404, 404, 404]);
    assert.deepEqual(((await (await other.get("/panel/runs")).json()) as { runs: unknown[] }).runs, []);
    const own = clientOf(slow, owner.secret);
    assert.equal(((await (await own.get("/panel/runs")).json()) as { runs: unknown[] }).runs.length, 1);
    // Callers without a key share one: who has the id has the run, and nobody is shown the others'.
    const anonymous = clientOf(slow, "");
    const shared = eventsIn(await (await anonymous.post("/panel/runs", PROMPT)).text());
    assert.equal((await anonymous.get(`/panel/runs/${idIn(shared)}`)).status, 200);
    assert.deepEqual(((await (await anonymous.get("/panel/runs")).json()) as { runs: unknown[] }).runs, []);
  } finally {
    await slow.close();
  }
});

test("runs are listed newest first by cursor, and a deleted one is gone while its costs stay", async () => {
  const key = await brikk.createKey();
  const client = clientOf(brikk, key.secret);
  const ids: string[] = [];
  for (let count = 0; count < 3; count += 1) ids.unshift(idIn(await panel(key.secret)));
  interface Page {
    readonly runs: readonly (WireRun & { readonly prompt: string })[];
    readonly next_cursor: string | null;
  }
  const first = (await (await client.get("/panel/runs?limit=2")).json()) as Page;
  const second = (await (await client.get(`/panel/runs?limit=2&cursor=${first.next_cursor}`)).json()) as Page;
  assert.deepEqual(
    [...first.runs, ...second.runs].map(({ id }) => id),
    ids,
  );
  assert.equal(second.next_cursor, null);
  assert.deepEqual([first.runs[0]!.prompt, first.runs[0]!.totals.turns], [PROMPT.prompt, 8]);
  assert.equal((await client.get("/panel/runs?cursor=none")).status, 400);
  const before = await ledgerTotal(brikk.gateway.database, key.id);
  assert.equal((await client.delete(`/panel/runs/${ids[0]}`)).status, 200);
  assert.equal((await client.get(`/panel/runs/${ids[0]}`)).status, 404);
  assert.equal((await client.delete(`/panel/runs/${ids[0]}`)).status, 404);
  assert.equal(await ledgerTotal(brikk.gateway.database, key.id), before);
});

test("a run under way that is deleted is stopped first", async () => {
  const slow = await startGateway(SLOW);
  try {
    const { secret } = await slow.createKey();
    const stream = await openStream(slow, secret, "/panel/runs", { body: PROMPT });
    await stream.until(({ event }) => event === "turn.delta");
    const path = `/panel/runs/${idIn(stream.events)}`;
    assert.equal((await clientOf(slow, secret).delete(path)).status, 200);
    await stream.ended;
    assert.equal(endIn(stream.events).data.ended, "stopped");
    assert.equal(slow.gateway.inFlight.count, 0);
    assert.equal((await clientOf(slow, secret).get(path)).status, 404);
  } finally {
    await slow.close();
  }
});

test("a turn is translated at a cost of its own, and one that was not spoken to its end is not", async () => {
  const key = await brikk.createKey();
  const client = clientOf(brikk, key.secret);
  const path = `/panel/runs/${idIn(await panel(key.secret))}`;
  const response = await client.post(`${path}/turns/4/translation`, { language: "ja" });
  const translation = (await response.json()) as Record<string, unknown>;
  assert.equal(response.status, 200);
  assert.deepEqual([translation["index"], translation["lang"], translation["dir"]], [4, "ja", "ltr"]);
  assert.equal(detectLanguage(translation["message"] as string), "ja");
  const row = (await brikk.events()).at(-1)!;
  assert.equal(row["request_id"], translation["request_id"]);
  assert.equal(Math.round((translation["cost_usd"] as number) * 1e9), Number(row["cost_nano_usd"]));
  assert.equal(translation["finish_reason"], "stop");
  assert.equal((await client.post(`${path}/turns/9/translation`, { language: "ja" })).status, 404);
  assert.equal((await client.post(`${path}/turns/1/translation`, { language: "no tag" })).status, 400);
});

test("fifty runs at once all finish, and the ledger is the vendors' bill", async () => {
  // The simulated vendors bill what they have cached for less, and not both say so: no question is asked twice.
  const bill = followBill(brikk.simulator);
  const keys = await Promise.all(Array.from({ length: 5 }, () => brikk.createKey()));
  const all = await Promise.all(
    Array.from({ length: 50 }, (_, index) =>
      panel(keys[index % keys.length]!.secret, { prompt: `Question ${index}: ${PROMPT.prompt}` }),
    ),
  );
  for (const events of all) {
    assert.equal(endIn(events).data.ended, "max_turns");
    const spoken = spokenIn(events);
    for (const turn of turnsIn(events)) assert.equal(spoken.get(turn.index), turn.message);
  }
  assert.equal(bill.requests, 400);
  let total = 0n;
  for (const { id } of keys) total += await ledgerTotal(brikk.gateway.database, id);
  assert.equal(total, bill.total);
  assert.equal(brikk.gateway.inFlight.count, 0);
  await assertHolds(brikk.gateway.database);
});

test("a server that stops lets the turn under way finish and begins no other; the run says so and is kept", async (t) => {
  const url = `sqlite:${join(scratchFolder(t), "brikk.db")}`;
  const slow = await startGateway({ ...SLOW, environment: { DATABASE_URL: url } });
  const { secret } = await slow.createKey();
  const stream = await openStream(slow, secret, "/panel/runs", { body: PROMPT });
  await stream.until(({ event }) => event === "turn.delta");
  await slow.gateway.inFlight.drain(30_000);
  await stream.ended;
  const { event, data } = endIn(stream.events);
  assert.deepEqual([event, data.ended, data.error?.code], ["run.stopped", "draining", "draining"]);
  assert.deepEqual(
    turnsIn(stream.events).map(({ status }) => status),
    ["completed"],
  );
  await assertHolds(slow.gateway.database);
  await slow.close();
  const next = await startGateway({ environment: { DATABASE_URL: url } });
  try {
    const kept = (await (await clientOf(next, secret).get(`/panel/runs/${idIn(stream.events)}`)).json()) as WireRun;
    assert.deepEqual([kept.status, kept.ended, kept.turns], ["stopped", "draining", turnsIn(stream.events)]);
  } finally {
    await next.close();
  }
});

test("a stop that cannot wait cuts the turn, marks it, and the run says so", async () => {
  const slow = await startGateway({ simulator: { tokensPerSecond: 20 } });
  const { secret } = await slow.createKey();
  const stream = await openStream(slow, secret, "/panel/runs", { body: PROMPT });
  await stream.until(({ event }) => event === "turn.delta");
  await slow.gateway.inFlight.drain(1);
  await stream.ended;
  assert.equal(endIn(stream.events).data.ended, "draining");
  assert.deepEqual(
    turnsIn(stream.events).map(({ status, error }) => `${status} ${error?.code}`),
    ["truncated draining"],
  );
  await slow.close();
});

test("after a crash finished runs are there, and the one that was under way is interrupted, with what was said", async (t) => {
  const folder = scratchFolder(t);
  const slow = await startGateway(BRISK);
  const { secret } = await slow.createKey();
  const client = clientOf(slow, secret);
  const finished = eventsIn(await (await client.post("/panel/runs", PROMPT)).text());
  const stream = await openStream(slow, secret, "/panel/runs", { body: PROMPT });
  const spoken = await stream.until(({ event }) => event === "turn.finished");
  await stream.until(({ event, data }) => event === "turn.delta" && data["index"] === 2);
  const path = `/panel/runs/${idIn(stream.events)}`;
  // What a killed server leaves behind.
  const left = join(folder, "left.db");
  await slow.all(`vacuum into '${left}'`);
  const lastId = stream.events.at(-1)!.id!;
  stream.leave();
  await slow.close();
  const next = await startGateway({ environment: { DATABASE_URL: `sqlite:${left}` } });
  try {
    const read = async (id: string): Promise<WireRun> =>
      (await (await clientOf(next, secret).get(`/panel/runs/${id}`)).json()) as WireRun;
    const whole = await read(idIn(finished));
    assert.deepEqual([whole.status, whole.turns], ["finished", turnsIn(finished)]);
    const cut = await read(idIn(stream.events));
    assert.deepEqual([cut.status, cut.ended, cut.error?.code], ["interrupted", "interrupted", "internal_error"]);
    assert.deepEqual(cut.turns, turnsIn([spoken]));
    const back = await openStream(next, secret, path, { headers: { "last-event-id": lastId } });
    await back.ended;
    assert.deepEqual(
      back.events.map(({ event, data }) => [event, data["ended"]]),
      [["run.stopped", "interrupted"]],
    );
  } finally {
    await next.close();
  }
});

test("a run whose end the store does not take is told to its end, and written down when the store is back", async () => {
  const clock = createTestClock();
  const house = await startGateway({ clock });
  try {
    const { secret } = await house.createKey();
    const alter = (sql: string): Promise<unknown> => house.gateway.database.transact([{ sql, params: [] }]);
    await alter(
      "create trigger no_end before update of document on panel_runs when new.finished_at_ms is not null begin select raise(abort, 'not now'); end",
    );
    const client = clientOf(house, secret);
    const events = eventsIn(await (await client.post("/panel/runs", PROMPT)).text());
    assert.equal(endIn(events).data.ended, "max_turns");
    const path = `/panel/runs/${idIn(events)}`;
    const read = async (): Promise<WireRun> => (await (await client.get(path)).json()) as WireRun;
    // As long as an instance may be silent before it is taken for dead.
    clock.advance(31_000);
    assert.deepEqual([(await read()).status, (await read()).turns.length], ["finished", 8]);
    await alter("drop trigger no_end");
    await eventually(
      async () => (await house.all("select finished_at_ms from panel_runs"))[0]!["finished_at_ms"] !== null,
    );
    assert.deepEqual((await read()).turns, turnsIn(events));
    const replay = await openStream(house, secret, path);
    await replay.ended;
    assert.equal(endIn(replay.events).data.ended, "max_turns");
  } finally {
    await house.close();
  }
});

test("a run that the store is slow to take is not taken for deleted", { skip: noPostgres ?? false }, async (t) => {
  const environment = { DATABASE_URL: await scratchPostgresUrl(t, "migrated") };
  const house = await startGateway({ simulator: { tokensPerSecond: 400 }, environment });
  try {
    const { secret } = await house.createKey();
    const alter = (sql: string): Promise<unknown> => house.gateway.database.transact([{ sql, params: [] }]);
    await alter(
      "create function slowly() returns trigger language plpgsql as $$ begin perform pg_sleep(2.5); return new; end $$",
    );
    // Another run, so that runs are looked after meanwhile.
    const other = await openStream(house, secret, "/panel/runs", { body: PROMPT });
    await other.until(({ event }) => event === "turn.delta");
    await alter("create trigger slow before insert on panel_runs for each row execute function slowly()");
    const stream = await openStream(house, secret, "/panel/runs", { body: PROMPT });
    await Promise.all([stream.ended, other.ended]);
    assert.equal(endIn(stream.events).data.ended, "max_turns");
  } finally {
    await house.close();
  }
});

test(
  "a run that another instance holds is read turn by turn, counts as read, and can be stopped",
  { skip: noPostgres ?? false },
  async (t) => {
    const environment = { DATABASE_URL: await scratchPostgresUrl(t, "migrated") };
    const holder = await startGateway({ ...SLOW, environment });
    const other = await startGateway({ environment });
    try {
      const { secret } = await holder.createKey();
      const own = await openStream(holder, secret, "/panel/runs", { body: PROMPT });
      await own.until(({ event }) => event === "turn.finished");
      const path = `/panel/runs/${idIn(own.events)}`;
      const far = await openStream(other, secret, path);
      assert.equal(far.status, 200);
      await far.until(({ event }) => event === "turn.finished");
      await eventually(async () => {
        const [row] = await holder.all("select read_at_ms from panel_runs");
        return Number(row!["read_at_ms"]) > 0;
      });
      const response = await clientOf(other, secret).post(`${path}/stop`, {});
      assert.equal(response.status, 200);
      await Promise.all([own.ended, far.ended]);
      for (const stream of [own, far]) {
        assert.equal(endIn(stream.events).data.ended, "stopped");
        const spoken = spokenIn(stream.events);
        for (const turn of turnsIn(stream.events)) assert.equal(spoken.get(turn.index) ?? "", turn.message);
      }
      assert.deepEqual(turnsIn(far.events), turnsIn(own.events));
    } finally {
      await other.close();
      await holder.close();
    }
  },
);
