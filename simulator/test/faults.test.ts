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
});

test("split: the same bytes in pieces of n, characters cut apart", async () => {
  const messages = [{ role: "user", content: "お茶とコーヒーの違いは？" }];
  const whole = contentOf(eventsOf((await chat(openai, { stream: true, messages })).text));
  strike({ kind: "split", bytes: 7 });
  assert.equal(contentOf(eventsOf((await chat(openai, { stream: true, messages })).text)), whole);
  strike({ kind: "split", bytes: 7 });
  assert.deepEqual((await rawChunkSizes({ stream: true })).slice(0, 50), Array(50).fill(7));
});

/** Sizes of the HTTP chunks as they stand on the wire. */
function rawChunkSizes(body: object): Promise<number[]> {
  const { port, hostname } = new URL(openai);
  const payload = JSON.stringify({ model: "gpt-4o", messages: [{ role: "user", content: "Tea" }], ...body });
  return new Promise((resolve, reject) => {
    let received = "";
    const socket = connect(Number(port), hostname, () => {
      socket.write(
        `POST /openai/v1/chat/completions HTTP/1.1\r\nhost: x\r\nconnection: close\r\nauthorization: Bearer k\r\ncontent-length: ${Buffer.byteLength(payload)}\r\n\r\n${payload}`,
      );
    });
    socket
      .setEncoding("latin1")
      .on("data", (data: string) => (received += data))
      .on("error", reject);
    socket.on("end", () => {
      const chunks = received.slice(received.indexOf("\r\n\r\n") + 4);
      const sizes: number[] = [];
      for (let at = 0; at < chunks.length;) {
        const size = Number.parseInt(chunks.slice(at), 16);
        sizes.push(size);
        at = chunks.indexOf("\r\n", at) + 2 + size + 2;
      }
      resolve(sizes);
    });
  });
}

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
