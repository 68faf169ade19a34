import assert from "node:assert/strict";
import { once } from "node:events";
import { test, type TestContext } from "node:test";
import { type GatewayUnderTest, type HarnessOptions, startGateway } from "../harness/gateway-under-test.ts";
import { callRaw, type RawAnswer, type RawCaller } from "../harness/raw-http.ts";
import { eventually } from "../ledger/ledger-fixture.ts";

const CHAT = JSON.stringify({ model: "gpt-4o-mini", messages: [{ role: "user", content: "Hello" }] });
const STREAM = JSON.stringify({ ...(JSON.parse(CHAT) as object), stream: true });

async function start(t: TestContext, most: number, options: HarnessOptions = {}): Promise<GatewayUnderTest> {
  const brikk = await startGateway({
    ...options,
    environment: { BRIKK_MAX_CONNECTIONS_PER_ADDRESS: String(most), ...options.environment },
  });
  t.after(() => brikk.close());
  return brikk;
}

/** One new connection for each request. */
async function chat(brikk: GatewayUnderTest, options: { key?: string; from?: string }): Promise<RawAnswer> {
  const caller = await callRaw(brikk.url, options.from);
  const key = options.key === undefined ? "" : `Authorization: Bearer ${options.key}\r\n`;
  caller.send(
    `POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\n${key}Content-Type: application/json\r\nConnection: close\r\nContent-Length: ${CHAT.length}\r\n\r\n${CHAT}`,
  );
  const [answer] = await caller.closed;
  assert.ok(answer, "an answer came");
  return answer;
}

/** Begins a request and never ends it. */
async function dawdle(brikk: GatewayUnderTest, from: string): Promise<RawCaller> {
  const caller = await callRaw(brikk.url, from);
  caller.send("POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nX-Slow: ");
  return caller;
}

const open = (callers: readonly RawCaller[]): number => callers.filter(({ socket }) => !socket.destroyed).length;
const codesOf = (callers: readonly RawCaller[]): Set<string> =>
  new Set(
    callers.flatMap((caller) =>
      caller.answers().map(({ body }) => (JSON.parse(body) as { error: { code: string } }).error.code),
    ),
  );

for (const [what, addresses] of [
  ["one address", ["127.0.0.1"]],
  ["several addresses", ["127.0.0.2", "127.0.0.3", "127.0.0.4", "127.0.0.5"]],
] as const) {
  test(`while 500 connections from ${what} dawdle, honest callers are served all along, with a key and without one, and the dawdlers are cut off`, async (t) => {
    const most = 20;
    const brikk = await start(t, most, { limits: { headersMs: 2_000, checkEveryMs: 100 } });
    const { secret } = await brikk.createKey();
    const dawdlers = await Promise.all(
      Array.from({ length: 500 }, (_, index) => dawdle(brikk, addresses[index % addresses.length]!)),
    );
    t.after(() => dawdlers.forEach(({ socket }) => socket.destroy()));
    const trickle = setInterval(() => {
      for (const { socket } of dawdlers) if (socket.writable) socket.write("x");
    }, 50);
    t.after(() => clearInterval(trickle));

    // From the dawdlers' own address too.
    const honest = async (): Promise<void> => {
      for (const from of ["127.0.0.1", addresses[0]]) {
        assert.equal((await chat(brikk, { key: secret, from })).status, 200);
        assert.equal((await chat(brikk, { from })).status, 200);
      }
    };
    await honest();
    await eventually(async () => {
      await honest();
      return open(dawdlers) <= most * addresses.length;
    });
    assert.deepEqual(codesOf(dawdlers), new Set(["too_many_connections"]));
    await eventually(async () => {
      await honest();
      return open(dawdlers) === 0;
    });
    assert.deepEqual(codesOf(dawdlers), new Set(["too_many_connections", "request_timeout"]));
    const { values } = await brikk.gateway.metrics.connectionsRefused.get();
    assert.ok(values.reduce((sum, { value }) => sum + value, 0) >= 500 - most * addresses.length);
  });
}

test("a connection that has shown a valid key or the admin token counts no more; one with a wrong key does", async (t) => {
  const token = "an-admin-token-of-this-test";
  const brikk = await start(t, 1, { environment: { BRIKK_ADMIN_TOKEN: token } });
  const { secret } = await brikk.createKey();
  const keepOpen = async (path: string, authorization: string, status: number): Promise<RawCaller> => {
    const caller = await callRaw(brikk.url);
    t.after(() => caller.socket.destroy());
    caller.send(`GET ${path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer ${authorization}\r\n\r\n`);
    await eventually(() => caller.answers().length === 1);
    assert.equal(caller.answers()[0]!.status, status);
    return caller;
  };
  const good: RawCaller[] = [];
  for (let n = 0; n < 5; n += 1) good.push(await keepOpen("/keys/me", secret, 200));
  good.push(await keepOpen("/admin/circuit-breakers", token, 404), await keepOpen("/admin/fire-drill", token, 200));
  const wrong = [await keepOpen("/keys/me", "brikk_wrong", 401), await keepOpen("/keys/me", "brikk_wrong", 401)];
  // Whoever comes next without a key makes them three, and the silent ones make way.
  await eventually(() => open(wrong) <= 1);
  assert.equal(open(good.slice(0, 5)), 5);
  assert.equal(good.at(-1)!.socket.destroyed, false);
});

test("who sends more requests at once than a client does loses the connection, with a key or without one, and they are not begun", async (t) => {
  const brikk = await start(t, 100);
  const { secret } = await brikk.createKey();
  for (const key of ["", `Authorization: Bearer ${secret}\r\n`]) {
    const request = `GET /keys/me HTTP/1.1\r\nHost: x\r\n${key}\r\n`;
    const pipelining = await callRaw(brikk.url);
    pipelining.send(request.repeat(8));
    await eventually(() => pipelining.answers().length === 8);
    pipelining.send(request.repeat(8));
    await eventually(() => pipelining.answers().length === 16);
    // Node reads them all at once.
    pipelining.send(request.repeat(1_000));
    const answers = await pipelining.closed;
    assert.ok(answers.length < 32, `${answers.length} answers`);
    assert.ok(answers.every(({ status }) => status === 200));
  }
  const { values } = await brikk.gateway.metrics.connectionsRefused.get();
  assert.deepEqual(
    values.map(({ value, labels }) => [labels.when, value]),
    [["pipelining", 2]],
  );
});

test("the API's document is written once and sent as it is", async (t) => {
  const brikk = await start(t, 100);
  const read = async (path: string): Promise<string> => {
    const answer = await fetch(`${brikk.url}${path}`);
    assert.equal(answer.headers.get("content-type"), "application/json; charset=utf-8");
    return answer.text();
  };
  const document = await read("/openapi.json");
  assert.equal((JSON.parse(document) as { openapi: string }).openapi, "3.0.3");
  assert.equal(await read("/docs/json"), document);
});

test("with a request in hand on every connection one more without a key is refused, and one with a key is not", async (t) => {
  const brikk = await start(t, 2, { simulator: { firstTokenMs: 60_000 } });
  const { secret } = await brikk.createKey();
  const quick = `GET /keys/me HTTP/1.1\r\nHost: x\r\nConnection: close\r\n`;
  const ask = async (more: string): Promise<RawAnswer> => {
    const caller = await callRaw(brikk.url);
    caller.send(`${quick}${more}\r\n`);
    return (await caller.closed)[0]!;
  };
  assert.equal((await ask("")).status, 200);
  const streams = await Promise.all([1, 2].map(() => callRaw(brikk.url)));
  for (const caller of streams)
    caller.send(
      `POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: ${STREAM.length}\r\n\r\n${STREAM}`,
    );
  await eventually(() => brikk.gateway.inFlight.count === 2);

  const refused = await ask("");
  assert.equal(refused.status, 429);
  const { error } = JSON.parse(refused.body) as { error: { code: string; details: object } };
  assert.equal(error.code, "too_many_connections");
  assert.deepEqual(error.details, { scope: "ip", rule: "connections", limit: 2 });
  assert.equal(refused.headers["retry-after"], "1");
  assert.equal(refused.headers["connection"], "close");
  assert.equal((await ask(`X-Brikk-API-Key: ${secret}\r\n`)).status, 200);

  streams[0]!.socket.destroy();
  await eventually(() => brikk.gateway.inFlight.count === 1);
  assert.equal((await ask("")).status, 200);
  streams[1]!.socket.destroy();
  await eventually(() => brikk.gateway.inFlight.count === 0);
});

test("who reads no answers may hold ten times its number of connections, and others are not kept out", async (t) => {
  const brikk = await start(t, 1);
  const page = "GET /docs/static/swagger-ui-bundle.js HTTP/1.1\r\nHost: x\r\n\r\n";
  const greedy: RawCaller[] = [];
  for (let n = 0; n < 10; n += 1) {
    const caller = await callRaw(brikk.url, "127.0.0.2");
    greedy.push(caller);
    // More than the two sockets hold.
    caller.send(page.repeat(8));
    await once(caller.socket, "data");
    caller.socket.pause();
  }
  // Before the server closes, which waits for them.
  const letGo = (): void => greedy.forEach(({ socket }) => socket.destroy());
  setTimeout(letGo, 20_000).unref();
  const refusedAs = async (when: string): Promise<number> =>
    (await brikk.gateway.metrics.connectionsRefused.get()).values.find(({ labels }) => labels.when === when)?.value ??
    0;
  let last: RawCaller | undefined;
  await eventually(async () => {
    last = await callRaw(brikk.url, "127.0.0.2");
    last.send("GET /health/live HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    await last.closed;
    return (await refusedAs("accepting")) > 0;
  });
  const [answer] = last!.answers();
  assert.equal(answer!.status, 429);
  assert.match(answer!.body, /"too_many_connections"/);
  assert.equal(answer!.headers["x-frame-options"], "DENY");
  assert.equal((await chat(brikk, { from: "127.0.0.3" })).status, 200);
  letGo();
});

test("behind a trusted proxy, whose connections they all are, none is counted", async (t) => {
  const brikk = await start(t, 1, { environment: { TRUST_PROXY: "1" } });
  const callers = await Promise.all(Array.from({ length: 15 }, () => callRaw(brikk.url)));
  for (const caller of callers) {
    caller.send("GET /keys/me HTTP/1.1\r\nHost: x\r\n\r\n");
    await eventually(() => caller.answers().length === 1);
    assert.equal(caller.answers()[0]!.status, 200);
  }
  for (const caller of callers) {
    caller.send("GET /keys/me HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    assert.equal((await caller.closed).length, 2);
  }
});

test("a body that trickles in is refused with 408 within its time, and the connection closed", async (t) => {
  const brikk = await start(t, 100, { limits: { headersMs: 200, requestMs: 400, checkEveryMs: 50 } });
  const caller = await callRaw(brikk.url);
  caller.send(
    "POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 100000\r\n\r\n{",
  );
  const trickle = setInterval(() => caller.socket.write(" "), 20);
  t.after(() => clearInterval(trickle));
  const answers = await caller.closed;
  assert.deepEqual(
    answers.map(({ status }) => status),
    [408],
  );
  assert.match(answers[0]!.body, /"request_timeout"/);
  assert.equal(brikk.gateway.inFlight.count, 0);
  assert.deepEqual(await brikk.events(), []);
});

test("a body that trickles in behind its own refusal is not answered twice", async (t) => {
  const brikk = await start(t, 100, { limits: { headersMs: 200, requestMs: 400, checkEveryMs: 50 } });
  const caller = await callRaw(brikk.url);
  caller.send("POST /nothing HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n\r\n{");
  const answers = await caller.closed;
  assert.deepEqual(
    answers.map(({ status }) => status),
    [404],
  );
});
