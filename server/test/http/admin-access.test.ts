import assert from "node:assert/strict";
import { after, test, type TestContext } from "node:test";
import { type GatewayUnderTest, type HarnessOptions, startGateway } from "../harness/gateway-under-test.ts";
import { createTestClock } from "../lib/test-clock.ts";

const TOKEN = "the-admin-token-of-this-test";

async function startAdministered(t: TestContext, options: HarnessOptions = {}): Promise<GatewayUnderTest> {
  const brikk = await startGateway({ ...options, environment: { BRIKK_ADMIN_TOKEN: TOKEN, ...options.environment } });
  t.after(() => brikk.close());
  return brikk;
}

const drill = (brikk: GatewayUnderTest, authorization?: string): Promise<Response> =>
  fetch(`${brikk.url}/admin/fire-drill`, { headers: authorization === undefined ? {} : { authorization } });

interface ErrorAnswer {
  readonly error: { readonly message: string; readonly code: string; readonly details: Record<string, unknown> | null };
}

const plain = await startGateway();
after(() => plain.close());

test("without BRIKK_ADMIN_TOKEN every path under /admin answers as one that is not there, whatever is sent", async () => {
  for (const [method, path] of [
    ["GET", "/admin/fire-drill"],
    ["HEAD", "/admin/fire-drill"],
    ["PUT", "/admin/fire-drill"],
    ["POST", "/admin/fire-drill/faults"],
    ["DELETE", "/admin/fire-drill/faults/fault-1"],
    ["POST", "/admin/circuit-breakers/reset"],
  ] as const) {
    const ask = async (target: string): Promise<unknown> => {
      const response = await fetch(`${plain.url}${target}`, {
        method,
        headers: { authorization: `Bearer ${TOKEN}`, "x-request-id": "the-same-for-both" },
      });
      const headers = Object.fromEntries(response.headers);
      for (const name of ["date", "traceparent", "content-length"]) delete headers[name];
      return { status: response.status, headers, text: (await response.text()).replace(target, "PATH") };
    };
    const known = await ask(path);
    assert.deepEqual(known, await ask("/nothing-of-the-kind"), `${method} ${path}`);
    assert.equal((known as { status: number }).status, 404);
  }
  const document = (await (await fetch(`${plain.url}/openapi.json`)).json()) as { paths: object };
  assert.deepEqual(
    Object.keys(document.paths).filter((path) => path.startsWith("/admin")),
    [],
  );
});

test("only the whole token opens, in the Authorization header, and the scheme's case does not matter", async (t) => {
  const brikk = await startAdministered(t);
  assert.equal((await drill(brikk)).status, 401);
  for (const authorization of [
    "",
    "Bearer",
    `Basic ${TOKEN}`,
    `Bearer ${TOKEN.slice(0, -1)}`,
    `Bearer ${TOKEN}x`,
    `Bearer ${TOKEN.toUpperCase()}`,
    `Bearer x ${TOKEN}`,
  ]) {
    const response = await drill(brikk, authorization);
    assert.equal(response.status, 401, authorization);
    const { error } = (await response.json()) as ErrorAnswer;
    assert.equal(error.code, "admin_token_invalid");
    assert.equal(JSON.stringify(error).includes(TOKEN), false);
  }
  for (const authorization of [`Bearer ${TOKEN}`, `bearer  ${TOKEN} `])
    assert.equal((await drill(brikk, authorization)).status, 200);
});

test("wrong tokens are limited by address: after ten a minute the right one is not heard either, until some time has passed", async (t) => {
  const clock = createTestClock();
  const lines: string[] = [];
  const brikk = await startAdministered(t, { clock, log: { write: (line) => void lines.push(line) } });
  // A forgotten token is no guess.
  for (let turn = 0; turn < 20; turn += 1) assert.equal((await drill(brikk)).status, 401);
  for (let turn = 0; turn < 10; turn += 1) assert.equal((await drill(brikk, "Bearer wrong-token-guess")).status, 401);
  for (const authorization of ["Bearer wrong-token-guess", `Bearer ${TOKEN}`]) {
    const refused = await drill(brikk, authorization);
    assert.equal(refused.status, 429);
    assert.equal(refused.headers.get("retry-after"), "6");
    const { error } = (await refused.json()) as ErrorAnswer;
    assert.deepEqual(
      [error.code, error.details?.["rule"], error.details?.["scope"], error.details?.["limit"]],
      ["rate_limit_exceeded", "wrong-admin-tokens", "ip", 10],
    );
  }
  clock.advance(6_000);
  assert.equal((await drill(brikk, `Bearer ${TOKEN}`)).status, 200);
  const warnings = lines.filter((line) => line.includes("a wrong admin token was sent"));
  assert.equal(warnings.length, 10);
  assert.ok(!lines.join("").includes("wrong-token-guess"), "a near miss is not written down");
});

test("an administrator's requests count against no caller's limit, and are answered while callers are limited", async (t) => {
  const brikk = await startAdministered(t, {
    environment: { BRIKK_RATE_LIMIT_PER_MIN: "1", BRIKK_ANONYMOUS_RATE_LIMIT_PER_MIN: "1" },
  });
  for (let turn = 0; turn < 5; turn += 1) assert.equal((await drill(brikk, `Bearer ${TOKEN}`)).status, 200);
  assert.equal((await fetch(`${brikk.url}/v1/models`)).status, 200);
  assert.equal((await fetch(`${brikk.url}/v1/models`)).status, 429);
  assert.equal((await drill(brikk, `Bearer ${TOKEN}`)).status, 200);
});

test("a body that comes without the admin token is not read", async (t) => {
  const brikk = await startAdministered(t);
  const response = await fetch(`${brikk.url}/admin/fire-drill/faults`, {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: "{ this is no JSON",
  });
  assert.equal(response.status, 401);
});
