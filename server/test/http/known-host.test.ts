import assert from "node:assert/strict";
import { after, test } from "node:test";
import { loadConfig } from "../../src/config.ts";
import { startGateway } from "../harness/gateway-under-test.ts";
import { callRaw, type RawAnswer } from "../harness/raw-http.ts";

const loopback = await startGateway({ environment: { BRIKK_ALLOWED_HOSTS: "Brikk.Example.com" } });
after(() => loopback.close());

const ask = async (host: string | undefined, request = "GET /keys/me", more = ""): Promise<RawAnswer> => {
  const caller = await callRaw(loopback.url);
  const version = host === undefined ? "HTTP/1.0" : `HTTP/1.1\r\nHost: ${host}`;
  caller.send(`${request} ${version}\r\nConnection: close\r\n${more}\r\n`);
  const [answer] = await caller.closed;
  assert.ok(answer, "an answer came");
  return answer;
};
const codeOf = ({ body }: RawAnswer): string => (JSON.parse(body) as { error: { code: string } }).error.code;

/** Of names whose address a page's owner may change to this machine's. */
const FOREIGN = [
  "evil.example",
  "evil.example:8080",
  "EVIL.example.",
  "127.0.0.1.evil.example",
  "localhost.evil.example",
  "brikk.example.com.evil.example",
  "sub.brikk.example.com",
];

test("no page can call a gateway on loopback without a key by a name of its own, whose address became this machine's", async () => {
  for (const host of FOREIGN) {
    for (const request of [
      "GET /keys/me",
      "GET /v1/models",
      "POST /v1/chat/completions",
      "POST /sandbox/keys",
      "GET /metrics",
    ]) {
      const answer = await ask(host, request);
      assert.equal(answer.status, 403, `${request} of ${host}`);
      assert.equal(codeOf(answer), "host_not_allowed");
      assert.equal(answer.headers["x-ratelimit-limit"], undefined, "it counts against no limit");
    }
  }
  const refused = await ask("evil.example");
  assert.match(refused.body, /evil\.example.*BRIKK_ALLOWED_HOSTS/);
  assert.equal(refused.headers["x-should-retry"], "false");
  // What stands in for a key, as SDKs send it, is none.
  assert.equal((await ask("evil.example", "GET /keys/me", "Authorization: Bearer sk-nothing-of-ours\r\n")).status, 403);
  assert.equal((await loopback.events()).length, 0);
});

test("addresses, local names, names that were set, and who has a key are served as ever", async () => {
  for (const host of [
    "localhost",
    "localhost:8080",
    "LOCALHOST.",
    "brikk.localhost",
    "127.0.0.1:1",
    "[::1]:8080",
    "[::1]",
    "203.0.113.7",
    "brikk",
    "host.docker.internal:8080",
    "brikk.example.com:443",
    "",
    undefined,
  ])
    assert.equal((await ask(host)).status, 200, `Host: ${host}`);
  const { secret } = await loopback.createKey();
  assert.equal((await ask("evil.example", "GET /keys/me", `Authorization: Bearer ${secret}\r\n`)).status, 200);
});

test("names count where only this machine is meant to be served without a key, or where they are set", () => {
  const hostsOf = (environment: Readonly<Record<string, string>>) => loadConfig(environment).allowedHosts;
  assert.deepEqual(hostsOf({}), []);
  assert.deepEqual(hostsOf({ BRIKK_REQUIRE_AUTH: "true" }), [], "sandbox keys are made without one");
  assert.equal(hostsOf({ BRIKK_REQUIRE_AUTH: "true", BRIKK_SELF_SERVICE_KEYS: "false" }), undefined);
  assert.equal(hostsOf({ TRUST_PROXY: "1" }), undefined);
  assert.equal(hostsOf({ BRIKK_ALLOW_ANONYMOUS: "true" }), undefined);
  assert.equal(hostsOf({ HOST: "0.0.0.0", BRIKK_ALLOW_ANONYMOUS: "true" }), undefined);
  assert.deepEqual(hostsOf({ HOST: "0.0.0.0", BRIKK_ALLOW_ANONYMOUS: "true", BRIKK_ALLOWED_HOSTS: "a.example, B" }), [
    "a.example",
    "b",
  ]);
  for (const faulty of ["https://a.example", "a.example:8080", "*", "*.a.example", "a..example", "a example"])
    assert.throws(() => hostsOf({ BRIKK_ALLOWED_HOSTS: faulty }), /BRIKK_ALLOWED_HOSTS has /);
});
