import assert from "node:assert/strict";
import { request as httpRequest, type IncomingHttpHeaders } from "node:http";
import { after, test } from "node:test";
import { startGateway } from "../harness/gateway-under-test.ts";
import { callRaw } from "../harness/raw-http.ts";

const plain = await startGateway({ environment: { BRIKK_ADMIN_TOKEN: "an-admin-token-of-this-test" } });
after(() => plain.close());
const proxied = await startGateway({ environment: { TRUST_PROXY: "1" } });
after(() => proxied.close());

const FIXED: Readonly<Record<string, string>> = {
  "x-content-type-options": "nosniff",
  "x-frame-options": "DENY",
  "referrer-policy": "no-referrer",
};
const API_POLICY = "default-src 'none'; frame-ancestors 'none'";

const CHAT = { model: "gpt-4o-mini", messages: [{ role: "user", content: "Hello" }] };
const post = (path: string, body: unknown, headers: Record<string, string> = {}): Promise<Response> =>
  fetch(`${plain.url}${path}`, {
    method: "POST",
    headers: { "content-type": "application/json", ...headers },
    body: typeof body === "string" ? body : JSON.stringify(body),
  });

const answers: readonly [string, () => Promise<Response>, status: number][] = [
  ["an answer", () => post("/v1/chat/completions", CHAT), 200],
  ["a stream", () => post("/v1/chat/completions", { ...CHAT, stream: true }), 200],
  ["a key", () => fetch(`${plain.url}/keys/me`), 200],
  ["usage", () => fetch(`${plain.url}/usage/me`), 200],
  ["health", () => fetch(`${plain.url}/health`), 200],
  ["metrics", () => fetch(`${plain.url}/metrics`), 200],
  ["a body that is none", () => post("/v1/chat/completions", "{"), 400],
  ["a refused key", () => post("/v1/chat/completions", CHAT, { authorization: "Bearer brikk_wrong" }), 401],
  ["administration without its token", () => fetch(`${plain.url}/admin/fire-drill`), 401],
  ["no such path", () => fetch(`${plain.url}/nothing`), 404],
  ["no such method", () => fetch(`${plain.url}/keys/me`, { method: "DELETE" }), 405],
  ["a media type that is not taken", () => post("/v1/chat/completions", "x", { "content-type": "text/plain" }), 415],
  ["a path that cannot be decoded", () => fetch(`${plain.url}/health/%zz`), 400],
  ["a path that leads out of the docs", () => fetch(`${plain.url}/docs/static/..%5cpackage.json`), 404],
];
for (const [what, ask, status] of answers) {
  test(`nobody keeps, frames, guesses at or sends on: ${what}`, async () => {
    const response = await ask();
    await response.arrayBuffer();
    assert.equal(response.status, status);
    for (const [name, value] of Object.entries(FIXED)) assert.equal(response.headers.get(name), value, name);
    if (!response.url.includes("/docs")) assert.equal(response.headers.get("content-security-policy"), API_POLICY);
    assert.match(response.headers.get("cache-control")!, /^no-store\b/);
    assert.equal(response.headers.get("strict-transport-security"), null);
    assert.equal(response.headers.get("x-powered-by"), null);
    assert.equal(response.headers.get("server"), null);
  });
}

test("the pages of /docs load scripts and styles from here alone, and none that stand in the page", async () => {
  const page = await fetch(`${plain.url}/docs`);
  const policy = page.headers.get("content-security-policy")!;
  const directives = new Map(
    policy.split("; ").map((text) => [text.split(" ", 1)[0], text.slice(text.indexOf(" ") + 1)]),
  );
  assert.equal(directives.get("default-src"), "'none'");
  assert.equal(directives.get("script-src"), "'self'");
  assert.equal(directives.get("style-src"), "'self'");
  assert.equal(directives.get("frame-ancestors"), "'none'");
  assert.equal(directives.get("base-uri"), "'none'");
  assert.doesNotMatch(policy, /unsafe|\*|https?:/);
  assert.equal(page.headers.get("cross-origin-opener-policy"), "same-origin");
  const html = await page.text();
  assert.doesNotMatch(html, /<script(?![^>]* src=)|<style|\son[a-z]+=|javascript:/i);
  const script = await fetch(`${plain.url}/docs/static/swagger-ui-bundle.js`);
  await script.arrayBuffer();
  for (const [name, value] of Object.entries(FIXED)) assert.equal(script.headers.get(name), value, name);
  assert.match(script.headers.get("cache-control")!, /max-age/, "what holds nothing of anybody may be kept");
});

/** A path as it stands, which URL parsers would tidy. */
const getRaw = (path: string): Promise<{ status: number; headers: IncomingHttpHeaders; body: string }> =>
  new Promise((resolve, reject) => {
    httpRequest(plain.url, { path }, (response) => {
      let body = "";
      response.setEncoding("utf8").on("data", (text: string) => (body += text));
      response.on("end", () => resolve({ status: response.statusCode!, headers: response.headers, body }));
    })
      .on("error", reject)
      .end();
  });

for (const path of [
  "/docs/static/../../package.json",
  "/docs/static/../../../../../../etc/passwd",
  "/docs/static/%2e%2e/%2e%2e/package.json",
  "/docs/static/..%2f..%2fpackage.json",
  "/docs/static/%252e%252e%252fpackage.json",
  "/docs/static/..\\..\\package.json",
  "/docs/static/..%5c..%5cpackage.json",
  "/docs/static/....//....//package.json",
  "/docs/static/%c0%ae%c0%ae/package.json",
  "/docs/static//etc/passwd",
  "/docs/static/%2fetc%2fpasswd",
  "/docs/static/file:///etc/passwd",
  "/docs/static/C:/windows/win.ini",
  "/docs/static/swagger-ui.css%00.html",
  "/docs/static/%00",
  "/docs/static/.env",
  "/docs/static/../index.js",
  "/docs/../../package.json",
  "/docs/static/swagger-ui.css/../../../package.json",
  `/docs/static/${"../".repeat(2_000)}etc/passwd`,
]) {
  test(`no way out of the folder of static files: ${path.slice(0, 60)}`, async () => {
    const { status, body } = await getRaw(path);
    assert.ok([400, 404].includes(status), `${status}`);
    assert.match(body, /"code":"(not_found|invalid_request)"/);
    assert.doesNotMatch(body, /root:|"dependencies"|swagger-ui-dist/);
  });
}

test("Strict-Transport-Security is sent when a trusted proxy says that the caller came by TLS, and never otherwise", async () => {
  const hsts = async (url: string, path: string, proto?: string): Promise<string | null> => {
    const response = await fetch(`${url}${path}`, {
      headers: proto === undefined ? {} : { "x-forwarded-proto": proto },
    });
    await response.arrayBuffer();
    return response.headers.get("strict-transport-security");
  };
  for (const path of ["/health/live", "/docs", "/nothing", "/health/%zz"]) {
    assert.equal(await hsts(proxied.url, path, "https"), "max-age=31536000", path);
    assert.equal(await hsts(proxied.url, path, "http"), null, path);
    assert.equal(await hsts(proxied.url, path), null, path);
    assert.equal(await hsts(plain.url, path, "https"), null, "whoever says so without a trusted proxy is not believed");
  }
});

test("what cannot be read as HTTP is refused under the same headers", async () => {
  const caller = await callRaw(plain.url);
  caller.send("nonsense\r\n\r\n");
  const [answer] = await caller.closed;
  for (const [name, value] of Object.entries({
    ...FIXED,
    "content-security-policy": API_POLICY,
    "cache-control": "no-store",
  }))
    assert.equal(answer!.headers[name], value, name);
});
