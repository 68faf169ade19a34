import assert from "node:assert/strict";
import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import type { AddressInfo, Socket } from "node:net";
import { after, before, beforeEach, test } from "node:test";
import { Agent, request } from "undici";
import type { Row } from "../../src/storage/database.ts";
import { type GatewayUnderTest, startGateway } from "../harness/gateway-under-test.ts";

/** A provider that does what a test tells it to, over real HTTP. */
interface ScriptedProvider {
  readonly baseUrl: string;
  /** What came since the script was given. */
  readonly received: { path: string; headers: IncomingMessage["headers"]; body: Buffer }[];
  play(script: Script): void;
  close(): Promise<void>;
}
type Script = (response: ServerResponse, attempt: number) => unknown;

async function startProvider(): Promise<ScriptedProvider> {
  let script: Script = (response) => response.writeHead(500).end();
  let received: ScriptedProvider["received"] = [];
  const server = createServer((incoming, response) => {
    response.socket?.setNoDelay(true);
    const chunks: Buffer[] = [];
    incoming.on("data", (chunk: Buffer) => chunks.push(chunk));
    incoming.on("end", () => {
      received.push({ path: incoming.url ?? "", headers: incoming.headers, body: Buffer.concat(chunks) });
      script(response, received.length);
    });
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  return {
    baseUrl: `http://127.0.0.1:${(server.address() as AddressInfo).port}/v1`,
    get received() {
      return received;
    },
    play(next) {
      received = [];
      script = next;
    },
    close: () =>
      new Promise((resolve) => {
        server.close(() => resolve());
        server.closeAllConnections();
      }),
  };
}

const sse = (response: ServerResponse): ServerResponse =>
  response.writeHead(200, { "content-type": "text/event-stream" });
/**
 * Each piece is an HTTP chunk of its own, which a client's parser hands on apart however TCP joins them. Written past the
 * response, because node joins the writes of one turn into one chunk.
 */
const replay =
  (...pieces: readonly (Buffer | string)[]): Script =>
  (response) => {
    sse(response).flushHeaders();
    const chunks = pieces.filter((piece) => piece.length > 0).map((piece) => Buffer.from(piece));
    response.socket?.write(
      Buffer.concat(
        chunks.flatMap((piece) => [Buffer.from(`${piece.length.toString(16)}\r\n`), piece, Buffer.from("\r\n")]),
      ),
    );
    response.end();
  };
const answerJson =
  (status: number, body: unknown, headers: Record<string, string> = {}): Script =>
  (response) =>
    void response.writeHead(status, { "content-type": "application/json", ...headers }).end(JSON.stringify(body));

let openai: ScriptedProvider;
let mistral: ScriptedProvider;
let gateway: GatewayUnderTest;
/** Waits half a second for a provider, and no longer; for the tests in which one is silent. */
let hasty: GatewayUnderTest;
let agent: Agent;
let lastRequest = 0;

before(async () => {
  openai = await startProvider();
  mistral = await startProvider();
  agent = new Agent();
  const providers = { openai: openai.baseUrl, mistral: mistral.baseUrl };
  // Fallbacks only: whoever failed is not asked again.
  gateway = await startGateway({ providers, environment: { PROVIDER_MAX_RETRIES: "0" } });
  hasty = await startGateway({
    providers,
    environment: { PROVIDER_TIMEOUT_SECONDS: "0.5", PROVIDER_FIRST_TOKEN_TIMEOUT_SECONDS: "0.5" },
  });
});
beforeEach(() => {
  // What one test broke is not to be kept away from in the next.
  gateway.gateway.health.reset();
  hasty.gateway.health.reset();
});
after(async () => {
  await Promise.all([gateway.close(), hasty.close()]);
  await Promise.all([agent.close(), openai.close(), mistral.close()]);
});

interface Call {
  readonly requestId: string;
  readonly status: number;
  readonly headers: Record<string, string | string[] | undefined>;
  readonly body: Awaited<ReturnType<typeof request>>["body"];
}
const MESSAGES = [{ role: "user", content: "How are you?" }];

async function call(body: object | string, to = gateway): Promise<Call> {
  const requestId = `streams-${++lastRequest}`;
  const answer = await request(`${to.url}/v1/chat/completions`, {
    method: "POST",
    dispatcher: agent,
    headers: { "content-type": "application/json", "x-request-id": requestId },
    body: typeof body === "string" ? body : JSON.stringify({ model: "gpt-4o-mini", messages: MESSAGES, ...body }),
  });
  return { requestId, status: answer.statusCode, headers: answer.headers, body: answer.body };
}

const whole = async ({ body }: Call): Promise<Buffer> => Buffer.from(await body.arrayBuffer());
const errorOf = async (answer: Call): Promise<Record<string, unknown>> =>
  ((await answer.body.json()) as { error: Record<string, unknown> }).error;

/** The one row of the request. */
async function rowOf({ requestId }: Call, on = gateway): Promise<Row> {
  const rows = await on.all(`select * from usage_events where request_id = '${requestId}'`);
  assert.equal(rows.length, 1, `${requestId} has ${rows.length} rows`);
  return rows[0]!;
}

/** A recorded stream: its events, and which of them is the usage chunk that only those see who ask for it. */
interface Recording {
  readonly name: string;
  readonly events: readonly string[];
  readonly usageAt: number;
}

const chunk = (delta: object, finish: string | null = null): object => ({
  id: "c-1",
  object: "chat.completion.chunk",
  created: 1,
  model: "gpt-4o-mini",
  choices: [{ index: 0, delta, finish_reason: finish }],
  usage: null,
});
const USAGE = {
  prompt_tokens: 1_200,
  completion_tokens: 77,
  total_tokens: 1_277,
  prompt_tokens_details: { cached_tokens: 1_024 },
  completion_tokens_details: { reasoning_tokens: 5 },
};
const usageChunk = {
  id: "c-1",
  object: "chat.completion.chunk",
  created: 1,
  model: "gpt-4o-mini",
  choices: [],
  usage: USAGE,
};
/** gpt-4o-mini: 0.15, 0.075 and 0.60 USD per million tokens; reckoned here by hand. */
const COST_NANO_USD = 176n * 150n + 1_024n * 75n + 77n * 600n;
const COST_USD = Number(COST_NANO_USD) / 1e9;
const event = (data: object | string, end = "\n"): string =>
  `data: ${typeof data === "string" ? data : JSON.stringify(data)}${end}${end}`;

const plain: Recording = {
  name: "multi-byte text, LF",
  usageAt: 4,
  events: [
    event(chunk({ role: "assistant", content: "" })),
    event(chunk({ content: "Ça va — 日本語 🎉" })),
    event('{"choices":[{"index":0,"delta":{"content":"\\u00e9 \\ud83c\\udf89"}}]}'),
    event(chunk({}, "stop")),
    event(usageChunk),
    event("[DONE]"),
  ],
};
const crlf: Recording = {
  name: "CRLF, comments, further fields, data over several lines",
  usageAt: 5,
  events: [
    ": OPENROUTER PROCESSING\r\n\r\n",
    `event: delta\r\nid: 1\r\n${event(chunk({ role: "assistant", content: "é" }), "\r\n")}`,
    ": ping\r\n\r\n",
    'data: {"choices":[{"index":0,\r\ndata: "delta":{"content":"日🎉"},"finish_reason":null}]}\r\n\r\n',
    event(chunk({}, "stop"), "\r\n"),
    `: nearly\r\n${event(usageChunk, "\r\n")}`,
    "data:[DONE]\r\n\r\n",
  ],
};
const mixed: Recording = {
  name: "LF and CRLF mixed, tool call, no space behind the colon",
  usageAt: 3,
  events: [
    `data:${JSON.stringify(chunk({ role: "assistant", content: null, tool_calls: [{ index: 0, id: "call_1", type: "function", function: { name: "météo", arguments: '{"a":1}' } }] }))}\r\n\n`,
    "\n",
    `data:${JSON.stringify(chunk({}, "tool_calls"))}\n\r\n`,
    `data:${JSON.stringify(usageChunk)}\n\n`,
    "data: [DONE]\n\n",
  ],
};

/** What the caller must get: written down here, not taken from the gateway. */
function expectedBytes({ events, usageAt }: Recording, wantsUsage: boolean): string {
  const costed = event({ ...usageChunk, usage: { ...USAGE, cost_usd: COST_USD } });
  return [
    ...events.slice(0, -1).flatMap((text, index) => (index !== usageAt ? [text] : wantsUsage ? [costed] : [])),
    "data: [DONE]\n\n",
  ].join("");
}

async function assertAllMetered(calls: readonly Call[]): Promise<void> {
  const rows = await gateway.all(
    "select request_id, outcome, status, usage_source, fresh_input_tokens, cached_input_tokens, output_tokens, reasoning_tokens, cost_nano_usd, attempts, simulated from usage_events",
  );
  const byRequest = Map.groupBy(rows, (row) => String(row["request_id"]));
  for (const { requestId } of calls) {
    assert.deepEqual(byRequest.get(requestId), [
      {
        request_id: requestId,
        outcome: "completed",
        status: 200n,
        usage_source: "exact",
        fresh_input_tokens: 176n,
        cached_input_tokens: 1_024n,
        output_tokens: 77n,
        reasoning_tokens: 5n,
        cost_nano_usd: COST_NANO_USD,
        attempts: 1n,
        simulated: 1n,
      },
    ]);
  }
}

const asking = (wantsUsage: boolean): object => ({
  stream: true,
  ...(wantsUsage ? { stream_options: { include_usage: true } } : {}),
});

test("a replayed stream reaches a client cut where the test cuts it", async () => {
  openai.play(replay("a\r", "\nb", "c"));
  const seen: string[] = [];
  const ended = Promise.withResolvers<void>();
  agent.dispatch(
    { origin: new URL(openai.baseUrl).origin, path: "/", method: "POST" },
    {
      onRequestStart: () => undefined,
      onResponseStart: () => undefined,
      onResponseData: (_, piece) => seen.push(piece.toString("utf8")),
      onResponseEnd: () => ended.resolve(),
      onResponseError: (_, error) => ended.reject(error),
    },
  );
  await ended.promise;
  assert.deepEqual(seen, ["a\r", "\nb", "c"]);
});

for (const recording of [plain, crlf, mixed]) {
  for (const wantsUsage of [false, true]) {
    test(`cut at every byte boundary, ${wantsUsage ? "with usage asked for" : "without asking for usage"}, the caller's bytes and the metered usage are right: ${recording.name}`, async () => {
      const bytes = Buffer.from(recording.events.join(""));
      const expected = expectedBytes(recording, wantsUsage);
      const calls: Call[] = [];
      for (let place = 0; place <= bytes.length; place++) {
        openai.play(replay(bytes.subarray(0, place), bytes.subarray(place)));
        const answer = await call(asking(wantsUsage));
        calls.push(answer);
        assert.equal((await whole(answer)).toString("utf8"), expected, `cut at ${place}`);
      }
      openai.play(replay(...[...bytes].map((byte) => Buffer.from([byte]))));
      const answer = await call(asking(wantsUsage));
      calls.push(answer);
      assert.equal((await whole(answer)).toString("utf8"), expected, "every byte by itself");
      await assertAllMetered(calls);
    });
  }
}

test("an event of over 1 MB passes whole wherever it is cut", async () => {
  const long = "日本語🎉 text ".repeat(60_000);
  const recording: Recording = {
    ...plain,
    events: [
      plain.events[0]!,
      event(chunk({ content: long })),
      event(chunk({}, "stop")),
      event(usageChunk),
      event("[DONE]"),
    ],
    usageAt: 3,
  };
  const bytes = Buffer.from(recording.events.join(""));
  assert.ok(bytes.length > 1_048_576);
  const expected = expectedBytes(recording, true);
  const head = recording.events[0]!.length;
  const big = Buffer.byteLength(recording.events[1]!);
  const places = [
    1,
    head - 1,
    head,
    head + 1,
    head + 6,
    head + 65_536,
    head + 262_143,
    head + 500_000,
    head + 500_001,
    head + 500_002,
    head + 500_003,
    head + 1_048_576,
    head + big - 2,
    head + big - 1,
    head + big,
    head + big + 1,
    bytes.length - 1,
  ];
  const calls: Call[] = [];
  const run = async (pieces: Buffer[], what: string): Promise<void> => {
    openai.play(replay(...pieces));
    const answer = await call(asking(true));
    calls.push(answer);
    assert.ok((await whole(answer)).toString("utf8") === expected, what);
  };
  for (const place of places) await run([bytes.subarray(0, place), bytes.subarray(place)], `cut at ${place}`);
  const small: Buffer[] = [];
  for (let start = 0; start < bytes.length; start += 1_021) small.push(bytes.subarray(start, start + 1_021));
  await run(small, "in pieces of 1021 bytes");
  await assertAllMetered(calls);
});

/** Reads the caller's stream event by event. */
function eventsOf({ body }: Call): { next(): Promise<string | undefined>; rest(): Promise<string> } {
  const chunks = body[Symbol.asyncIterator]() as AsyncIterator<Buffer>;
  let pending = "";
  const more = async (): Promise<boolean> => {
    const { done, value } = await chunks.next();
    if (!done) pending += value.toString("latin1");
    return !done;
  };
  return {
    async next() {
      for (;;) {
        const end = pending.indexOf("\n\n");
        if (end >= 0) {
          const text = pending.slice(0, end + 2);
          pending = pending.slice(end + 2);
          return text;
        }
        if (!(await more())) return undefined;
      }
    },
    async rest() {
      while (await more());
      return pending;
    },
  };
}

/** Starts a stream whose first event has reached the caller while the provider holds the rest. */
async function startHeldStream(
  body: object = {},
): Promise<{ answer: Call; provider: ServerResponse; events: ReturnType<typeof eventsOf>; first: string }> {
  const started = Promise.withResolvers<ServerResponse>();
  openai.play((response) => {
    sse(response).write(
      event(chunk({ role: "assistant", content: "" })) + event(chunk({ content: "One two three four five" })),
    );
    started.resolve(response);
  });
  const answer = await call({ stream: true, ...body });
  const events = eventsOf(answer);
  const role = await events.next();
  assert.equal(role, event(chunk({ role: "assistant", content: "" })));
  const first = (await events.next())!;
  return { answer, provider: await started.promise, events, first };
}

test("the first event reaches the caller while the provider still holds the rest", async () => {
  const { answer, provider, events, first } = await startHeldStream();
  assert.equal(first, event(chunk({ content: "One two three four five" })));
  for (const word of ["six", "seven"]) {
    provider.write(event(chunk({ content: word })));
    assert.equal(await events.next(), event(chunk({ content: word })));
  }
  provider.end(event(chunk({}, "stop")) + event(usageChunk) + event("[DONE]"));
  assert.equal(await events.rest(), `${event(chunk({}, "stop"))}data: [DONE]\n\n`);
  await assertAllMetered([answer]);
});

test("[DONE] is not sent before the answer's row is in the database", async () => {
  const { answer, provider, events } = await startHeldStream();
  provider.end(event(chunk({}, "stop")) + event(usageChunk) + event("[DONE]"));
  for (let text = await events.next(); text !== "data: [DONE]\n\n"; text = await events.next())
    assert.notEqual(text, undefined);
  assert.equal((await rowOf(answer))["outcome"], "completed");
});

const breaks: readonly [string, (provider: ServerResponse) => unknown][] = [
  ["the connection is cut", (provider) => provider.socket?.resetAndDestroy()],
  ["the stream ends without a finish", (provider) => provider.end()],
  [
    "the stream ends in the middle of an event",
    (provider) => provider.end('data: {"choices":[{"index":0,"delta":{"content":"si'),
  ],
  ["a chunk is malformed", (provider) => provider.end(event('{"choices":[{"index":0,"del') + event("[DONE]"))],
  [
    "the vendor reports an error inside",
    (provider) =>
      provider.end(event({ error: { message: "vendor's own words", type: "server_error" } }) + event("[DONE]")),
  ],
  [
    "the vendor reports an error without a wrapping",
    (provider) => provider.end(event({ object: "error", message: "vendor's own words", code: 500 }) + event("[DONE]")),
  ],
  [
    "a finish came but neither usage nor an end",
    (provider) => provider.write(event(chunk({}, "stop")), () => provider.socket?.resetAndDestroy()),
  ],
];
for (const [what, breakOff] of breaks) {
  test(`a cut answer never looks finished: ${what}`, async () => {
    const { answer, provider, events } = await startHeldStream();
    breakOff(provider);
    const rest = await events.rest();
    const error = /^(?:data: .*\n\n)?event: error\ndata: (\{.*\})\n\n$/.exec(rest);
    assert.ok(error, rest);
    assert.doesNotMatch(rest, /\[DONE\]|vendor's own words/);
    const body = (JSON.parse(error[1]!) as { error: Record<string, unknown> }).error;
    assert.deepEqual(Object.keys(body), ["message", "type", "code", "param", "request_id", "details"]);
    assert.equal(body["code"], "provider_error");
    assert.equal(body["request_id"], answer.requestId);
    const row = await rowOf(answer);
    assert.equal(row["outcome"], "truncated");
    assert.equal(row["error_code"], "provider_error");
    assert.equal(row["usage_source"], "estimated");
    // "One two three four five" is five tokens; the prompt's text has four, and a chat form some around it.
    assert.equal(row["output_tokens"], 5n);
    assert.ok((row["fresh_input_tokens"] as bigint) >= 4n && (row["fresh_input_tokens"] as bigint) <= 14n);
    assert.ok((row["cost_nano_usd"] as bigint) > 0n);
  });
}

for (const [what, ending] of [
  ["the stream just ends", (response: ServerResponse) => response.end()],
  ["the connection is cut", (response: ServerResponse) => response.write("", () => response.socket?.resetAndDestroy())],
] as const) {
  test(`an answer that finished and was counted is complete without the provider's [DONE]: ${what}`, async () => {
    const { answer, provider, events } = await startHeldStream({ stream_options: { include_usage: true } });
    provider.write(event(chunk({}, "stop")) + event(usageChunk));
    assert.equal(await events.next(), event(chunk({}, "stop")));
    assert.equal(await events.next(), event({ ...usageChunk, usage: { ...USAGE, cost_usd: COST_USD } }));
    ending(provider);
    assert.equal(await events.rest(), "data: [DONE]\n\n");
    await assertAllMetered([answer]);
  });
}

test("a stream that is whole but was never counted is complete, and its usage is marked as estimated", async () => {
  openai.play(replay(event(chunk({ content: "One two three four five" })), event(chunk({}, "stop")), event("[DONE]")));
  const answer = await call({ stream: true });
  assert.match((await whole(answer)).toString("utf8"), /data: \[DONE\]\n\n$/);
  const row = await rowOf(answer);
  assert.deepEqual([row["outcome"], row["usage_source"], row["output_tokens"]], ["completed", "estimated", 5n]);
});

const mistralUsage = { prompt_tokens: 20, completion_tokens: 4, total_tokens: 24 };
const mistralStream =
  event({ id: "m", choices: [{ index: 0, delta: { role: "assistant", content: "Hola" }, finish_reason: null }] }) +
  event({ id: "m", choices: [{ index: 0, delta: { content: "" }, finish_reason: "stop" }], usage: mistralUsage }) +
  event("[DONE]");
const mistralAnswer = {
  id: "m",
  object: "chat.completion",
  created: 1,
  model: "mistral-small-latest",
  choices: [{ index: 0, message: { role: "assistant", content: "Hola" }, finish_reason: "stop" }],
  usage: mistralUsage,
};

const firstFailures: readonly [string, Script, "silent"?][] = [
  ["an empty stream", replay()],
  ["a stream of [DONE] alone", replay(event("[DONE]"))],
  ["a role and then the end", replay(event(chunk({ role: "assistant", content: "" })))],
  [
    "a role, and then a reset",
    (response) =>
      sse(response).write(event(chunk({ role: "assistant", content: "" })), () => response.socket?.resetAndDestroy()),
  ],
  ["an error event at once", replay(event({ error: { message: "overloaded" } }))],
  ["a first chunk that is no JSON", replay("data: <html>\n\n")],
  [
    "a 200 of HTML",
    (response) => response.writeHead(200, { "content-type": "text/html" }).end("<!doctype html><p>Please wait.</p>"),
  ],
  ["a 200 of null", answerJson(200, null)],
  ["a reset before the status line", (response) => response.socket?.resetAndDestroy()],
  ["500", answerJson(500, { error: { message: "oops" } })],
  [
    "503 with a body of HTML",
    (response) => response.writeHead(503, { "content-type": "text/html" }).end("<h1>busy</h1>"),
  ],
  [
    "503 whose body is cut",
    (response) =>
      response.writeHead(503, { "content-length": "100" }).write("half", () => response.socket?.resetAndDestroy()),
  ],
  ["529", answerJson(529, {})],
  ["429", answerJson(429, { error: { type: "requests", code: "rate_limit_exceeded" } }, { "retry-after": "60" })],
  ["429 for want of quota", answerJson(429, { error: { type: "insufficient_quota", code: "insufficient_quota" } })],
  ["401 for the gateway's own key", answerJson(401, { error: { message: "wrong key" } })],
  ["silence", () => undefined, "silent"],
  ["silence behind the status line", (response) => sse(response).flushHeaders(), "silent"],
  [
    "a role and then silence",
    (response) => sse(response).write(event(chunk({ role: "assistant", content: "" }))),
    "silent",
  ],
];
for (const [what, script, silent] of firstFailures) {
  test(`before the first output nothing was shown and brikk/auto serves from the other provider: ${what}`, async () => {
    openai.play(script);
    mistral.play(replay(mistralStream));
    const to = silent ? hasty : gateway;
    const answer = await call({ model: "brikk/auto", stream: true }, to);
    assert.equal(answer.status, 200);
    assert.equal((await whole(answer)).toString("utf8"), mistralStream);
    assert.equal(answer.headers["x-brikk-provider"], "mistral");
    assert.equal(answer.headers["x-brikk-fallback"], "true");
    const row = await rowOf(answer, to);
    assert.deepEqual(
      [row["provider"], row["fallback"], row["attempts"], row["outcome"], row["usage_source"], row["output_tokens"]],
      ["mistral", 1n, 2n, "completed", "exact", 4n],
    );
  });
}

test("a whole answer that is no answer is served by the other provider, too", async () => {
  for (const script of [
    answerJson(200, null),
    answerJson(200, { choices: [] }),
    answerJson(500, {}),
    ((response) => response.writeHead(200).end("{")) satisfies Script,
  ]) {
    openai.play(script);
    mistral.play(answerJson(200, mistralAnswer));
    const answer = await call({ model: "brikk/auto" });
    assert.deepEqual(await answer.body.json(), mistralAnswer);
    assert.equal(answer.headers["x-brikk-fallback"], "true");
  }
});

test("a model named by the caller is never swapped: its provider's failure is the answer", async () => {
  openai.play(answerJson(500, { error: { message: "vendor's own words" } }));
  mistral.play(replay(mistralStream));
  for (const stream of [false, true]) {
    const answer = await call({ stream });
    assert.equal(answer.status, 502);
    const error = await errorOf(answer);
    assert.equal(error["code"], "provider_error");
    assert.doesNotMatch(JSON.stringify(error), /vendor's own words/);
    const row = await rowOf(answer);
    assert.deepEqual(
      [row["outcome"], row["usage_source"], row["cost_nano_usd"], row["status"]],
      ["failed", "none", 0n, 502n],
    );
  }
  assert.equal(mistral.received.length, 0);
});

for (const script of [
  answerJson(503, {}),
  ((response) =>
    response
      .writeHead(503, { "content-length": "100" })
      .write("half", () => response.socket?.resetAndDestroy())) satisfies Script,
]) {
  test("a refusal by the provider costs nothing, whole or cut", async () => {
    openai.play(script);
    const answer = await call({});
    assert.equal(answer.status, 502);
    await answer.body.dump();
    const row = await rowOf(answer);
    assert.deepEqual([row["usage_source"], row["cost_nano_usd"]], ["none", 0n]);
  });
}

for (const status of [400, 404, 413, 422]) {
  for (const stream of [false, true]) {
    test(`the caller's own ${status} is passed on after one attempt, ${stream ? "streamed" : "plain"}`, async () => {
      const error = {
        message: "Invalid value for 'n'.",
        type: "invalid_request_error",
        param: "n",
        code: "invalid_value",
      };
      openai.play(answerJson(status, { error }));
      mistral.play(replay(mistralStream));
      const answer = await call({ model: "brikk/auto", stream });
      assert.equal(answer.status, status);
      const { message, type, param, code } = await errorOf(answer);
      assert.deepEqual({ message, type, param, code }, error);
      assert.equal(answer.headers["x-should-retry"], "false");
      assert.equal(openai.received.length, 1);
      assert.equal(mistral.received.length, 0);
      const row = await rowOf(answer);
      assert.deepEqual([row["attempts"], row["cost_nano_usd"], row["usage_source"]], [1n, 0n, "none"]);
    });
  }
}

const NO_SUCH_MODEL = {
  message: "The model does not exist.",
  type: "invalid_request_error",
  param: null,
  code: "model_not_found",
};

for (const stream of [false, true]) {
  test(`a model that its vendor has no longer is served by the next candidate, ${stream ? "streamed" : "plain"}`, async () => {
    openai.play(answerJson(404, { error: NO_SUCH_MODEL }));
    mistral.play(stream ? replay(mistralStream) : answerJson(200, mistralAnswer));
    const answer = await call({ model: "brikk/auto", stream });
    assert.equal(answer.status, 200);
    assert.equal(answer.headers["x-brikk-provider"], "mistral");
    await answer.body.dump();
    assert.equal((await rowOf(answer))["attempts"], 2n);
  });
}

test("a single model that its vendor does not have is refused in the vendor's words, and no breaker minds", async () => {
  for (let turn = 0; turn < 6; turn += 1) {
    openai.play(answerJson(404, { error: NO_SUCH_MODEL }));
    const answer = await call({});
    const { message, code } = await errorOf(answer);
    assert.deepEqual([answer.status, message, code], [404, NO_SUCH_MODEL.message, NO_SUCH_MODEL.code]);
  }
});

test("the provider's 401 is the gateway's fault and never a 401 to the caller", async () => {
  openai.play(answerJson(401, { error: { message: "Incorrect API key provided: sk-simu", code: "invalid_api_key" } }));
  const answer = await call({});
  assert.equal(answer.status, 502);
  const error = await errorOf(answer);
  assert.equal(error["code"], "provider_credentials_rejected");
  assert.doesNotMatch(JSON.stringify(error), /sk-simu/);
});

test("the provider's 429 passes on how long to wait", async () => {
  openai.play(
    answerJson(
      429,
      { error: { message: "slow down", type: "requests", code: "rate_limit_exceeded" } },
      { "retry-after": "17" },
    ),
  );
  const answer = await call({ stream: true });
  assert.equal(answer.status, 429);
  assert.equal(answer.headers["retry-after"], "17");
  assert.equal((await errorOf(answer))["code"], "provider_rate_limited");
});

for (const [what, script] of [
  ["before the status line", () => undefined],
  [
    "in the middle of the body",
    (response: ServerResponse) => response.writeHead(200, { "content-length": "1000" }).write('{"id":'),
  ],
] as const) {
  test(`a provider that hangs ${what} is provider_timeout within the time that is set, and is let go`, async () => {
    const gone = Promise.withResolvers<void>();
    openai.play((response) => {
      response.on("close", gone.resolve);
      script(response);
    });
    const answer = await call({}, hasty);
    assert.equal(answer.status, 504);
    assert.equal((await errorOf(answer))["code"], "provider_timeout");
    await gone.promise;
    const row = await rowOf(answer, hasty);
    // The provider may have worked on it, so the input is charged, as an estimate.
    assert.deepEqual([row["outcome"], row["usage_source"], row["output_tokens"]], ["failed", "estimated", 0n]);
  });
}

for (const [what, script] of [
  ["before the status line", () => undefined],
  ["behind the status line", (response: ServerResponse) => sse(response).flushHeaders()],
  [
    "behind the role",
    (response: ServerResponse) => sse(response).write(event(chunk({ role: "assistant", content: "" }))),
  ],
] as const) {
  test(`a stream that is silent ${what} is provider_timeout, with a status line of its own, and is let go`, async () => {
    const gone = Promise.withResolvers<void>();
    openai.play((response) => {
      response.on("close", gone.resolve);
      script(response);
    });
    const answer = await call({ stream: true }, hasty);
    assert.equal(answer.status, 504);
    assert.equal((await errorOf(answer))["code"], "provider_timeout");
    await gone.promise;
  });
}

test("a stream that falls silent in its middle is cut after the idle time, and never looks finished", async (t) => {
  const impatient = await startGateway({
    providers: { openai: openai.baseUrl },
    environment: { PROVIDER_IDLE_TIMEOUT_SECONDS: "0.5" },
  });
  t.after(() => impatient.close());
  const gone = Promise.withResolvers<void>();
  openai.play((response) => {
    response.on("close", gone.resolve);
    sse(response).write(event(chunk({ content: "One two three four five" })));
  });
  const answer = await call({ stream: true }, impatient);
  const text = (await whole(answer)).toString("utf8");
  assert.match(text, /\n\nevent: error\ndata: .*"code":"provider_timeout"/);
  assert.doesNotMatch(text, /\[DONE\]/);
  await gone.promise;
  const row = await rowOf(answer, impatient);
  assert.deepEqual(
    [row["outcome"], row["error_code"], row["usage_source"], row["output_tokens"]],
    ["truncated", "provider_timeout", "estimated", 5n],
  );
});

test("a provider that goes on behind [DONE] does not hold up the caller, and is cut off", async () => {
  const gone = Promise.withResolvers<void>();
  openai.play((response) => {
    response.on("close", gone.resolve);
    sse(response).write(plain.events.join(""));
  });
  const answer = await call({ stream: true });
  assert.equal((await whole(answer)).toString("utf8"), expectedBytes(plain, false));
  await gone.promise;
  await assertAllMetered([answer]);
});

test("a provider that is not there costs nothing, and the other one serves", async (t) => {
  const closed = await startProvider();
  await closed.close();
  const lonely = await startGateway({ providers: { openai: closed.baseUrl, mistral: mistral.baseUrl } });
  t.after(() => lonely.close());
  mistral.play(answerJson(200, mistralAnswer));
  const served = await call({ model: "brikk/auto" }, lonely);
  assert.deepEqual(await served.body.json(), mistralAnswer);
  const refused = await call({}, lonely);
  assert.equal(refused.status, 502);
  assert.equal((await errorOf(refused))["code"], "provider_error");
  const row = await rowOf(refused, lonely);
  assert.deepEqual([row["outcome"], row["usage_source"], row["cost_nano_usd"]], ["failed", "none", 0n]);
});

test("a whole answer's bytes are the provider's own, and its cost stands in a header", async () => {
  const bytes = Buffer.from(
    ` {"id":"c", "object":"chat.completion","created":12345678901234567890,\n"choices" : [{"index":0,"message":{"role":"assistant","content":"\\u00e9 日🎉"},"finish_reason":"stop"}],"x":1.50, "usage":${JSON.stringify(USAGE)}}\r\n`,
  );
  openai.play((response) => {
    response.writeHead(200, { "content-type": "application/json", "content-length": bytes.length });
    for (const byte of bytes) response.write(Buffer.from([byte]));
    response.end();
  });
  const answer = await call({});
  assert.deepEqual(await whole(answer), bytes);
  assert.equal(answer.headers["content-type"], "application/json");
  assert.equal(answer.headers["x-brikk-cost-usd"], COST_USD.toString());
  await assertAllMetered([answer]);
});

test("an OpenAI-shaped provider gets a plain request as the very bytes that the caller sent", async () => {
  const body = ` {"model" : "gpt-4o-mini",\n "seed": 12345678901234567890 , "x_unknown":{"a":[1.50,1e2]},"messages":[{"role":"user","content":"\\u00e9 日🎉", "name":null}] } `;
  openai.play(answerJson(200, { ...mistralAnswer, usage: USAGE }));
  const answer = await call(body);
  assert.equal(answer.status, 200);
  await answer.body.dump();
  const [received] = openai.received;
  assert.equal(received?.body.toString("utf8"), body);
  assert.equal(received?.path, "/v1/chat/completions");
  assert.equal(received?.headers.authorization, "Bearer simulated");
});

test("of a streamed request only the spliced fields change", async () => {
  const kept = [
    `"seed": 12345678901234567890 `,
    `"x_unknown" :{"a":[1.50,1e2 ]}`,
    `"messages":[{"role":"user","content":"\\u00e9 日🎉"}]`,
  ];
  openai.play(replay(plain.events.join("")));
  await whole(await call(`{"model":"openai/gpt-4o-mini",${kept.join(",")},"models":["gpt-4o"],"stream":true}`));
  assert.equal(
    openai.received[0]?.body.toString("utf8"),
    `{"model":"gpt-4o-mini",${kept.join(",")},"stream":true,"stream_options":{"include_usage":true}}`,
  );
});

test("the caller's own headers and key do not reach the provider", async () => {
  openai.play(answerJson(200, { ...mistralAnswer, usage: USAGE }));
  const { secret } = await gateway.createKey();
  const answer = await request(`${gateway.url}/v1/chat/completions`, {
    method: "POST",
    dispatcher: agent,
    headers: {
      "content-type": "application/json",
      authorization: `Bearer ${secret}`,
      cookie: "a=b",
      "x-forwarded-for": "10.0.0.1",
    },
    body: JSON.stringify({ model: "gpt-4o-mini", messages: MESSAGES }),
  });
  assert.equal(answer.statusCode, 200);
  await answer.body.dump();
  assert.doesNotMatch(JSON.stringify(openai.received[0]), new RegExp(`${secret}|cookie|forwarded`));
});

test("connections to a provider are kept for the next request, streams with a last event behind [DONE] included", async () => {
  const sockets = new Set<Socket | null>();
  openai.play((response) => {
    sockets.add(response.socket);
    replay(plain.events.join(""), ": bye\n\n")(response, 1);
  });
  for (let count = 0; count < 10; count++) await whole(await call({ stream: true }));
  assert.ok(sockets.size <= 2, `${sockets.size} connections`);
});

for (const stream of [true, false]) {
  test(`an answer whose row cannot be written is not called done: ${stream ? "a stream ends in an error event" : "a plain one is internal_error"}`, async (t) => {
    const broken = await startGateway({ providers: { openai: openai.baseUrl } });
    t.after(() => broken.close());
    await broken.all("drop table usage_events");
    openai.play(stream ? replay(plain.events.join("")) : answerJson(200, { ...mistralAnswer, usage: USAGE }));
    const answer = await request(`${broken.url}/v1/chat/completions`, {
      method: "POST",
      dispatcher: agent,
      headers: { "content-type": "application/json" },
      body: JSON.stringify({ model: "gpt-4o-mini", messages: MESSAGES, stream }),
    });
    const text = await answer.body.text();
    assert.match(text, /"code":"internal_error"/);
    assert.doesNotMatch(text, /\[DONE\]|Hola|usage_events/);
    if (stream) assert.match(text, /\n\nevent: error\ndata: /);
    else assert.equal(answer.statusCode, 500);
  });
}
