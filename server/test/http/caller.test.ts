import assert from "node:assert/strict";
import { after, test } from "node:test";
import { ANONYMOUS_KEY_ID } from "../../src/access/api-key.ts";
import { type GatewayUnderTest, startGateway } from "../harness/gateway-under-test.ts";
import { eventually } from "../ledger/ledger-fixture.ts";

const direct = await startGateway({ environment: { BRIKK_ANONYMOUS_RATE_LIMIT_PER_MIN: "2" } });
after(() => direct.close());
const proxied = await startGateway({ environment: { TRUST_PROXY: "1", BRIKK_ANONYMOUS_RATE_LIMIT_PER_MIN: "2" } });
after(() => proxied.close());

const me = (
  brikk: GatewayUnderTest,
  options: { key?: string; forwarded?: string | undefined } = {},
): Promise<Response> =>
  fetch(`${brikk.url}/keys/me`, {
    headers: {
      ...(options.key !== undefined && { authorization: `Bearer ${options.key}` }),
      ...(options.forwarded !== undefined && { "x-forwarded-for": options.forwarded }),
    },
  });

interface Refusal {
  readonly code: string;
  readonly details: Readonly<Record<string, unknown>>;
}

async function refusalOf(response: Response): Promise<Refusal> {
  return ((await response.json()) as { error: Refusal }).error;
}

async function statusOf(asked: Promise<Response>): Promise<number> {
  const response = await asked;
  await response.arrayBuffer();
  return response.status;
}

test("a key with an allow list is refused from elsewhere, before it counts against its limit, and the refusal names the address", async () => {
  const here = await direct.createKey({ allowedIps: ["127.0.0.0/8"] });
  const elsewhere = await direct.createKey({ allowedIps: ["203.0.113.0/24", "2001:db8::/32"] });
  assert.equal(await statusOf(me(direct, { key: here.secret })), 200);
  const refused = await me(direct, { key: elsewhere.secret });
  assert.equal(refused.status, 403);
  assert.equal(refused.headers.get("x-ratelimit-limit"), null);
  assert.equal(refused.headers.get("x-should-retry"), "false");
  const { code, details } = await refusalOf(refused);
  assert.equal(code, "ip_not_allowed");
  assert.deepEqual(details, { scope: "key", rule: "allowed_ips", address: "127.0.0.1" });
});

test("without trusted proxies a forged X-Forwarded-For neither opens an allow list nor makes a new caller", async () => {
  const { secret } = await direct.createKey({ allowedIps: ["203.0.113.7"] });
  for (const forwarded of ["203.0.113.7", "203.0.113.7, 127.0.0.1", "127.0.0.1, 203.0.113.7"])
    assert.equal(await statusOf(me(direct, { key: secret, forwarded })), 403);
  const statuses: number[] = [];
  for (let n = 0; n < 4; n += 1) statuses.push(await statusOf(me(direct, { forwarded: `198.51.100.${n}` })));
  assert.deepEqual(statuses, [200, 200, 429, 429]);
});

test("behind a trusted proxy the address that it saw counts, for the allow list and the limit of callers without a key", async () => {
  const { secret } = await proxied.createKey({ allowedIps: ["203.0.113.7"] });
  assert.equal(await statusOf(me(proxied, { key: secret, forwarded: "203.0.113.7" })), 200);
  assert.equal(await statusOf(me(proxied, { key: secret, forwarded: "198.51.100.1, 203.0.113.7:51234" })), 200);
  for (const forwarded of ["203.0.113.7, 198.51.100.1", "203.0.113.7, nonsense", "203.0.113.7,", undefined]) {
    const refused = await me(proxied, { key: secret, forwarded });
    assert.equal(refused.status, 403, String(forwarded));
    const { details } = await refusalOf(refused);
    assert.equal(details["address"], forwarded === "203.0.113.7, 198.51.100.1" ? "198.51.100.1" : "127.0.0.1");
  }
  const statuses: number[] = [];
  for (const forwarded of ["198.51.100.9", "192.0.2.1, 198.51.100.9", "192.0.2.2, 198.51.100.9", "198.51.100.10"])
    statuses.push(await statusOf(me(proxied, { forwarded })));
  assert.deepEqual(statuses, [200, 200, 429, 200]);
});

test("several lines of X-Forwarded-For are one list, of which the proxy wrote the end", async () => {
  const { secret } = await proxied.createKey({ allowedIps: ["203.0.113.7"] });
  const ask = (...lines: string[]): Promise<number> =>
    statusOf(
      fetch(`${proxied.url}/keys/me`, {
        headers: [
          ["authorization", `Bearer ${secret}`],
          ...lines.map((line): [string, string] => ["x-forwarded-for", line]),
        ],
      }),
    );
  assert.equal(await ask("198.51.100.1", "203.0.113.7"), 200);
  assert.equal(await ask("203.0.113.7", "198.51.100.1"), 403);
});

test("the key that callers without one share can have an allow list too", async (t) => {
  const brikk = await startGateway({ environment: { TRUST_PROXY: "1" } });
  t.after(() => brikk.close());
  await brikk.gateway.database.transact([
    {
      sql: "update api_keys set allowed_ips = ?, revision = (select max(revision) + 1 from api_keys) where id = ?",
      params: ['["203.0.113.0/24"]', ANONYMOUS_KEY_ID],
    },
  ]);
  await eventually(async () => (await statusOf(me(brikk, { forwarded: "198.51.100.1" }))) === 403);
  assert.equal(await statusOf(me(brikk, { forwarded: "203.0.113.9" })), 200);
});
