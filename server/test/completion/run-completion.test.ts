import assert from "node:assert/strict";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { json } from "node:stream/consumers";
import { type TestContext, test } from "node:test";
import { readCompletionRequest } from "../../src/completion/completion-request.ts";
import type { Candidate } from "../../src/completion/model-router.ts";
import { type CompletionCall, type CompletionServices, runCompletion } from "../../src/completion/run-completion.ts";
import { BrikkError } from "../../src/errors.ts";
import { createTokenCounter } from "../../src/ledger/token-count.ts";
import { parseJsonDocument } from "../../src/lib/json-document.ts";
import { createOpenAiCompatible } from "../../src/providers/openai-compatible/openai-compatible.ts";
import { createTransport } from "../../src/providers/transport.ts";
import { type Database, StorageUnavailable } from "../../src/storage/database.ts";
import { callServices, connectedTo } from "./call-services.ts";
import { createTestClock } from "../lib/test-clock.ts";
import {
  assertSound,
  coded,
  eventually,
  newKey,
  openTestLedger,
  priced,
  reserve,
  settled,
} from "../ledger/ledger-fixture.ts";
import { scratchDatabase } from "../storage/scratch.ts";

const unused = (): never => assert.fail("Nothing is to be streamed.");

const UNRANKED = { reason: "test", reasons: [], excluded: [], policy: undefined };

/** The completion path over a database and a provider that keeps what it is asked and is always overloaded, unless it has answers. */
async function completionPath(t: TestContext, database: Database, answers: readonly object[] = []) {
  const asked: Record<string, unknown>[] = [];
  const server = createServer(async (request, response) => {
    asked.push((await json(request)) as Record<string, unknown>);
    const answer = answers[asked.length - 1];
    if (answer) response.writeHead(200, { "content-type": "application/json" }).end(JSON.stringify(answer));
    else response.writeHead(503).end();
  }).listen(0, "127.0.0.1");
  await new Promise((resolve) => server.once("listening", resolve));
  const origin = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  const transport = createTransport({
    provider: "openai",
    origin,
    connectTimeoutMs: 1_000,
    maxConnections: 1,
    allowPrivateAddresses: true,
  });
  const provider = createOpenAiCompatible({
    name: "openai",
    baseUrl: origin,
    apiKey: "k",
    defaultModel: "m",
    simulated: true,
  });
  const clock = createTestClock();
  const candidate: Candidate = { connected: connectedTo(provider, transport), model: priced(1n) };
  const ledger = await openTestLedger(t, database, { clock });
  const tokenCounter = createTokenCounter();
  t.after(async () => {
    await Promise.all([tokenCounter.close(), transport.close()]);
    server.closeAllConnections();
    server.close();
  });
  const services: CompletionServices = {
    ledger,
    tokenCounter,
    ...callServices(clock),
    clock,
    record: () => undefined,
  };
  const document = parseJsonDocument(
    Buffer.from('{"model":"m","max_tokens":20,"messages":[{"role":"user","content":"Hello there, how are you?"}]}'),
  );
  const call = (more: Partial<CompletionCall>): CompletionCall => ({
    key: newKey(1_000_000n),
    requestId: "r",
    traceId: "t",
    request: readCompletionRequest("chat", document),
    chooseRoute: () => ({ candidates: [candidate], ...UNRANKED }),
    sink: {
      opened: () => undefined,
      started: false,
      start: unused,
      hold: () => undefined,
      write: unused,
      end: unused,
      fail: unused,
    },
    rescue: undefined,
    signal: new AbortController().signal,
    ...more,
  });
  return { services, call, clock, candidate, asked };
}

test("a caller who left before anybody was asked pays nothing, and nothing stays set aside", async (t) => {
  const { database } = await scratchDatabase(t);
  const { services, call, asked } = await completionPath(t, database);
  const leaving = new AbortController();
  const request = call({ signal: leaving.signal });
  const answered = runCompletion(services, request);
  // It waits for its first lease.
  leaving.abort(new BrikkError("client_closed_request", "The caller left."));
  const { report } = await answered;
  assert.deepEqual([report!.attempts, report!.receipt.cost, asked], [0, 0n, []]);
  const [row] = await database.all({
    sql: "select outcome, attempts, usage_source, cost_nano_usd, fresh_input_tokens from usage_events",
    params: [],
  });
  assert.deepEqual(row, {
    outcome: "cancelled",
    attempts: 0n,
    usage_source: "none",
    cost_nano_usd: 0n,
    fresh_input_tokens: 0n,
  });
  assert.equal(services.ledger.standing(request.key).budgets[0]!.reserved, 0n);
});

test("while the database is away no refusal waits for it: the answer is storage_unavailable", async (t) => {
  const { database } = await scratchDatabase(t);
  let away = false;
  const { services, call, clock } = await completionPath(t, {
    ...database,
    transact: (statements) => (away ? Promise.reject(new StorageUnavailable("gone")) : database.transact(statements)),
  });
  const { ledger } = services;
  const inHand = await reserve(ledger, newKey(1_000n), 100, clock.now());
  away = true;
  const settling = inHand.settle(settled(10));
  await eventually(() => !ledger.writable);
  const chooseRoute = (): never => {
    throw new BrikkError("model_not_found", "No such model.");
  };
  const answer = runCompletion(services, call({ chooseRoute })).then(
    () => assert.fail(),
    (error: unknown) => error,
  );
  const outcome = await Promise.race([answer, new Promise((resolve) => setTimeout(resolve, 1_000, "nothing"))]);
  away = false;
  await settling;
  assert.ok(coded("storage_unavailable")(outcome), String(outcome));
  // And when it is back the refusal is the request's own again, and has its row.
  await assert.rejects(runCompletion(services, call({ chooseRoute })), coded("model_not_found"));
});

test("a shortened answer is asked of no candidate at more than it can write", async (t) => {
  const { database } = await scratchDatabase(t);
  const { services, call, candidate, asked } = await completionPath(t, database);
  const [longer, shorter] = [4_000, 300].map((maxOutputTokens) => ({
    ...candidate,
    model: { ...candidate.model, maxOutputTokens },
  })) as [Candidate, Candidate];
  const document = parseJsonDocument(Buffer.from('{"model":"m","messages":[{"role":"user","content":"Hi"}]}'));
  const request = readCompletionRequest("chat", document);
  const chooseRoute = () => ({ candidates: [longer, shorter] as const, ...UNRANKED });
  await assert.rejects(
    runCompletion(services, call({ key: newKey(1_000n), request, chooseRoute })),
    coded("provider_error"),
  );
  const limits = asked.map((body) => body["max_completion_tokens"]);
  assert.deepEqual(limits, [1_000 - document.bytes.length, 300]);
});

const answerOf = (tokens: number, choices: readonly object[]): object => ({
  choices,
  usage: { prompt_tokens: tokens, completion_tokens: 0, total_tokens: tokens },
});
const USELESS = answerOf(150, []);
const WHOLE = answerOf(140, [{ index: 0, message: { role: "assistant", content: "Fine." }, finish_reason: "stop" }]);

test("an answer that was of no use is paid for beside the one of whoever served then: the vendors bill both", async (t) => {
  const { database } = await scratchDatabase(t);
  const { services, call, candidate, asked } = await completionPath(t, database, [USELESS, WHOLE]);
  const dearer: Candidate = { ...candidate, model: priced(3n) };
  const request = call({ chooseRoute: () => ({ candidates: [dearer, candidate], ...UNRANKED }) });
  const { report } = await runCompletion(services, request);
  assert.equal(asked.length, 2);
  assert.deepEqual([report!.receipt.cost, report!.fallback], [3n * 150n + 140n, true]);
  const [row] = await database.all({
    sql: "select outcome, attempts, fresh_input_tokens, cost_nano_usd, earlier_cost_nano_usd from usage_events",
    params: [],
  });
  assert.deepEqual(row, {
    outcome: "completed",
    attempts: 2n,
    fresh_input_tokens: 140n,
    cost_nano_usd: 590n,
    earlier_cost_nano_usd: 450n,
  });
  await assertSound(database);
});

test("where the budget does not pay for a second answer nobody else is asked, and the first is paid for", async (t) => {
  const { database } = await scratchDatabase(t);
  const { services, call, candidate, asked } = await completionPath(t, database, [USELESS, WHOLE]);
  // The worst case of one is over 100.
  const once = 200n;
  const request = call({
    key: newKey(once),
    chooseRoute: () => ({ candidates: [candidate, candidate, { ...candidate }], ...UNRANKED }),
  });
  await assert.rejects(runCompletion(services, request), coded("provider_error"));
  assert.equal(asked.length, 1);
  const [row] = await database.all({ sql: "select outcome, cost_nano_usd from usage_events", params: [] });
  assert.deepEqual(row, { outcome: "failed", cost_nano_usd: 150n });
  await assertSound(database);
});

test("a caller who leaves between two attempts pays for the first one once, and nobody else is asked", async (t) => {
  const { database } = await scratchDatabase(t);
  const { services, call, candidate, asked } = await completionPath(t, database, [{ choices: [] }, WHOLE]);
  const leaving = new AbortController();
  const request = call({
    chooseRoute: () => ({ candidates: [candidate, { ...candidate }], ...UNRANKED }),
    signal: leaving.signal,
  });
  const { tokenCounter } = services;
  // The first answer says nothing of its usage, so it is counted before the next candidate is asked.
  const counting = {
    ...tokenCounter,
    count: (texts: readonly string[]): Promise<number> => {
      leaving.abort(new BrikkError("client_closed_request", "The caller left."));
      return tokenCounter.count(texts);
    },
  };
  const { report } = await runCompletion({ ...services, tokenCounter: counting }, request);
  assert.deepEqual([asked.length, report!.attempts], [1, 1]);
  const [row] = await database.all({
    sql: "select outcome, usage_source, cost_nano_usd, fresh_input_tokens, earlier_cost_nano_usd from usage_events",
    params: [],
  });
  // One nano-USD a token.
  assert.deepEqual(row, {
    outcome: "cancelled",
    usage_source: "estimated",
    cost_nano_usd: row!["fresh_input_tokens"],
    fresh_input_tokens: row!["fresh_input_tokens"],
    earlier_cost_nano_usd: 0n,
  });
  const cost = row?.["cost_nano_usd"];
  assert.ok(typeof cost === "bigint" && cost > 0n);
  await assertSound(database);
});
