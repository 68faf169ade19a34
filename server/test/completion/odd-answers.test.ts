import assert from "node:assert/strict";
import { test } from "node:test";
import { setTimeout as pause } from "node:timers/promises";
import { nanoUsd } from "../../src/lib/money.ts";
import {
  answerStream,
  answerWhole,
  breakStream,
  chunksOf,
  costsOf,
  delta,
  DONE,
  hang,
  openSse,
  type Play,
  type PlayedExchange,
  playedPath,
  playProvider,
  refuse,
  usageChunk,
} from "./played-providers.ts";

/** Answers that are nearly what was promised: none of them may cost nothing by mistake, or look finished. */
const plain =
  (body: string, status = 200, type = "application/json"): Play =>
  ({ response }) =>
    void response.writeHead(status, { "content-type": type }).end(body);
const stream =
  (...events: readonly string[]): Play =>
  ({ response }) =>
    void opened(response).end(events.join(""));
const opened = (response: PlayedExchange["response"]): PlayedExchange["response"] => {
  openSse(response);
  return response;
};
const HEDGE = { afterMs: 50, maxExtraSpend: 1 };

for (const [what, body] of [
  ["null for a choice", '{"choices":[null]}'],
  ["a choice without a message", '{"choices":[{}]}'],
  ["a choice that ended with an error", '{"choices":[{"message":{"content":"Hal"},"finish_reason":"error"}]}'],
] as const) {
  test(`a whole answer with ${what} is of no use: the next candidate serves, and alone it is a failure with its row`, async (t) => {
    const odd = await playProvider(t, "odd", plain(body));
    const well = await playProvider(t, "well", answerWhole("Fine."));
    const both = await (await playedPath(t, [odd, well])).ask();
    assert.deepEqual([both.row["outcome"], both.row["provider"], both.row["attempts"]], ["completed", "well", 2n]);
    const alone = await (await playedPath(t, [odd])).ask();
    assert.deepEqual(
      [alone.error?.code, alone.row["outcome"], alone.row["usage_source"]],
      ["provider_error", "failed", "estimated"],
    );
  });
}

test("a stream whose model ends with finish_reason error is cut, whatever closes it", async (t) => {
  const odd = await playProvider(t, "odd", stream(delta("Hi"), delta("", "chat-1", "error"), usageChunk(10, 1), DONE));
  const told = await (await playedPath(t, [odd])).ask({ stream: true });
  assert.deepEqual([told.row["outcome"], told.error?.code], ["truncated", "provider_error"]);
  assert.doesNotMatch(told.sse, /\[DONE\]/);
});

test("[DONE] behind an answer that never said that it has finished is a cut", async (t) => {
  const odd = await playProvider(t, "odd", stream(delta("Hi"), DONE));
  const told = await (await playedPath(t, [odd])).ask({ stream: true });
  assert.deepEqual([told.row["outcome"], told.error?.code], ["truncated", "provider_error"]);
  assert.doesNotMatch(told.sse, /\[DONE\]/);
});

const counting = (completion: number): string =>
  `data: {"id":"x","choices":[{"index":0,"delta":{"role":"assistant","content":""},"finish_reason":null}],"usage":{"prompt_tokens":10,"completion_tokens":${completion},"total_tokens":${10 + completion}}}\n\n`;

test("usage that is counted up before the first word commits to nothing: a cut there is another candidate's chance", async (t) => {
  const odd = await playProvider(t, "odd", ({ response }) => {
    opened(response).write(counting(0), () => setTimeout(() => response.destroy(), 20));
  });
  const well = await playProvider(t, "well", answerStream(["Fine."]));
  const { row, text } = await (await playedPath(t, [odd, well])).ask({ stream: true });
  assert.deepEqual([row["outcome"], row["provider"], text], ["completed", "well", "Fine."]);
});

test("usage without a word keeps no silent stream open", async (t) => {
  const odd = await playProvider(
    t,
    "odd",
    async ({ response }) => {
      opened(response).write(delta("Hi"));
      for (let turn = 0; turn < 40 && !response.destroyed; turn += 1) {
        response.write(counting(1));
        await pause(50);
      }
      response.destroy();
    },
    { timeouts: { idleMs: 200 } },
  );
  const { row, error } = await (await playedPath(t, [odd])).ask({ stream: true });
  assert.deepEqual([row["outcome"], error?.code], ["truncated", "provider_timeout"]);
});

test("an answer that is whole and counted does not wait for its connection to close", async (t) => {
  const odd = await playProvider(
    t,
    "odd",
    ({ response }) => void opened(response).write(delta("Hi") + delta("", "chat-1", "stop") + usageChunk(10, 1)),
    { timeouts: { idleMs: 60_000 } },
  );
  // With the idle time as the only bound, this test would take a minute.
  const { row, sse } = await (await playedPath(t, [odd])).ask({ stream: true });
  assert.equal(row["outcome"], "completed");
  assert.match(sse, /\[DONE\]\n\n$/);
});

test("the cost that a hedged stream tells is its row's, the loser's part included", async (t) => {
  const slow = await playProvider(t, "slow", hang, { perToken: 3n });
  const quick = await playProvider(t, "quick", answerStream(["Fine."]));
  const path = await playedPath(t, [slow, quick], { hedge: HEDGE });
  const policy = {
    name: "test",
    candidates: [],
    strategy: "order",
    maxPrice: undefined,
    appliesTo: [],
    hedge: HEDGE,
  } as const;
  path.services.hedgeOf(policy)!.spending.add(nanoUsd(1_000_000n));
  const { row, sse } = await path.ask({ stream: true });
  const { usage } = chunksOf(sse).findLast((chunk) => chunk["usage"]) as { usage: { cost_usd: number } };
  assert.equal(row["provider"], "quick");
  assert.equal(BigInt(Math.round(usage.cost_usd * 1e9)), row["cost_nano_usd"]);
  assert.ok((row["earlier_cost_nano_usd"] as bigint) > 0n);
});

test("an overloaded provider that says when to come back is left alone until then, and the caller is told when", async (t) => {
  const askedAt: number[] = [];
  const busy = await playProvider(t, "busy", (exchange) => {
    askedAt.push(performance.now());
    return exchange.turn === 1 ? refuse(503, { "retry-after": "1" })(exchange) : answerWhole("Fine.")(exchange);
  });
  const { row } = await (await playedPath(t, [busy], { maxRetries: 1 })).ask();
  assert.equal(row["outcome"], "completed");
  assert.ok(askedAt[1]! - askedAt[0]! >= 990);
  const away = await playProvider(t, "away", refuse(503, { "retry-after": "30" }));
  const { error } = await (await playedPath(t, [away], { maxRetries: 1 })).ask();
  assert.deepEqual([error?.code, error?.headers()["retry-after"]], ["provider_error", "30"]);
});

test("a rescue that asks the candidate that broke off takes from the provider's retries", async (t) => {
  const breaking = await playProvider(t, "breaking", breakStream(["Hello", " there"]));
  const path = await playedPath(t, [breaking], { maxRetries: 3 });
  const { connected, model } = breaking.candidate;
  const { retries } = path.services.health.targetOf(connected, model.id).provider;
  while (retries.takeRetry());
  const { row } = await path.ask({ stream: true, rescue: "restart" });
  assert.deepEqual([row["outcome"], row["attempts"]], ["truncated", 1n]);
});

test("a prompt that is too long is the caller's own mistake inside a 200 as well: one attempt, nothing charged", async (t) => {
  const strict = await playProvider(
    t,
    "strict",
    stream(
      'data: {"error":{"message":"too long","type":"invalid_request_error","code":"context_length_exceeded","param":"messages"}}\n\n',
    ),
  );
  const well = await playProvider(t, "well", answerStream(["Fine."]));
  const { row, error } = await (await playedPath(t, [strict, well])).ask({ stream: true });
  assert.deepEqual([error?.status, error?.extras.vendorCode], [400, "context_length_exceeded"]);
  assert.deepEqual([row["attempts"], costsOf(row)], [1n, [0n, 0n]]);
});

test("a 404 without a word of the vendor's is no caller's mistake, and free", async (t) => {
  const astray = await playProvider(t, "astray", plain("<h1>Not Found</h1>", 404, "text/html"));
  const well = await playProvider(t, "well", answerWhole("Fine."));
  const both = await (await playedPath(t, [astray, well])).ask();
  assert.deepEqual([both.row["outcome"], both.row["provider"]], ["completed", "well"]);
  assert.equal(both.row["earlier_cost_nano_usd"], 0n);
  const alone = await (await playedPath(t, [astray])).ask();
  assert.deepEqual([alone.error?.code, alone.error?.status], ["provider_error", 502]);
});

test("an empty list of tool calls is plain text: the stream can be gone on with", async (t) => {
  const said =
    'data: {"id":"x","choices":[{"index":0,"delta":{"content":"Hello there","tool_calls":[]},"finish_reason":null}]}\n\n';
  const breaking = await playProvider(t, "breaking", ({ response }) => {
    opened(response).write(said, () => setTimeout(() => response.destroy(), 20));
  });
  const well = await playProvider(t, "well", answerStream([" friend."]));
  const { row } = await (await playedPath(t, [breaking, well])).ask({ stream: true, rescue: "continue" });
  assert.deepEqual([row["outcome"], row["rescue"]], ["completed", "continue"]);
});
