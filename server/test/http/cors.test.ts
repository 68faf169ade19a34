import assert from "node:assert/strict";
import { after, test } from "node:test";
import { startGateway } from "../harness/gateway-under-test.ts";

const ORIGIN = "https://app.example.com";
const TOKEN = "an-admin-token-of-this-test";
const listed = await startGateway({
  environment: {
    BRIKK_REQUIRE_AUTH: "true",
    BRIKK_ADMIN_TOKEN: TOKEN,
    CORS_ALLOWED_ORIGINS: `${ORIGIN}, http://localhost:5173`,
  },
});
after(() => listed.close());
const everyone = await startGateway({ environment: { BRIKK_ADMIN_TOKEN: TOKEN, CORS_ALLOWED_ORIGINS: "*" } });
after(() => everyone.close());
const nobody = await startGateway();
after(() => nobody.close());

interface Preflight {
  readonly origin?: string;
  readonly path?: string;
  readonly method?: string;
  readonly headers?: string;
  readonly more?: Readonly<Record<string, string>>;
}

const preflight = (
  url: string,
  { origin = ORIGIN, path = "/v1/chat/completions", method = "POST", headers, more }: Preflight = {},
): Promise<Response> =>
  fetch(`${url}${path}`, {
    method: "OPTIONS",
    headers: {
      origin,
      "access-control-request-method": method,
      ...(headers !== undefined && { "access-control-request-headers": headers }),
      ...more,
    },
  });

const corsHeaders = ({ headers }: Response): string[] =>
  [...headers.keys()].filter((name) => name.startsWith("access-control-"));

test("a preflight of a listed origin is answered before anybody asks for a key, for its route's method", async () => {
  for (const origin of [ORIGIN, "http://localhost:5173"]) {
    const response = await preflight(listed.url, { origin, headers: "authorization,content-type" });
    assert.equal(response.status, 204);
    assert.equal(await response.text(), "");
    assert.equal(response.headers.get("access-control-allow-origin"), origin);
    assert.equal(response.headers.get("access-control-allow-methods"), "POST");
    assert.equal(response.headers.get("access-control-allow-headers"), "authorization, content-type");
    assert.equal(response.headers.get("access-control-max-age"), "7200");
    assert.match(response.headers.get("vary")!, /^Origin, /);
    assert.equal(response.headers.get("x-ratelimit-limit"), null, "it counts against no limit");
  }
});

test("credentials are never allowed, and no wildcard is sent to a listed origin", async () => {
  for (const { url } of [listed, everyone]) {
    for (const response of [await preflight(url), await fetch(`${url}/keys/me`, { headers: { origin: ORIGIN } })]) {
      assert.equal(response.headers.get("access-control-allow-credentials"), null);
      await response.arrayBuffer();
    }
  }
  assert.equal((await preflight(listed.url)).headers.get("access-control-allow-origin"), ORIGIN);
});

for (const [what, origin] of [
  ["a foreign origin", "https://example.org"],
  ["the null origin", "null"],
  ["a listed name as the beginning of another", "https://app.example.com.evil.com"],
  ["a listed name as the end of another", "https://evilapp.example.com"],
  ["a subdomain", "https://x.app.example.com"],
  ["the domain above", "https://example.com"],
  ["another scheme", "http://app.example.com"],
  ["another port", "https://app.example.com:8443"],
  ["the port written out", "https://app.example.com:443"],
  ["capitals", "https://APP.example.com"],
  ["a slash at the end", "https://app.example.com/"],
  ["a dot at the end", "https://app.example.com."],
  ["a user in front", "https://app.example.com@evil.com"],
  ["two origins", `${ORIGIN} https://evil.com`],
  ["a list of origins", `${ORIGIN}, https://evil.com`],
  ["a localhost of another port", "http://localhost:5174"],
  ["a look-alike letter", "https://xn--pp-6kc.example.com"],
  ["no origin", ""],
  ["a star", "*"],
] as const) {
  test(`no page may read an answer, nor ask for more, from ${what}`, async () => {
    const before = await preflight(listed.url, { origin });
    assert.equal(before.status, 405);
    assert.deepEqual(corsHeaders(before), []);
    const { secret } = await listed.createKey();
    const answer = await fetch(`${listed.url}/keys/me`, { headers: { origin, authorization: `Bearer ${secret}` } });
    assert.equal(answer.status, 200);
    assert.deepEqual(corsHeaders(answer), []);
    assert.equal(
      answer.headers.get("vary"),
      "Origin",
      "so that no cache gives it to a listed one, or the other way round",
    );
    await answer.arrayBuffer();
  });
}

test("a preflight for a path or a method that there is not is refused like any request", async () => {
  for (const [wanted, status] of [
    [{ path: "/nothing" }, 404],
    [{ method: "DELETE" }, 405],
    [{ method: "post" }, 405],
    [{ path: "/keys/me", method: "POST" }, 405],
  ] as const) {
    const response = await preflight(listed.url, wanted);
    assert.equal(response.status, status, JSON.stringify(wanted));
    assert.equal(response.headers.get("access-control-allow-methods"), null);
    await response.arrayBuffer();
  }
  const plain = await fetch(`${listed.url}/v1/chat/completions`, { method: "OPTIONS", headers: { origin: ORIGIN } });
  assert.equal(plain.status, 405, "without Access-Control-Request-Method it is no preflight");
});

test("the headers of this gateway, of its signatures and of OpenAI's SDK may be sent, and no others", async () => {
  const may = [
    "authorization",
    "content-type",
    "content-digest",
    "idempotency-key",
    "if-match",
    "last-event-id",
    "signature",
    "signature-input",
    "traceparent",
    "x-brikk-api-key",
    "x-brikk-rescue",
    "x-request-id",
    "x-stainless-arch",
    "x-stainless-retry-count",
    "x-stainless-timeout",
  ];
  const response = await preflight(listed.url, {
    headers: [...may.map((name) => name.toUpperCase()), "x-forwarded-for", "cookie", "x-evil", "x-brikk-", "*"].join(
      ",",
    ),
  });
  assert.equal(response.headers.get("access-control-allow-headers"), may.join(", "));
});

test("every header that this gateway answers with can be read by the page, refusals and streams included", async () => {
  const readable = new Set(
    [
      // https://fetch.spec.whatwg.org/#cors-safelisted-response-header-name
      "cache-control content-language content-length content-type expires last-modified pragma",
      // What concerns the connection, or the browser and not the page.
      "connection keep-alive transfer-encoding date vary x-accel-buffering www-authenticate",
      "x-content-type-options x-frame-options referrer-policy content-security-policy",
    ].flatMap((names) => names.split(" ")),
  );
  const { secret } = await listed.createKey({ tokensPerMin: 1_000_000, rateLimitPerMin: 3 });
  const chat = (body: object): Promise<Response> =>
    fetch(`${listed.url}/v1/chat/completions`, {
      method: "POST",
      headers: { origin: ORIGIN, authorization: `Bearer ${secret}`, "content-type": "application/json" },
      body: JSON.stringify({ model: "gpt-4o-mini", messages: [{ role: "user", content: "Hello" }], ...body }),
    });
  const createKey = (): Promise<Response> =>
    fetch(`${listed.url}/admin/keys`, {
      method: "POST",
      headers: {
        origin: ORIGIN,
        authorization: `Bearer ${TOKEN}`,
        "content-type": "application/json",
        "idempotency-key": "made-by-a-page",
      },
      body: JSON.stringify({ name: "made by a page" }),
    });
  const seen: unknown[] = [];
  for (const ask of [
    () => chat({}),
    () => chat({ stream: true }),
    () => chat({ model: "no-such-model" }),
    () => chat({}),
    createKey,
    createKey,
    () => fetch(`${listed.url}/keys/rotate`, { method: "DELETE", headers: { origin: ORIGIN } }),
  ]) {
    const response = await ask();
    seen.push(response.headers.has("idempotent-replayed") ? `${response.status} again` : response.status);
    await response.arrayBuffer();
    assert.equal(response.headers.get("access-control-allow-origin"), ORIGIN);
    const exposed = new Set(response.headers.get("access-control-expose-headers")!.toLowerCase().split(", "));
    for (const name of response.headers.keys())
      assert.ok(exposed.has(name) || readable.has(name) || name.startsWith("access-control-"), name);
  }
  assert.deepEqual(seen, [200, 200, 404, 429, 201, "201 again", 405]);
});

test("administration can be called from a listed origin, and from no other for a star", async () => {
  const admin = { path: "/admin/fire-drill", method: "GET" };
  assert.equal((await preflight(listed.url, admin)).status, 204);
  assert.equal((await preflight(listed.url, { ...admin, origin: "https://example.org" })).status, 405);
  assert.equal((await preflight(everyone.url, admin)).status, 405);
  const ask = async (url: string): Promise<string | null> => {
    const response = await fetch(`${url}/admin/fire-drill`, {
      headers: { origin: ORIGIN, authorization: `Bearer ${TOKEN}` },
    });
    assert.equal(response.status, 200);
    await response.arrayBuffer();
    return response.headers.get("access-control-allow-origin");
  };
  assert.equal(await ask(listed.url), ORIGIN);
  assert.equal(await ask(everyone.url), null);
});

test("the way from a public page into a private network is opened for listed origins alone", async () => {
  const asking = { more: { "access-control-request-private-network": "true" } };
  const opened = async (url: string, wanted: Preflight): Promise<string | null> =>
    (await preflight(url, wanted)).headers.get("access-control-allow-private-network");
  assert.equal(await opened(listed.url, asking), "true");
  assert.equal(await opened(listed.url, {}), null);
  assert.equal(await opened(listed.url, { ...asking, origin: "https://example.org" }), null);
  assert.equal(await opened(everyone.url, asking), null);
});

test("a star lets every origin call, and says so to all alike", async () => {
  for (const origin of [ORIGIN, "https://example.org", "null"]) {
    assert.equal((await preflight(everyone.url, { origin })).status, 204);
    const response = await fetch(`${everyone.url}/keys/me`, { headers: { origin } });
    assert.equal(response.headers.get("access-control-allow-origin"), "*");
    await response.arrayBuffer();
  }
});

test("without a list there is no CORS at all", async () => {
  const before = await preflight(nobody.url);
  assert.equal(before.status, 405);
  const answer = await fetch(`${nobody.url}/keys/me`, { headers: { origin: ORIGIN } });
  for (const response of [before, answer]) {
    assert.deepEqual(corsHeaders(response), []);
    assert.equal(response.headers.get("vary"), null);
    await response.arrayBuffer();
  }
});
