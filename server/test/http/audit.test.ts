import assert from "node:assert/strict";
import { subscribe, unsubscribe } from "node:diagnostics_channel";
import { connect } from "node:net";
import { after, test, type TestContext } from "node:test";
import type { FastifyInstance, RouteOptions } from "fastify";
import { ZERO_USD } from "../../src/lib/money.ts";
import type { Row } from "../../src/storage/database.ts";
import { type GatewayUnderTest, startGateway } from "../harness/gateway-under-test.ts";
import { eventually } from "../ledger/ledger-fixture.ts";
import { createTestClock } from "../lib/test-clock.ts";
import { onEachDatabase } from "../storage/scratch.ts";

interface Route {
  readonly method: string;
  readonly path: string;
  readonly admin: boolean;
  readonly open: boolean;
}

/** Every route the app registers, noted as it does so: what is added later is in this list without anybody's doing. */
const routes: Route[] = [];
const noteRoutes = (message: unknown): void => {
  const { fastify } = message as { fastify: FastifyInstance };
  fastify.addHook("onRoute", ({ method, url, config }: RouteOptions) => {
    for (const one of [method].flat())
      routes.push({ method: one, path: url, admin: config?.admin === true, open: config?.open === true });
  });
};
subscribe("fastify.initialization", noteRoutes);
const ADMIN_TOKEN = "an-admin-token-of-this-test";
const brikk = await startGateway({ environment: { BRIKK_REQUIRE_AUTH: "true", BRIKK_ADMIN_TOKEN: ADMIN_TOKEN } });
unsubscribe("fastify.initialization", noteRoutes);
after(() => brikk.close());

let requests = 0;

/** Sends a request under an id of its own, with a path, a query and a body that must not be found anywhere. */
async function call(
  { method, path }: Pick<Route, "method" | "path">,
  headers: Record<string, string>,
  body: unknown = {},
  url = brikk.url,
): Promise<{ readonly id: string; readonly status: number; readonly text: string }> {
  const id = `audited-${++requests}`;
  const hasBody = method !== "GET" && method !== "HEAD" && method !== "OPTIONS";
  const target = path.replace(/:\w+/g, "openai").replace(/\/?\*$/, "/x");
  const response = await fetch(`${url}${target}`, {
    method,
    redirect: "manual",
    headers: { "x-request-id": id, ...(hasBody && { "content-type": "application/json" }), ...headers },
    ...(hasBody && { body: JSON.stringify(body) }),
  });
  return { id, status: response.status, text: await response.text() };
}

const noted = (id: string, gateway: GatewayUnderTest = brikk): Promise<Row[]> =>
  gateway.all(`select * from audit_entries where request_id = '${id}' and kind in ('request', 'refusal')`);

/** The one entry of a request; it is written within a moment. */
async function entryOf(id: string, gateway: GatewayUnderTest = brikk): Promise<Row> {
  await eventually(async () => (await noted(id, gateway)).length > 0);
  const rows = await noted(id, gateway);
  assert.equal(rows.length, 1, `${id} is on record ${rows.length} times`);
  return rows[0]!;
}

const shown = (row: Row): unknown[] => [
  row["kind"],
  row["actor"],
  row["key_id"],
  row["method"],
  row["route"],
  Number(row["status"]),
  row["code"],
  row["ip"],
];

test("every request with a key is on record once, whatever the route: key, method, template, status and address", async () => {
  const callers = routes.filter(({ admin, open, path }) => !admin && !open && !path.startsWith("/docs"));
  assert.ok(callers.length >= 10);
  // All are asked before the first is looked for: entries are written in groups.
  const asked = [];
  for (const route of callers) {
    // One of its own: a route may end the secret that it was asked with.
    const { id: keyId, secret } = await brikk.createKey();
    const { id, status } = await call(route, { authorization: `Bearer ${secret}` });
    asked.push({ route, keyId, id, status });
  }
  for (const { route, keyId, id, status } of asked) {
    const row = await entryOf(id);
    const [kind, actor, key, method, template, sent, , ip] = shown(row);
    assert.deepEqual(
      [kind, actor, key, method, template, sent, ip],
      ["request", "key", keyId, route.method, route.path, status, "127.0.0.1"],
      `${route.method} ${route.path}`,
    );
    assert.equal(row["code"] === null, status < 400, `${route.method} ${route.path} answered ${status}`);
  }
});

test("every admin request is on record as one, and every wrong admin token as a refusal at the door", async () => {
  const forAdmins = routes.filter(({ admin }) => admin);
  assert.ok(forAdmins.length >= 6);
  const asked = [];
  for (const route of forAdmins)
    asked.push({ route, ...(await call(route, { authorization: `Bearer ${ADMIN_TOKEN}` })) });
  for (const { route, id, status } of asked) {
    const [kind, actor, key, method, template, sent] = shown(await entryOf(id));
    assert.deepEqual(
      [kind, actor, key, method, template, sent],
      ["request", "admin", null, route.method, route.path, status],
      `${route.method} ${route.path}`,
    );
  }
  const [route] = forAdmins;
  const wrong = await call(route!, { authorization: "Bearer not-the-token-at-all" });
  assert.deepEqual(shown(await entryOf(wrong.id)), [
    "refusal",
    "unknown",
    null,
    route!.method,
    route!.path,
    401,
    "admin_token_invalid",
    "127.0.0.1",
  ]);
  brikk.simulator.faults.clear();
});

test("a caller without a key, or with a wrong, expired or revoked one, is on record as a refusal under its code, with the key where it is known", async () => {
  const { id: keyId, secret } = await brikk.createKey();
  const expired = await brikk.createKey({ expiresAtMs: Date.now() - 1 });
  const revoked = await brikk.createKey();
  await brikk.gateway.keyStore.revoke(revoked.id);
  const rotated = await brikk.createKey();
  await brikk.gateway.keyStore.rotate(rotated.id, { graceMs: 0 });
  const mistyped = `${secret.slice(0, -1)}${secret.endsWith("0") ? "1" : "0"}`;
  const route = { method: "GET", path: "/usage/me" };
  for (const [headers, code, whose] of [
    [{}, "missing_api_key", null],
    [{ authorization: `Bearer ${mistyped}` }, "invalid_api_key", null],
    [{ "x-brikk-api-key": keyId }, "invalid_api_key", null],
    [{ authorization: `Bearer ${expired.secret}` }, "key_expired", expired.id],
    [{ authorization: `Bearer ${revoked.secret}` }, "key_revoked", revoked.id],
    [{ authorization: `Bearer ${rotated.secret}` }, "key_expired", rotated.id],
  ] as const) {
    const { id, status } = await call(route, headers);
    assert.equal(status, 401);
    const [kind, actor, key, , , sent, said] = shown(await entryOf(id));
    assert.deepEqual(
      [kind, actor, key, sent, said],
      ["refusal", whose === null ? "unknown" : "key", whose, 401, code],
      code,
    );
  }
});

test("what is refused after the key was known is on record as the key's request: rate limit, budget, a body that is none", async () => {
  const limited = await brikk.createKey({ rateLimitPerMin: 1 });
  const poor = await brikk.createKey({ hardCap: ZERO_USD, softCap: ZERO_USD });
  const chat = { model: "gpt-4o-mini", messages: [{ role: "user", content: "Hello" }] };
  const route = { method: "POST", path: "/v1/chat/completions" };
  await call(route, { authorization: `Bearer ${limited.secret}` }, chat);
  for (const [{ id: keyId, secret }, body, status, code] of [
    [limited, chat, 429, "rate_limit_exceeded"],
    [poor, chat, 402, "hard_cap_exceeded"],
    [poor, { model: 1 }, 400, "invalid_request"],
    [poor, { ...chat, model: "no-such-model" }, 404, "model_not_found"],
  ] as const) {
    const answer = await call(route, { authorization: `Bearer ${secret}` }, body);
    assert.equal(answer.status, status, answer.text);
    assert.deepEqual(shown(await entryOf(answer.id)).slice(0, 7), [
      "request",
      "key",
      keyId,
      "POST",
      "/v1/chat/completions",
      status,
      code,
    ]);
  }
});

test("what is open to everybody, and paths that nobody serves, are not on record", async () => {
  const before = await brikk.all("select count(*) as n from audit_entries where kind <> 'notice'");
  for (const path of ["/health", "/metrics", "/no-such-path", "/openapi.json"]) await call({ method: "GET", path }, {});
  await call({ method: "PUT", path: "/usage/me" }, {});
  // One that is, behind them all.
  const { secret } = await brikk.createKey();
  await entryOf((await call({ method: "GET", path: "/usage/me" }, { authorization: `Bearer ${secret}` })).id);
  const now = await brikk.all("select count(*) as n from audit_entries where kind <> 'notice'");
  assert.equal(Number(now[0]?.["n"]) - Number(before[0]?.["n"]), 1);
});

test("a streamed answer is on record once with the status that was sent: whole, cut, left by its caller, or left before it began", async () => {
  const { id: keyId, secret } = await brikk.createKey();
  const post = (id: string, signal?: AbortSignal): Promise<Response> =>
    fetch(`${brikk.url}/v1/chat/completions`, {
      method: "POST",
      headers: { "content-type": "application/json", authorization: `Bearer ${secret}`, "x-request-id": id },
      body: JSON.stringify({ model: "gpt-4o-mini", stream: true, messages: [{ role: "user", content: "Hello" }] }),
      ...(signal && { signal }),
    });
  const only = (kind: string) => ({ kind, afterTokens: 2 }) as { kind: "cut"; afterTokens: number };

  assert.match(await (await post("stream-whole")).text(), /data: \[DONE\]\n\n$/);
  brikk.simulator.faults.set({ vendor: "*", fault: only("cut") });
  assert.match(await (await post("stream-cut")).text(), /event: error/);
  brikk.simulator.faults.clear();
  brikk.simulator.faults.set({ vendor: "*", fault: only("stall") });
  const leaving = new AbortController();
  const left = await post("stream-left", leaving.signal);
  assert.equal(left.status, 200);
  leaving.abort();
  await left.text().catch(() => undefined);
  brikk.simulator.faults.clear();
  brikk.simulator.faults.set({ vendor: "*", fault: { kind: "hang" } });
  await eventually(() => brikk.gateway.inFlight.count === 0);
  const early = new AbortController();
  const never = post("stream-never", early.signal);
  await eventually(() => brikk.gateway.inFlight.count > 0);
  early.abort();
  await never.catch(() => undefined);

  for (const [id, status] of [
    ["stream-whole", 200n],
    ["stream-cut", 200n],
    ["stream-left", 200n],
    ["stream-never", null],
  ] as const) {
    const row = await entryOf(id);
    assert.deepEqual([row["key_id"], row["status"]], [keyId, status], id);
  }
  brikk.simulator.faults.clear();
});

test("a connection that breaks off in the middle of a body leaves its request on record", async () => {
  const { id: keyId, secret } = await brikk.createKey();
  const { hostname, port } = new URL(brikk.url);
  const socket = connect(Number(port), hostname);
  socket.write(
    `POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nauthorization: Bearer ${secret}\r\nx-request-id: broken-off\r\ncontent-type: application/json\r\ncontent-length: 1000\r\n\r\n{"model"`,
  );
  await new Promise((resolve) => setTimeout(resolve, 100));
  socket.destroy();
  const row = await entryOf("broken-off");
  assert.equal(row["key_id"], keyId);
});

test("nothing of what was asked or answered is on record: no body, no path, no query, no header, no secret", async () => {
  const { secret } = await brikk.createKey();
  const mark = "marked-by-this-test";
  const headers = { authorization: `Bearer ${secret}`, "user-agent": mark, "x-other": mark, cookie: mark };
  const body = { model: "gpt-4o-mini", user: mark, messages: [{ role: "user", content: `Say ${mark}` }] };
  const ids = [
    await call({ method: "POST", path: "/v1/chat/completions" }, headers, body),
    await call({ method: "GET", path: `/usage/me?${mark}=${mark}` }, headers),
    await call({ method: "POST", path: `/agents/${mark}/chat` }, headers, { message: mark }),
    await call(
      { method: "DELETE", path: `/admin/fire-drill/faults/${mark}` },
      { authorization: `Bearer ${ADMIN_TOKEN}` },
    ),
  ];
  for (const { id } of ids) await entryOf(id);
  const all = JSON.stringify(await brikk.all("select * from audit_entries"), (_, value: unknown) =>
    typeof value === "bigint" ? String(value) : value,
  );
  for (const text of [mark, secret, ADMIN_TOKEN]) assert.ok(!all.includes(text), text);
});

test("with BRIKK_REQUIRE_AUTH=false callers without a key are on record as the anonymous key", async (t) => {
  const open = await startGateway({ environment: { BRIKK_REQUIRE_AUTH: "false" } });
  t.after(() => open.close());
  const { id } = await call({ method: "GET", path: "/usage/me" }, {}, {}, open.url);
  const row = await entryOf(id, open);
  assert.deepEqual([row["kind"], row["actor"], row["key_id"]], ["request", "key", "bk_anonymous000"]);
});

test("with ENABLE_AUDIT_LOGGING=false nothing is on record, which the log says at the start", async (t) => {
  const lines: string[] = [];
  const silent = await startGateway({
    environment: { ENABLE_AUDIT_LOGGING: "false", BRIKK_ADMIN_TOKEN: ADMIN_TOKEN },
    log: { write: (line) => void lines.push(line) },
  });
  t.after(() => silent.close());
  assert.ok(lines.some((line) => line.includes("ENABLE_AUDIT_LOGGING is false")));
  const { secret } = await silent.createKey();
  await call({ method: "GET", path: "/usage/me" }, { authorization: `Bearer ${secret}` }, {}, silent.url);
  await call(
    { method: "DELETE", path: "/admin/fire-drill/faults" },
    { authorization: `Bearer ${ADMIN_TOKEN}` },
    {},
    silent.url,
  );
  await new Promise((resolve) => setTimeout(resolve, 300));
  assert.deepEqual(await silent.all("select * from audit_entries"), []);
});

test("an act that cannot be put on record is refused and not done", async (t) => {
  const broken = await startGateway({ environment: { BRIKK_ADMIN_TOKEN: ADMIN_TOKEN } });
  t.after(() => broken.close());
  await broken.gateway.database.transact([{ sql: "drop table audit_entries", params: [] }]);
  const { status } = await call(
    { method: "POST", path: "/admin/fire-drill/faults" },
    { authorization: `Bearer ${ADMIN_TOKEN}` },
    { vendor: "openai", preset: "errors" },
    broken.url,
  );
  assert.equal(status, 500);
  assert.deepEqual(broken.simulator.faults.list(), []);
});

test("the metrics count what was written and what waits", async () => {
  const { secret } = await brikk.createKey();
  await entryOf((await call({ method: "GET", path: "/usage/me" }, { authorization: `Bearer ${secret}` })).id);
  const text = await (await fetch(`${brikk.url}/metrics`)).text();
  assert.match(text, /^brikk_audit_entries_total\{kind="request"\} [1-9]/m);
  assert.match(text, /^brikk_audit_entries_total\{kind="refusal"\} [1-9]/m);
  assert.match(text, /^brikk_audit_dropped_total 0$/m);
  assert.match(text, /^brikk_audit_queue 0$/m);
});

interface Entry {
  readonly sequence: number;
  readonly at: string;
  readonly kind: string;
  readonly actor: string;
  readonly key_id: string | null;
  readonly action: string | null;
  readonly route: string | null;
  readonly status: number | null;
  readonly code: string | null;
  readonly ip: string | null;
  readonly request_id: string | null;
  readonly details: unknown;
  readonly hash: string;
}

interface Answer {
  readonly entries: readonly Entry[];
  readonly next_cursor: string | null;
  readonly error: { readonly code: string; readonly param: string | null };
}

const ask = async (url: string, query: string): Promise<{ status: number; body: Answer }> => {
  const response = await fetch(`${url}/admin/audit${query}`, { headers: { authorization: `Bearer ${ADMIN_TOKEN}` } });
  return { status: response.status, body: (await response.json()) as Answer };
};

async function withEntries(t: TestContext, database: "sqlite" | "postgres"): Promise<GatewayUnderTest> {
  const clock = createTestClock();
  const gateway = await startGateway({ database, clock, environment: { BRIKK_ADMIN_TOKEN: ADMIN_TOKEN } });
  t.after(() => gateway.close());
  for (let n = 0; n < 60; n += 1) {
    gateway.gateway.audit.noteRequest({
      kind: n % 10 === 0 ? "refusal" : "request",
      actor: { kind: "key", keyId: `bk_${n % 3}`, ip: `192.0.2.${n % 4}`, requestId: `request-${n}` },
      method: "POST",
      route: n % 2 === 0 ? "/v1/chat/completions" : "/v1/embeddings",
      status: n % 5 === 0 ? 429 : 200,
      ...(n % 5 === 0 && { code: "rate_limit_exceeded" }),
    });
    clock.advance(1_000);
  }
  for (const action of ["key.create", "key.update", "credential.create"])
    await gateway.gateway.audit.record({
      actor: { kind: "cli" },
      action,
      target: "bk_1",
      before: { cap: 1 },
      after: { cap: 2 },
    });
  await eventually(async () => Number((await gateway.all("select count(*) as n from audit_entries"))[0]?.["n"]) >= 64);
  return gateway;
}

onEachDatabase("GET /admin/audit filters by everything that an entry has", async (t, dialect) => {
  const { url } = await withEntries(t, dialect);
  for (const [query, count, fits] of [
    ["?key_id=bk_1", 20, ({ key_id: key }) => key === "bk_1"],
    ["?actor=cli", 3, ({ actor }) => actor === "cli"],
    ["?kind=act", 3, ({ kind }) => kind === "act"],
    ["?kind=refusal", 6, ({ kind }) => kind === "refusal"],
    ["?kind=notice", 1, ({ action }) => action === "instance.start"],
    ["?action=key.", 2, ({ action }) => action?.startsWith("key.") === true],
    ["?action=key.update", 1, ({ details }) => JSON.stringify(details) === '{"before":{"cap":1},"after":{"cap":2}}'],
    ["?route=/v1/chat", 30, ({ route }) => route === "/v1/chat/completions"],
    ["?route=/V1", 0, () => false],
    ["?target=bk_1", 3, ({ kind }) => kind === "act"],
    ["?status=429", 12, ({ status }) => status === 429],
    ["?code=rate_limit_exceeded&kind=request", 6, ({ code }) => code === "rate_limit_exceeded"],
    ["?ip=192.0.2.3", 15, ({ ip }) => ip === "192.0.2.3"],
    [
      "?ip=192.0.2.3&key_id=bk_0&status=200",
      4,
      ({ ip, key_id: key, status }) => ip === "192.0.2.3" && key === "bk_0" && status === 200,
    ],
    ["?request_id=request-7", 1, ({ request_id: id }) => id === "request-7"],
    [
      "?from=2026-11-23T12:00:10Z&to=2026-11-23T12:00:20Z",
      10,
      ({ at }) => at >= "2026-11-23T12:00:10" && at < "2026-11-23T12:00:20",
    ],
    ["?from=2026-11-23T12:00:10Z&to=2026-11-23T12:00:20Z&key_id=bk_1", 4, ({ key_id: key }) => key === "bk_1"],
  ] as const satisfies readonly (readonly [string, number, (entry: Entry) => boolean])[]) {
    const { status, body } = await ask(url, `${query}&limit=500`);
    assert.equal(status, 200, query);
    assert.deepEqual([body.entries.length, body.next_cursor], [count, null], query);
    assert.ok(body.entries.every(fits), query);
  }
});

onEachDatabase(
  "pages of GET /admin/audit follow each other newest first without gap or repetition, while entries come in",
  async (t, dialect) => {
    const gateway = await withEntries(t, dialect);
    const { url } = gateway;
    const seen: number[] = [];
    let cursor: string | null = "";
    let pages = 0;
    while (cursor !== null) {
      const { status, body } = await ask(url, `?limit=7&kind=request${cursor === "" ? "" : `&cursor=${cursor}`}`);
      assert.equal(status, 200);
      seen.push(...body.entries.map(({ sequence }) => sequence));
      cursor = body.next_cursor;
      pages += 1;
      await gateway.gateway.audit.record({ actor: { kind: "cli" }, action: "key.create" });
    }
    assert.ok(pages >= 8);
    assert.deepEqual(
      seen,
      seen.toSorted((a, b) => b - a),
    );
    const all = await gateway.all(
      "select sequence from audit_entries where kind = 'request' and route <> '/admin/audit'",
    );
    assert.equal(new Set(seen).size, seen.length);
    assert.deepEqual(
      all.map(({ sequence }) => Number(sequence)).filter((sequence) => !seen.includes(sequence)),
      [],
    );
    const head = (await (
      await fetch(`${url}/admin/audit/head`, { headers: { authorization: `Bearer ${ADMIN_TOKEN}` } })
    ).json()) as { sequence: number; hash: string; beginning: { sequence: number } };
    const [newest] = (await ask(url, "?kind=act&limit=1")).body.entries;
    assert.ok(head.sequence >= newest!.sequence);
    assert.match(head.hash, /^[0-9a-f]{64}$/);
    assert.equal(head.beginning.sequence, 0);
  },
);

test("GET /admin/audit takes nothing that it does not know", async () => {
  for (const [query, param] of [
    ["?limit=501", "limit"],
    ["?limit=0", "limit"],
    ["?limit=x", "limit"],
    ["?cursor=abc", "cursor"],
    ["?cursor=MS4x", undefined],
    ["?kind=crime", "kind"],
    ["?actor=nobody", "actor"],
    ["?status=99", "status"],
    ["?from=yesterday", "from"],
    ["?from=2026-11-23&to=2026-11-23", "from"],
    [`?key_id=${"x".repeat(101)}`, "key_id"],
    ["?unknown=1", null],
    ["?sequence=1", null],
  ] as const) {
    const { status, body } = await ask(brikk.url, query);
    if (param === undefined) assert.deepEqual([status, body.entries], [200, []], query);
    else assert.deepEqual([status, body.error.code, body.error.param], [400, "invalid_request", param], query);
  }
});
