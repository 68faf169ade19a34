import assert from "node:assert/strict";
import { connect } from "node:net";
import { afterEach, test } from "node:test";
import type { Fault } from "../src/faults.ts";
import { chat, contentOf, eventsOf, simulatorForTests } from "./client.ts";
import type { Answer } from "./client.ts";

const simulator = await simulatorForTests();
const { faults, served, openaiBaseUrl: openai, mistralBaseUrl: mistral } = simulator;

afterEach(() => {
  faults.clear();
  served.clear();
});

function strike(fault: Fault): void {
  faults.set({ vendor: "*", count: 1, fault });
}

function streamed(base = openai): Promise<Answer> {
  return chat(base, { stream: true });
}

/** Reads until the connection ends or `enough` holds, then leaves. */
async function readSome(
  response: Response,
  enough: (text: string) => boolean,
): Promise<{ text: string; broken: boolean }> {
  let text = "";
  try {
    for await (const chunk of (response.body ?? new ReadableStream()).pipeThrough(new TextDecoderStream())) {
      text += chunk;
      if (enough(text)) return { text, broken: false };
    }
    return { text, broken: false };
  } catch {
    return { text, broken: true };
  }
}

function open(base: string, body: object, signal?: AbortSignal): Promise<Response> {
  return fetch(`${base}/chat/completions`, {
    method: "POST",
    headers: { authorization: "Bearer k" },
    body: JSON.stringify({
      model: base === openai ? "gpt-4o" : "mistral-small-latest",
      messages: [{ role: "user", content: "Tea or coffee?" }],
      ...body,
    }),
    ...(signal === undefined ? {} : { signal }),
  });
}

test("status: the vendor's body by default, or the given one, with its headers", async () => {
  strike({ kind: "status", status: 429, retryAfter: 2 });
  const limited = await chat(openai, {});
  assert.deepEqual(
    [limited.status, limited.json.error.code, limited.headers.get("retry-after")],
    [429, "rate_limit_exceeded", "2"],
  );
  strike({ kind: "status", status: 429 });
  assert.deepEqual((await chat(mistral, {})).json, {
    object: "error",
    message: "Rate limit exceeded",
    type: "rate_limited",
    param: null,
    code: "1300",
  });
  strike({ kind: "status", status: 503, body: "gone fishing", headers: { "x-extra": "yes" } });
  const custom = await streamed();
  assert.deepEqual([custom.status, custom.text, custom.headers.get("x-extra")], [503, "gone fishing", "yes"]);
  assert.equal((await chat(openai, {})).status, 200);
  assert.deepEqual(
    served.list().map((entry) => entry.fault),
    ["status", "status", "status", undefined],
  );
});

test("status: Retry-After in seconds, in milliseconds and as a date", async () => {
  strike({ kind: "status", status: 503, headers: { "retry-after-ms": "1500" } });
  assert.equal((await chat(openai, {})).headers.get("retry-after-ms"), "1500");
  strike({ kind: "status", status: 429, retryAfterDate: 90 });
  const before = Date.now();
  const date = (await chat(mistral, {})).headers.get("retry-after") ?? "";
  assert.match(date, /^\w{3}, \d\d \w{3} \d{4} \d\d:\d\d:\d\d GMT$/u);
  const aheadMs = Date.parse(date) - before;
  assert.ok(aheadMs >= 90_000 && aheadMs < 100_000, `${aheadMs} ms`);
});

test("quota: insufficient_quota from OpenAI, limits of 0 from Mistral", async () => {
  strike({ kind: "quota" });
  const spent = await chat(openai, {});
  assert.deepEqual(
    [spent.status, spent.json.error.type, spent.json.error.code],
    [429, "insufficient_quota", "insufficient_quota"],
  );
  strike({ kind: "quota" });
  assert.equal((await chat(mistral, {})).headers.get("x-ratelimit-limit-req-minute"), "0");
});

test("no-allowance: a rate limit of 0 in the vendor's own headers", async () => {
  for (const [base, limit, remaining] of [
    [openai, "x-ratelimit-limit-requests", "x-ratelimit-remaining-requests"],
    [mistral, "x-ratelimit-limit-req-minute", "x-ratelimit-remaining-req-minute"],
  ] as const) {
    strike({ kind: "no-allowance" });
    const { status, headers } = await chat(base, { stream: true });
    assert.deepEqual([status, headers.get(limit), headers.get(remaining)], [429, "0", "0"]);
  }
});

test("refuse-content and context-length: 400 in the vendor's own form, and nothing billed", async () => {
  for (const stream of [true, false]) {
    strike({ kind: "refuse-content" });
    const refused = await chat(openai, { stream });
    assert.deepEqual([refused.status, refused.json.error.code], [400, "content_policy_violation"]);
    strike({ kind: "refuse-content" });
    const other = await chat(mistral, { stream });
    assert.deepEqual([other.status, other.json.object, typeof other.json.message], [400, "error", "string"]);
    strike({ kind: "context-length" });
    const long = await chat(openai, { stream });
    assert.deepEqual([long.status, long.json.error.code], [400, "context_length_exceeded"]);
    strike({ kind: "context-length" });
    const longer = await chat(mistral, { stream });
    assert.deepEqual([longer.status, longer.json.code], [400, "3051"]);
  }
  assert.ok(served.list().every(({ usage }) => usage.promptTokens === 0));
});

test("reset: the connection breaks before any header", async () => {
  strike({ kind: "reset" });
  await assert.rejects(
    chat(openai, {}),
    (error: Error) =>
      (error.cause as { code?: string }).code === "ECONNRESET" || /closed|reset/u.test(String(error.cause)),
  );
  assert.deepEqual(
    served.list().map(({ status, finished, usage }) => [status, finished, usage.completionTokens]),
    [[0, false, 0]],
  );
});

test("hang: nothing comes until the client leaves", async () => {
  strike({ kind: "hang" });
  const leaving = new AbortController();
  const answer = open(openai, {}, leaving.signal);
  await whenDrawn();
  leaving.abort();
  await assert.rejects(answer);
  const entry = await served.whenRecorded(({ fault }) => fault === "hang");
  assert.deepEqual([entry.aborted, entry.finished, entry.status], [true, false, 0]);
});

test("hang-after-headers: 200 and its headers, then nothing", async () => {
  for (const stream of [true, false]) {
    served.clear();
    strike({ kind: "hang-after-headers" });
    const leaving = new AbortController();
    const response = await open(mistral, { stream }, leaving.signal);
    assert.equal(response.status, 200);
    assert.match(response.headers.get("content-type") ?? "", stream ? /^text\/event-stream/u : /^application\/json/u);
    leaving.abort();
    const entry = await served.whenRecorded(({ fault }) => fault === "hang-after-headers");
    assert.deepEqual([entry.aborted, entry.finished, entry.usage.promptTokens], [true, false, 0]);
  }
});

test("heartbeat: comments and deltas that only name the role, never output, until the client leaves or the time is over", async () => {
  for (const base of [openai, mistral]) {
    strike({ kind: "heartbeat", everyMs: 1 });
    const leaving = new AbortController();
    const { text } = await readSome(
      await open(base, { stream: true }, leaving.signal),
      (read) => read.split("\n\n").length > 6,
    );
    leaving.abort();
    const parts = text.split("\n\n").filter((part) => part !== "");
    assert.deepEqual(
      parts.slice(0, 4).map((part) => part.startsWith(": ")),
      [true, false, true, false],
    );
    const deltas = eventsOf(text).filter((event) => typeof event === "object");
    assert.ok(deltas.length >= 2);
    for (const { choices } of deltas)
      assert.deepEqual(
        [choices[0].delta.role, choices[0].delta.content, choices[0].finish_reason],
        ["assistant", "", null],
      );
    const entry = await served.whenRecorded(({ fault, vendor }) => fault === "heartbeat" && base.includes(vendor));
    assert.deepEqual([entry.aborted, entry.usage.promptTokens, entry.usage.completionTokens], [true, 0, 0]);
  }
  served.clear();
  strike({ kind: "heartbeat", everyMs: 2, ms: 10 });
  const { text, broken } = await readSome(await open(openai, { stream: true }), () => false);
  assert.equal(broken, false);
  assert.doesNotMatch(text, /DONE|"finish_reason":"/u);
  assert.deepEqual(
    served.list().map(({ finished, aborted }) => [finished, aborted]),
    [[false, false]],
  );
});

test("heartbeat: of a plain answer, blank lines that never become one", async () => {
  strike({ kind: "heartbeat", everyMs: 2, ms: 20 });
  const { status, text } = await chat(openai, {});
  assert.equal(status, 200);
  assert.match(text, /^\n{2,}$/u);
});

test("trickle: so many tokens, then comments and never output again", async () => {
  strike({ kind: "trickle", afterTokens: 3, everyMs: 1 });
  const leaving = new AbortController();
  const { text } = await readSome(
    await open(openai, { stream: true }, leaving.signal),
    (read) => read.split(": keep-alive").length > 4,
  );
  leaving.abort();
  const beats = text.indexOf(": keep-alive");
  assert.equal(eventsOf(text.slice(0, beats)).length, 4);
  assert.match(text.slice(beats), /^(: keep-alive\n\n)+$/u);
  const entry = await served.whenRecorded(({ fault }) => fault === "trickle");
  assert.deepEqual([entry.aborted, entry.finished, entry.usage.completionTokens], [true, false, 3]);
  strike({ kind: "trickle", afterTokens: 0, everyMs: 2, ms: 10 });
  const plain = await chat(openai, {});
  assert.match(plain.text, /^\{"id".*\n$/su);
  assert.equal(plain.json, undefined);
});

/** The rule is spent once the request has met it; a second request would then be healthy. */
async function whenDrawn(): Promise<void> {
  while (faults.list().length > 0) await new Promise((resolve) => setImmediate(resolve));
}

test("slow-first-token: the time is the fault's and not the pace's", async () => {
  const slow = await simulatorForTests({ firstTokenMs: 60_000 });
  slow.faults.set({ vendor: "openai", fault: { kind: "slow-first-token", ms: 30 } });
  const start = performance.now();
  assert.equal((await chat(slow.openaiBaseUrl, { stream: true })).status, 200);
  assert.ok(performance.now() - start >= 29);
});

test("slow-first-token with everyMs: signs of life fill the wait, and the answer is whole", async () => {
  strike({ kind: "slow-first-token", ms: 30, everyMs: 2 });
  const { text } = await streamed();
  assert.match(text, /^(: keep-alive\n\n){2,}data: /u);
  assert.ok(text.endsWith("data: [DONE]\n\n"));
  strike({ kind: "slow-first-token", ms: 30, everyMs: 2 });
  const plain = await chat(openai, {});
  assert.match(plain.text, /^\n{2,}\{/u);
  assert.equal(plain.json.choices[0].finish_reason, "stop");
});

test("stall: so many tokens, then silence on an open connection", async () => {
  for (const base of [openai, mistral]) {
    strike({ kind: "stall", afterTokens: 3 });
    const leaving = new AbortController();
    const response = await open(base, { stream: true }, leaving.signal);
    const { text } = await readSome(response, (read) => eventsOf(read).length === 4);
    leaving.abort();
    const entry = await served.whenRecorded(({ fault, vendor }) => fault === "stall" && base.includes(vendor));
    assert.equal(eventsOf(text).length, 4);
    assert.deepEqual([entry.aborted, entry.finished, entry.usage.completionTokens], [true, false, 3]);
    assert.ok(entry.usage.promptTokens > 0);
  }
});

test("cut: so many tokens, then a broken connection; past the last token the end is what is missing", async () => {
  for (const [afterTokens, least] of [
    [0, 0],
    [3, 3],
    [100_000, 30],
  ] as const) {
    served.clear();
    strike({ kind: "cut", afterTokens });
    const { text, broken } = await readSome(await open(openai, { stream: true }), () => false);
    assert.ok(broken);
    const events = eventsOf(text);
    assert.ok(events.every((event) => event.choices[0].finish_reason === null));
    const [entry] = served.list();
    assert.equal(entry?.usage.completionTokens, events.length - 1);
    assert.ok(events.length - 1 >= least);
    assert.deepEqual([entry?.finished, entry?.aborted], [false, false]);
  }
});

test("cut, reset and goodbye: the connection closes inside the message, is reset, or ends the message as if it were whole", async () => {
  for (const stream of [true, false]) {
    strike({ kind: "cut", afterTokens: 3 });
    const cut = await wireOf({ stream });
    assert.deepEqual([cut.error, cut.received.endsWith("0\r\n\r\n")], [undefined, false]);
    strike({ kind: "reset", afterTokens: 3 });
    assert.equal((await wireOf({ stream })).error, "ECONNRESET");
    strike({ kind: "goodbye", afterTokens: 3 });
    const goodbye = await wireOf({ stream });
    assert.deepEqual([goodbye.error, goodbye.received.endsWith("0\r\n\r\n")], [undefined, true]);
    assert.doesNotMatch(goodbye.received, /DONE|"finish_reason":"/u);
    strike({ kind: "goodbye", afterTokens: 3 });
    const { text, broken } = await readSome(await open(openai, { stream }), () => false);
    assert.equal(broken, false, "no HTTP client can see that something is missing");
    if (stream) assert.equal(eventsOf(text).length, 4);
    else assert.throws(() => JSON.parse(text));
  }
  assert.ok(served.list().every(({ finished, aborted }) => !finished && !aborted));
});

test("malformed-chunk: one event is not JSON, the rest goes on", async () => {
  strike({ kind: "malformed-chunk", afterTokens: 2 });
  const events = eventsOf((await streamed()).text);
  assert.equal(typeof events[3], "string");
  assert.equal(events.at(-1), "[DONE]");
});

test("missing-done: everything but the end mark", async () => {
  strike({ kind: "missing-done" });
  assert.equal(eventsOf((await streamed()).text).at(-1).choices[0].finish_reason, "stop");
});

test("error-event: the vendor's error within the stream, which then ends", async () => {
  for (const base of [openai, mistral]) {
    strike({ kind: "error-event", afterTokens: 2 });
    const events = eventsOf((await streamed(base)).text);
    assert.equal(events.length, 4);
    assert.equal(typeof events.at(-1).error.message, "string");
  }
  strike({ kind: "error-event", afterTokens: 0, body: { error: { code: 429 } } });
  assert.deepEqual(eventsOf((await streamed()).text).at(-1), { error: { code: 429 } });
});

test("split: the same bytes in pieces of n, characters cut apart", async () => {
  const messages = [{ role: "user", content: "お茶とコーヒーの違いは？" }];
  const whole = contentOf(eventsOf((await chat(openai, { stream: true, messages })).text));
  strike({ kind: "split", bytes: 7 });
  assert.equal(contentOf(eventsOf((await chat(openai, { stream: true, messages })).text)), whole);
  strike({ kind: "split", bytes: 7 });
  assert.deepEqual((await rawChunkSizes({ stream: true })).slice(0, 50), Array(50).fill(7));
});

/** Everything that stands on the wire, and the error with which the connection ended. */
function wireOf(body: object): Promise<{ received: string; error: string | undefined }> {
  const { port, hostname } = new URL(openai);
  const payload = JSON.stringify({ model: "gpt-4o", messages: [{ role: "user", content: "Tea" }], ...body });
  return new Promise((resolve) => {
    let received = "";
    let error: string | undefined;
    const socket = connect(Number(port), hostname, () => {
      socket.write(
        `POST /openai/v1/chat/completions HTTP/1.1\r\nhost: x\r\nconnection: close\r\nauthorization: Bearer k\r\ncontent-length: ${Buffer.byteLength(payload)}\r\n\r\n${payload}`,
      );
    });
    socket
      .setEncoding("latin1")
      .on("data", (data: string) => (received += data))
      .on("error", (thrown: NodeJS.ErrnoException) => (error = thrown.code));
    socket.on("close", () => resolve({ received, error }));
  });
}

/** Sizes of the HTTP chunks as they stand on the wire. */
async function rawChunkSizes(body: object): Promise<number[]> {
  const { received } = await wireOf(body);
  const chunks = received.slice(received.indexOf("\r\n\r\n") + 4);
  const sizes: number[] = [];
  for (let at = 0; at < chunks.length;) {
    const size = Number.parseInt(chunks.slice(at), 16);
    sizes.push(size);
    at = chunks.indexOf("\r\n", at) + 2 + size + 2;
  }
  return sizes;
}

test("slow-body: the body drips, byte by byte or in pieces, with a pause after each", async () => {
  strike({ kind: "slow-body", everyMs: 1, bytes: 100 });
  const start = performance.now();
  const plain = await chat(openai, {});
  assert.equal(plain.json.choices[0].finish_reason, "stop");
  assert.ok(performance.now() - start >= Math.floor(plain.text.length / 100));
  strike({ kind: "slow-body", everyMs: 1, bytes: 500 });
  assert.equal(eventsOf((await streamed()).text).at(-1), "[DONE]");
  strike({ kind: "slow-body", everyMs: 1 });
  const leaving = new AbortController();
  const { text } = await readSome(await open(openai, {}, leaving.signal), (read) => read.length >= 5);
  leaving.abort();
  assert.ok(text.length < 50, text);
  const entry = await served.whenRecorded(({ fault, aborted }) => fault === "slow-body" && aborted);
  assert.equal(entry.finished, false);
});

test("error-body: 200 with an error and no choices; of a stream, as its only event", async () => {
  for (const base of [openai, mistral]) {
    strike({ kind: "error-body" });
    const plain = await chat(base, {});
    assert.deepEqual([plain.status, typeof plain.json.error.message, plain.json.choices], [200, "string", undefined]);
    strike({ kind: "error-body" });
    const stream = await streamed(base);
    const events = eventsOf(stream.text);
    assert.deepEqual([stream.status, events.length, typeof events[0].error.message], [200, 1, "string"]);
  }
  assert.ok(served.list().every(({ usage }) => usage.promptTokens === 0));
});

test("empty-stream and unusable-body: 200 with nothing to use", async () => {
  strike({ kind: "empty-stream" });
  const empty = await streamed();
  assert.deepEqual([empty.status, empty.text], [200, ""]);
  strike({ kind: "unusable-body" });
  assert.match((await chat(openai, {})).text, /^<!doctype html>/u);
  strike({ kind: "unusable-body", body: "null" });
  assert.deepEqual([(await streamed()).text, served.totals().openai.completionTokens], ["null", 0]);
});

test("a rule keeps to its vendor, its count and its share, and a refused request does not use it up", async () => {
  faults.set({ vendor: "mistral", count: 2, fault: { kind: "status", status: 500 } });
  assert.equal((await chat(openai, {})).status, 200);
  assert.equal((await chat(mistral, { colour: 1 })).status, 422);
  assert.deepEqual(
    [(await chat(mistral, {})).status, (await chat(mistral, {})).status, (await chat(mistral, {})).status],
    [500, 500, 200],
  );
  const strikes = async (): Promise<number[]> => {
    const fresh = await simulatorForTests({ seed: 9 });
    fresh.faults.set({ vendor: "*", share: 0.5, fault: { kind: "status", status: 500 } });
    const statuses = [];
    for (let turn = 0; turn < 20; turn += 1) statuses.push((await chat(fresh.openaiBaseUrl, {})).status);
    return statuses;
  };
  const [first, second] = await Promise.all([strikes(), strikes()]);
  assert.deepEqual(first, second);
  assert.ok(first?.includes(500) && first.includes(200));
});

test("one rule is taken away by its id, once, and the others stay in force", async () => {
  const first = faults.set({ vendor: "openai", fault: { kind: "status", status: 500 } });
  const second = faults.set({ vendor: "*", fault: { kind: "status", status: 503 } });
  assert.equal((await chat(openai, {})).status, 500);
  assert.equal(faults.unset(first.id), true);
  assert.equal(faults.unset(first.id), false);
  assert.equal((await chat(openai, {})).status, 503);
  assert.deepEqual(
    faults.list().map(({ id, struck }) => [id, struck]),
    [[second.id, 1]],
  );
});

test("a client that leaves a paced answer is billed for what was produced", async () => {
  const slow = await simulatorForTests({ tokensPerSecond: 1 });
  for (const body of [{ stream: true }, { stream: true, n: 2 }]) {
    slow.served.clear();
    const leaving = new AbortController();
    const response = await fetch(`${slow.openaiBaseUrl}/chat/completions`, {
      method: "POST",
      headers: { authorization: "Bearer k" },
      body: JSON.stringify({ model: "gpt-4o", messages: [{ role: "user", content: "Tea" }], ...body }),
      signal: leaving.signal,
    });
    await readSome(response, (text) => contentOf(eventsOf(text)) !== "");
    leaving.abort();
    const entry = await slow.served.whenRecorded(() => true);
    assert.deepEqual([entry.aborted, entry.finished, entry.usage.completionTokens], [true, false, 1]);
    assert.equal(typeof entry.abortedAtMs, "number");
  }
});
