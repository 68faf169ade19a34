import assert from "node:assert/strict";
import { type TestContext, test } from "node:test";
import { setTimeout as pause } from "node:timers/promises";
import { HedgeSpending } from "../../src/completion/hedge.ts";
import type { PolicyConfig } from "../../src/config.ts";
import { BrikkError } from "../../src/errors.ts";
import { type NanoUsd, nanoUsd } from "../../src/lib/money.ts";
import { coded, eventually } from "../ledger/ledger-fixture.ts";
import {
  answerStream,
  answerWhole,
  costsOf,
  delta,
  hang,
  openSse,
  type Play,
  playedPath,
  type PlayedProvider,
  playProvider,
  refuse,
  wireUsage,
} from "./played-providers.ts";

/** Any loss is allowed that is no larger than what was spent before. */
const SOON = { afterMs: 50, maxExtraSpend: 1 };
const counts = (...providers: readonly PlayedProvider[]): number[] => providers.map(({ bodies }) => bodies.length);
const after =
  (ms: number, play: Play): Play =>
  async (exchange) => {
    await pause(ms);
    if (!exchange.response.destroyed) await play(exchange);
  };
const beating: Play = async ({ response }) => {
  openSse(response);
  while (!response.destroyed) {
    response.write(": ping\n\n");
    await pause(10);
  }
};

const POLICY: PolicyConfig = {
  name: "test",
  candidates: [],
  strategy: "order",
  maxPrice: undefined,
  appliesTo: [],
  hedge: SOON,
};

type Path = Awaited<ReturnType<typeof playedPath>>;

/** As if so much had been spent under the policy already. */
function spent(path: Path, nano: bigint): void {
  path.services.hedgeOf(POLICY)!.spending.add(nanoUsd(nano));
}

/** What of the spending is told to have gone to waste. */
function watchLost(t: TestContext, path: Path): { total: bigint } {
  const lost = { total: 0n };
  const { spending } = path.services.hedgeOf(POLICY)!;
  const addLost = spending.addLost.bind(spending);
  t.mock.method(spending, "addLost", (cost: NanoUsd) => {
    lost.total += cost;
    addLost(cost);
  });
  return lost;
}

async function hedgedPath(...args: Parameters<typeof playedPath>): Promise<Path & { readonly outcomes: string[] }> {
  const [t, providers, more] = args;
  const outcomes: string[] = [];
  const plain = await playedPath(t, providers);
  const events = {
    ...plain.services.events,
    hedged: (_: unknown, outcome: string) => void outcomes.push(outcome),
  };
  const path = await playedPath(t, providers, { hedge: SOON, events, ...more });
  spent(path, 1_000_000n);
  return { ...path, outcomes };
}

for (const stream of [true, false]) {
  test(`when the first is slow the second serves, the first's connection is closed and it is charged beside the answer (${stream ? "stream" : "whole"})`, async (t) => {
    const a = await playProvider(t, "a", stream ? beating : hang, { perToken: 3n });
    const b = await playProvider(t, "b", stream ? answerStream(["Fine."]) : answerWhole("Fine."));
    const { ask, outcomes } = await hedgedPath(t, [a, b]);
    const { row, error } = await ask({ stream });
    assert.equal(error, undefined);
    await eventually(() => a.hungUp === 1);
    assert.deepEqual(counts(a, b), [1, 1]);
    const [cost, earlier] = costsOf(row) as [bigint, bigint];
    assert.deepEqual([row["outcome"], row["provider"], row["attempts"]], ["completed", "b", 2n]);
    // The loser's input, at its own price; nobody knows what it made of it.
    assert.ok(earlier > 0n && earlier % 3n === 0n, String(earlier));
    assert.equal(cost, earlier + 15n);
    assert.deepEqual(outcomes, ["won"]);
  });
}

test("a first that is quick enough is not hedged", async (t) => {
  const a = await playProvider(t, "a", answerWhole("Fine."));
  const b = await playProvider(t, "b", answerWhole("Fine."));
  const { ask } = await hedgedPath(t, [a, b], { hedge: { afterMs: 5_000, maxExtraSpend: 1 } });
  const { row } = await ask();
  assert.deepEqual([counts(a, b), ...costsOf(row)], [[1, 0], 15n, 0n]);
});

test("without a time of its own a policy hedges after the candidate's 95th percentile, and not before it is known", async (t) => {
  const a = await playProvider(t, "a", after(80, answerWhole("Fine.")));
  const b = await playProvider(t, "b", answerWhole("Fine."));
  const { ask, services } = await hedgedPath(t, [a, b], { hedge: { afterMs: undefined, maxExtraSpend: 1 } });
  assert.equal((await ask()).row["provider"], "a");
  const target = services.health.targetOf(a.candidate.connected, "a-model");
  for (let sample = 0; sample < 20; sample += 1) target.whole.add(20);
  assert.equal((await ask()).row["provider"], "b");
});

test("when the first begins after all it serves, and the second is cancelled and charged", async (t) => {
  const a = await playProvider(t, "a", after(200, answerWhole("Fine.")));
  const b = await playProvider(t, "b", hang, { perToken: 7n });
  const { ask, outcomes } = await hedgedPath(t, [a, b]);
  const { row } = await ask();
  await eventually(() => b.hungUp === 1);
  const [cost, earlier] = costsOf(row) as [bigint, bigint];
  assert.deepEqual([row["provider"], row["fallback"], outcomes], ["a", 0n, ["lost"]]);
  assert.ok(earlier > 0n && earlier % 7n === 0n && cost === earlier + 15n);
});

test("a first that fails before the second is asked is followed by it as ever, uncharged", async (t) => {
  const a = await playProvider(t, "a", refuse(503));
  const b = await playProvider(t, "b", answerWhole("Fine."));
  const { ask, outcomes } = await hedgedPath(t, [a, b]);
  const { row } = await ask();
  assert.deepEqual([row["provider"], row["attempts"], ...costsOf(row), outcomes], ["b", 2n, 15n, 0n, []]);
});

test("one that fails while both are asked leaves the other one to serve: free where it produced nothing, charged where it may have", async (t) => {
  const useless: Play = ({ response }) =>
    response
      .writeHead(200, { "content-type": "application/json" })
      .end(JSON.stringify({ choices: [], usage: wireUsage(9, 0) }));
  for (const [play, earlier] of [
    [refuse(503), 0n],
    [useless, 9n],
  ] as const) {
    const a = await playProvider(t, "a", after(200, play));
    const b = await playProvider(t, "b", after(300, answerWhole("Fine.")));
    const path = await hedgedPath(t, [a, b]);
    const lost = watchLost(t, path);
    const { row } = await path.ask();
    assert.deepEqual([row["provider"], row["attempts"], ...costsOf(row)], ["b", 2n, 15n + earlier, earlier]);
    assert.deepEqual([path.outcomes, lost.total], [["won"], earlier]);
  }
});

test("what the second does not like about a request is no reason to give the first one up", async (t) => {
  const a = await playProvider(t, "a", after(250, answerWhole("Fine.")));
  const b = await playProvider(t, "b", refuse(400));
  const { ask, outcomes } = await hedgedPath(t, [a, b]);
  const { error, row } = await ask();
  assert.equal(error, undefined);
  assert.deepEqual([row["provider"], row["outcome"], ...costsOf(row), outcomes], ["a", "completed", 15n, 0n, ["lost"]]);
});

test("what the first calls the caller's own mistake is passed on, and the second is cancelled and charged", async (t) => {
  const a = await playProvider(t, "a", after(200, refuse(400)));
  const b = await playProvider(t, "b", hang);
  const { ask } = await hedgedPath(t, [a, b]);
  const { error, row } = await ask();
  assert.ok(coded("invalid_request")(error));
  await eventually(() => b.hungUp === 1);
  const [cost, earlier] = costsOf(row) as [bigint, bigint];
  assert.ok(earlier > 0n && cost === earlier);
});

test("when both fail, each is asked again by its own fault and by no other's", async (t) => {
  const a = await playProvider(t, "a", after(100, refuse(503)));
  const b = await playProvider(t, "b", after(200, refuse(401)));
  const first = await hedgedPath(t, [a, b], { maxRetries: 2 });
  const { error, row } = await first.ask();
  assert.ok(error);
  // The overloaded one is, the one that does not take our credentials is not.
  assert.deepEqual([counts(a, b), row["attempts"], ...costsOf(row)], [[3, 1], 4n, 0n, 0n]);

  const c = await playProvider(t, "c", after(200, refuse(401)));
  const d = await playProvider(t, "d", after(50, refuse(503)));
  const second = await hedgedPath(t, [c, d], { maxRetries: 1 });
  await second.ask();
  assert.deepEqual(counts(c, d), [1, 2]);
});

test("who was asked before and failed is not asked as the second", async (t) => {
  const a = await playProvider(t, "a", refuse(401));
  const b = await playProvider(t, "b", after(200, answerWhole("Fine.")));
  const { ask } = await hedgedPath(t, [a, b], { maxRetries: 2 });
  const { row } = await ask();
  assert.deepEqual([counts(a, b), row["provider"]], [[1, 1], "b"]);
});

// The one whose headers have come takes longer to notice that it is over, so each of the two is the first to end once.
for (const [what, playA, playB] of [
  ["the first is told first", hang, beating],
  ["the second is told first", beating, hang],
] as const) {
  test(`who leaves while both are asked is charged for each of them once (${what})`, async (t) => {
    const a = await playProvider(t, "a", playA, { perToken: 1_000n });
    const b = await playProvider(t, "b", playB, { perToken: 1n });
    const { ask } = await hedgedPath(t, [a, b]);
    const controller = new AbortController();
    const asking = ask({ stream: true, controller, hardCap: 1_000_000_000n });
    await eventually(() => b.bodies.length === 1);
    await pause(50);
    controller.abort(new BrikkError("client_closed_request", "The caller left."));
    const { row } = await asking;
    await eventually(() => a.hungUp === 1 && b.hungUp === 1);
    assert.deepEqual([row["outcome"], row["attempts"]], ["cancelled", 2n]);
    const tokens = row["fresh_input_tokens"] as bigint;
    assert.ok(tokens > 0n);
    assert.equal(row["cost_nano_usd"], tokens * 1_001n);
  });
}

test("the second is not asked when the budget does not pay for both, and its place is not kept", async (t) => {
  const a = await playProvider(t, "a", after(150, answerWhole("Fine.")));
  const b = await playProvider(t, "b", answerWhole("Fine."));
  const { ask, outcomes } = await hedgedPath(t, [a, b]);
  const { row } = await ask({ hardCap: 250n });
  assert.deepEqual([counts(a, b), row["provider"], outcomes], [[1, 0], "a", ["skipped"]]);
});

test("requests at the same time do not lose more together than the policy's share", async (t) => {
  const a = await playProvider(t, "a", after(400, answerWhole("Fine.", wireUsage(100, 100))));
  const b = await playProvider(t, "b", after(100, answerWhole("Fine.", wireUsage(100, 100))));
  const path = await playedPath(t, [a, b], { hedge: { afterMs: 20, maxExtraSpend: 0.1 } });
  spent(path, 1_000n);
  const told = await Promise.all(Array.from({ length: 10 }, () => path.ask()));
  const lost = told.reduce((sum, { row }) => sum + (row["earlier_cost_nano_usd"] as bigint), 0n);
  assert.ok(b.bodies.length >= 1 && b.bodies.length <= 5, `${b.bodies.length} were asked beside the first`);
  assert.ok(lost <= 100n, String(lost));
});

test("what is set aside of the share counts like what was lost, until it is given back", () => {
  const spending = new HedgeSpending();
  assert.equal(spending.setAside(nanoUsd(1n), 1), false);
  spending.add(nanoUsd(1_000n));
  assert.equal(spending.setAside(nanoUsd(60n), 0.1), true);
  assert.equal(spending.setAside(nanoUsd(60n), 0.1), false);
  spending.giveBack(nanoUsd(60n));
  spending.addLost(nanoUsd(40n));
  assert.equal(spending.setAside(nanoUsd(60n), 0.1), true);
  assert.equal(spending.setAside(nanoUsd(1n), 0.1), false);
});

test("a second that would begin at the same moment is given up and charged by what it said", async (t) => {
  const begin: Play = async ({ response }) => {
    openSse(response);
    response.write(delta("Hello"));
    await pause(100);
    if (!response.destroyed) response.end(delta("", "chat-1", "stop") + "data: [DONE]\n\n");
  };
  const a = await playProvider(t, "a", after(100, begin));
  const b = await playProvider(t, "b", after(50, begin));
  const { ask } = await hedgedPath(t, [a, b]);
  for (let time = 0; time < 5; time += 1) {
    const { row, text } = await ask({ stream: true });
    assert.deepEqual([row["outcome"], text], ["completed", "Hello"]);
    assert.ok((row["earlier_cost_nano_usd"] as bigint) > 0n);
  }
});

test("what goes wrong in asking the second leaves the first to serve", async (t) => {
  const a = await playProvider(t, "a", after(200, answerWhole("Fine.")));
  const b = await playProvider(t, "b", answerWhole("Fine."));
  const path = await hedgedPath(t, [a, b]);
  const { spending } = path.services.hedgeOf(POLICY)!;
  t.mock.method(spending, "setAside", () => {
    throw new TypeError("no such thing");
  });
  const { error, row } = await path.ask();
  assert.deepEqual([error, row["provider"], ...costsOf(row)], [undefined, "a", 15n, 0n]);
});

test("what goes wrong in measuring the loser takes nothing from the answer", async (t) => {
  const a = await playProvider(t, "a", hang);
  const b = await playProvider(t, "b", after(50, answerWhole("Fine.")));
  const path = await hedgedPath(t, [a, b]);
  t.mock.method(path.services.hedgeOf(POLICY)!.spending, "addLost", () => {
    throw new TypeError("no such thing");
  });
  const { error, row } = await path.ask();
  assert.deepEqual([error, row["provider"], row["outcome"]], [undefined, "b", "completed"]);
});
