import assert from "node:assert/strict";
import { subscribe, unsubscribe } from "node:diagnostics_channel";
import { after, test } from "node:test";
import type { FastifyInstance, RouteOptions } from "fastify";
import { createKeyStore } from "../../src/access/key-store.ts";
import { ZERO_USD } from "../../src/lib/money.ts";
import { startGateway } from "../harness/gateway-under-test.ts";
import { eventually } from "../ledger/ledger-fixture.ts";

interface Route {
  readonly method: string;
  readonly path: string;
  /** For who has the admin token. */
  readonly admin: boolean;
}

/** Every route the app registers, noted as it does so: what is added later is in this list without anybody's doing. */
const routes: Route[] = [];
const noteRoutes = (message: unknown): void => {
  const { fastify } = message as { fastify: FastifyInstance };
  fastify.addHook("onRoute", ({ method, url, config }: RouteOptions) => {
    for (const one of [method].flat()) routes.push({ method: one, path: url, admin: config?.admin === true });
  });
};
subscribe("fastify.initialization", noteRoutes);
const ADMIN_TOKEN = "an-admin-token-of-this-test";
const strict = await startGateway({
  environment: { BRIKK_REQUIRE_AUTH: "true", BRIKK_ADMIN_TOKEN: ADMIN_TOKEN, TRUST_PROXY: "1" },
});
unsubscribe("fastify.initialization", noteRoutes);
after(() => strict.close());

/** What is served to callers without a key. A route that is to be open must be written down here. */
const OPEN = [
  /^\/$/,
  /^\/health(\/live|\/ready|\/providers|\/circuit-breakers)?$/,
  /^\/metrics$/,
  /^\/openapi\.json$/,
  /^\/docs(\/|$)/,
  /^\/sandbox\/keys$/,
];
const isOpen = ({ path }: Route): boolean => OPEN.some((pattern) => pattern.test(path));
/** Behind a caller's key: all but the open ones and those for administrators. */
const isCallers = (route: Route): boolean => !isOpen(route) && !route.admin;

/** A body with which each route that takes one does its work. */
const BODIES: Readonly<Record<string, unknown>> = {
  "/v1/chat/completions": { model: "gpt-4o-mini", messages: [{ role: "user", content: "Hello" }] },
  "/v1/embeddings": { model: "text-embedding-3-small", input: "Hello" },
  "/agents/route/chat": { message: "Hello" },
  "/agents/:agent/chat": { message: "Hello" },
  "/agents/bridge": {
    first_message: "Hello",
    agents: [{ provider: "openai" }, { provider: "mistral" }],
    max_turns: 2,
  },
  "/panel/runs": { prompt: "Hello" },
  "/panel/runs/:id/stop": {},
  "/panel/runs/:id/turns/:index/translation": { language: "es" },
  "/v1/explain": { model: "gpt-4o-mini", messages: [{ role: "user", content: "Hello" }] },
  // With a grace period, so that the secret goes on.
  "/keys/rotate": { grace_period_seconds: 3_600 },
  "/sandbox/keys": {},
};
/** Of these, the ones that call nobody. */
const CALLS_NOBODY = new Set(["/v1/explain", "/panel/runs/:id/stop", "/keys/rotate", "/sandbox/keys"]);
/** The path is that of a run, which must have been made before. */
const needsRun = ({ path }: Route): boolean => path.startsWith("/panel/runs/:id");

const call = (
  { method, path }: Route,
  headers: Record<string, string> = {},
  runId = "run_of_nobody",
): Promise<Response> => {
  const hasBody = method !== "GET" && method !== "HEAD" && method !== "OPTIONS";
  const asked = needsRun({ method, path, admin: false }) ? path.replace(":id", runId).replace(":index", "1") : path;
  return fetch(`${strict.url}${asked.replace(":agent", "openai").replace(/\/?\*$/, "/x")}`, {
    method,
    redirect: "manual",
    headers: { ...(hasBody && { "content-type": "application/json" }), ...headers },
    ...(hasBody && { body: JSON.stringify(BODIES[path] ?? {}) }),
  });
};

test("the list of routes is the app's, not a list of the test's own", () => {
  assert.ok(routes.some(({ method, path }) => method === "POST" && path === "/v1/chat/completions"));
  assert.ok(routes.some(({ path }) => path.startsWith("/docs/static")));
  assert.ok(routes.length > 20, `${routes.length} routes`);
});

test("no admin route answers without the admin token, for a caller's key neither, and no other route for the admin token", async () => {
  const { secret } = await strict.createKey();
  const adminRoutes = routes.filter(({ admin }) => admin);
  assert.ok(adminRoutes.length >= 5);
  assert.deepEqual(
    routes.filter(({ path }) => path.startsWith("/admin")),
    adminRoutes,
    "every path under /admin is marked as one for administrators, and no other",
  );
  for (const route of adminRoutes) {
    const name = `${route.method} ${route.path}`;
    for (const headers of [{}, { "x-brikk-api-key": secret }, { "x-brikk-api-key": ADMIN_TOKEN }]) {
      const response = await call(route, headers);
      assert.equal(response.status, 401, name);
      assert.equal(response.headers.get("www-authenticate"), "Bearer");
      assert.equal(response.headers.get("x-ratelimit-limit"), null, `${name} counts against nobody's limit`);
      const text = await response.text();
      if (route.method !== "HEAD") assert.match(text, /"code":"admin_token_invalid"/, name);
    }
    const entered = await call(route, { authorization: `Bearer ${ADMIN_TOKEN}` });
    assert.notEqual(entered.status, 401, name);
    await entered.arrayBuffer();
  }
  for (const route of routes.filter(isCallers)) {
    const response = await call(route, { authorization: `Bearer ${ADMIN_TOKEN}` });
    assert.equal(response.status, 401, `${route.method} ${route.path}`);
  }
  strict.simulator.faults.clear();
});

test("with BRIKK_REQUIRE_AUTH=true every route but the open ones refuses a caller without a key", async () => {
  for (const route of routes.filter(isCallers)) {
    const response = await call(route);
    assert.equal(response.status, 401, `${route.method} ${route.path}`);
    assert.equal(response.headers.get("x-should-retry"), "false");
    assert.equal(response.headers.get("www-authenticate"), "Bearer");
    if (route.method === "HEAD") continue;
    const { error } = (await response.json()) as { error: { code: string; type: string } };
    assert.equal(error.code, "missing_api_key", `${route.method} ${route.path}`);
    assert.equal(error.type, "authentication_error");
  }
});

test("with BRIKK_REQUIRE_AUTH=true every route but the open ones refuses a key that is not one, however it is sent", async () => {
  const { secret } = await strict.createKey();
  const mistyped = `${secret.slice(0, -1)}${secret.endsWith("0") ? "1" : "0"}`;
  for (const [place, route] of routes.filter(isCallers).entries()) {
    // From one address alone so many would soon be too many.
    const from = { "x-forwarded-for": `198.51.100.${place}` };
    for (const headers of [
      { authorization: `Bearer ${mistyped}` },
      { "x-brikk-api-key": mistyped },
      { authorization: "Basic YTpi" },
      { authorization: "Bearer sk-another-service" },
    ]) {
      const response = await call(route, { ...headers, ...from });
      assert.equal(response.status, 401, `${route.method} ${route.path}`);
      assert.equal((await response.text()).includes(mistyped), false);
    }
  }
});

test("the open routes ask for no key and count against no limit", async () => {
  for (const route of routes.filter(isOpen)) {
    const response = await call(route);
    assert.notEqual(response.status, 401, `${route.method} ${route.path}`);
    assert.equal(response.headers.get("x-ratelimit-limit"), null, `${route.method} ${route.path}`);
    await response.arrayBuffer();
  }
});

test("every call of a provider has its usage event, whatever the route; and only the routes known to call one do", async () => {
  const { id, secret } = await strict.createKey();
  const asked = (): number =>
    Object.values(strict.simulator.served.totals()).reduce((sum, { requests }) => sum + requests, 0);
  const callers: string[] = [];
  const headers = { authorization: `Bearer ${secret}` };
  const makeRun = async (): Promise<string> => {
    const made = await call({ method: "POST", path: "/panel/runs", admin: false }, headers);
    await made.arrayBuffer();
    return made.headers.get("location")!.split("/").at(-1)!;
  };
  for (const route of routes.filter(({ admin }) => !admin)) {
    const runId = needsRun(route) ? await makeRun() : undefined;
    const callsBefore = asked();
    const rowsBefore = (await strict.events()).length;
    const response = await call(route, headers, runId);
    await response.arrayBuffer();
    const calls = asked() - callsBefore;
    const rows = (await strict.events()).slice(rowsBefore);
    const name = `${route.method} ${route.path}`;
    if (route.method === "POST") {
      assert.ok(route.path in BODIES, `${name} is new: give it a body here, so that its ledger row is checked`);
      assert.ok(response.ok, name);
    }
    assert.equal(rows.length, calls, `${name}: one usage event for each call of a provider`);
    if (calls === 0) continue;
    callers.push(name);
    assert.equal(rows[0]?.["key_id"], id);
    // Each turn of a conversation has an id of its own, made from the request's.
    assert.equal(String(rows[0]?.["request_id"]).replace(/\.t1$/, ""), response.headers.get("x-request-id"));
    assert.ok(Number(rows[0]?.["cost_nano_usd"]) > 0, name);
  }
  assert.deepEqual(
    callers.sort(),
    Object.keys(BODIES)
      .filter((path) => !CALLS_NOBODY.has(path))
      .map((path) => `POST ${path}`)
      .sort(),
  );
});

test("no way in escapes the budget: with a hard cap of 0 no provider is asked, whatever the route, and what would ask one is refused with 402", async () => {
  const { secret } = await strict.createKey({ hardCap: ZERO_USD, softCap: ZERO_USD });
  const asked = (): number =>
    Object.values(strict.simulator.served.totals()).reduce((sum, { requests }) => sum + requests, 0);
  const before = asked();
  for (const route of routes.filter(isCallers)) {
    const response = await call(route, { authorization: `Bearer ${secret}` });
    const name = `${route.method} ${route.path}`;
    assert.equal(asked(), before, `${name} asks a provider that nothing was reserved for`);
    const text = await response.text();
    if (!(route.path in BODIES) || route.method !== "POST" || CALLS_NOBODY.has(route.path)) continue;
    // Without a budget there is no run that could be translated.
    if (needsRun(route)) continue;
    const { error } = JSON.parse(text) as { error?: { code: string } };
    assert.deepEqual([response.status, error?.code], [402, "hard_cap_exceeded"], name);
  }
});

test("every route behind the door counts against the key's limit, and the refusal says so in its headers", async () => {
  for (const route of routes.filter(isCallers)) {
    const { secret } = await strict.createKey({ rateLimitPerMin: 1 });
    const headers = { "x-brikk-api-key": secret };
    const first = await call(route, headers);
    await first.arrayBuffer();
    assert.equal(first.headers.get("x-ratelimit-limit"), "1", `${route.method} ${route.path}`);
    const second = await call(route, headers);
    await second.arrayBuffer();
    assert.equal(second.status, 429, `${route.method} ${route.path}`);
    assert.ok(Number(second.headers.get("retry-after")) >= 1);
  }
});

test("with BRIKK_REQUIRE_AUTH=false callers without a key share one that is named, limited, capped and metered", async () => {
  const brikk = await startGateway({
    environment: {
      BRIKK_REQUIRE_AUTH: "false",
      BRIKK_RATE_LIMIT_PER_MIN: "4",
      BRIKK_DEFAULT_HARD_CAP_USD: "2",
      BRIKK_DEFAULT_SOFT_CAP_USD: "1",
    },
  });
  try {
    const chat = (headers: Record<string, string>): Promise<Response> =>
      fetch(`${brikk.url}/v1/chat/completions`, {
        method: "POST",
        headers: { "content-type": "application/json", ...headers },
        body: JSON.stringify(BODIES["/v1/chat/completions"]),
      });
    const me = (await (await fetch(`${brikk.url}/keys/me`)).json()) as Record<string, unknown>;
    assert.equal(me["anonymous"], true);
    assert.equal(me["hard_cap_usd"], 2);
    assert.equal((await chat({})).status, 200);
    // What SDKs send when they are given no key of ours is no key.
    assert.equal((await chat({ authorization: "Bearer sk-none" })).status, 200);
    for (const row of await brikk.events()) assert.equal(row["key_id"], me["key_id"]);
    // A key of ours that is wrong is a mistake, and is said.
    const { id, secret } = await brikk.createKey();
    const mistyped = await chat({ authorization: `Bearer ${secret.slice(0, -1)}${secret.endsWith("0") ? "1" : "0"}` });
    assert.equal(mistyped.status, 401);
    assert.equal((await chat({ authorization: `Bearer ${secret}` })).status, 200);
    assert.equal((await brikk.events()).at(-1)?.["key_id"], id);
    assert.equal((await chat({})).status, 200);
    assert.equal((await chat({})).status, 429, "all callers without a key share one limit");
    assert.equal((await chat({ authorization: `Bearer ${secret}` })).status, 200, "which is nobody else's");
  } finally {
    await brikk.close();
  }
});

test("a revoked or expired key is refused with its own code on every closed route", async () => {
  const { id, secret } = await strict.createKey();
  const expired = await strict.createKey({ expiresAtMs: Date.now() - 1 });
  await createKeyStore({ database: strict.gateway.database, clock: strict.gateway.clock }).revoke(id);
  // The key ring may have asked for changes between the two; it asks again within half a second.
  const aRoute = routes.find(isCallers)!;
  await eventually(async () => (await call(aRoute, { authorization: `Bearer ${secret}` })).status === 401);
  for (const [key, code] of [
    [secret, "key_revoked"],
    [expired.secret, "key_expired"],
  ] as const) {
    for (const route of routes.filter((one) => isCallers(one) && one.method !== "HEAD")) {
      const response = await call(route, { authorization: `Bearer ${key}` });
      assert.equal(response.status, 401);
      assert.equal(
        ((await response.json()) as { error: { code: string } }).error.code,
        code,
        `${route.method} ${route.path}`,
      );
    }
  }
});
