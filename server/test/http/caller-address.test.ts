import assert from "node:assert/strict";
import type { IncomingMessage } from "node:http";
import { test } from "node:test";
import { callerAddress, cameByTls } from "../../src/http/caller-address.ts";

const request = (peer: string | undefined, headers: Record<string, string>): IncomingMessage =>
  ({ socket: { remoteAddress: peer }, headers }) as unknown as IncomingMessage;

const addressOf = (
  forwarded: string | undefined,
  trustedProxies: number,
  peer: string | undefined = "10.0.0.1",
): string =>
  callerAddress(request(peer, forwarded === undefined ? {} : { "x-forwarded-for": forwarded }), trustedProxies);

test("without trusted proxies X-Forwarded-For says nothing, whatever stands in it", () => {
  for (const forged of ["203.0.113.7", "203.0.113.7, 127.0.0.1", "", ",", "garbage"])
    assert.equal(addressOf(forged, 0), "10.0.0.1");
});

test("the address that the outermost trusted proxy saw is the caller's, and what callers wrote before it is not read", () => {
  assert.equal(addressOf("203.0.113.7", 1), "203.0.113.7");
  assert.equal(addressOf("127.0.0.1, 203.0.113.7", 1), "203.0.113.7");
  assert.equal(addressOf("127.0.0.1, 203.0.113.7, 10.0.0.2", 2), "203.0.113.7");
  assert.equal(addressOf("127.0.0.1,127.0.0.1,203.0.113.7,10.0.0.3,10.0.0.2", 3), "203.0.113.7");
  assert.equal(addressOf(`${"127.0.0.1, ".repeat(1_000)}203.0.113.7`, 1), "203.0.113.7");
});

test("with fewer entries than trusted proxies the header is not believed at all", () => {
  assert.equal(addressOf(undefined, 1), "10.0.0.1");
  assert.equal(addressOf("203.0.113.7", 2), "10.0.0.1");
  assert.equal(addressOf("203.0.113.7, 10.0.0.2", 3), "10.0.0.1");
});

for (const broken of [
  "",
  "unknown",
  "_hidden",
  "203.0.113",
  "0xcb.0.113.7",
  "203.0.113.07",
  "203.0.113.7.",
  "203.0.113.7:",
  "203.0.113.7:99999999",
  "[203.0.113.7]",
  "[2001:db8::1",
  "[2001:db8::1]x",
  "2001:db8::1%eth0",
  "2001:db8::1::2",
  "example.com",
  '"203.0.113.7"',
  "for=203.0.113.7",
  "203.0.113.7 198.51.100.1",
]) {
  test(`behind ${JSON.stringify(broken)}, which is no address, the nearest address that is believed counts`, () => {
    assert.equal(addressOf(broken, 1), "10.0.0.1", "the peer");
    assert.equal(addressOf(`198.51.100.9, ${broken}`, 1), "10.0.0.1", "and never what the caller wrote before it");
    assert.equal(addressOf(`198.51.100.9, ${broken}, 10.0.0.2`, 2), "10.0.0.2", "the inner proxy");
    assert.equal(addressOf(`198.51.100.9, ${broken}, 10.0.0.2`, 3), "10.0.0.2", "not past it");
  });
}

for (const [written, read] of [
  ["203.0.113.7:443", "203.0.113.7"],
  ["2001:DB8:0::1", "2001:db8::1"],
  ["[2001:db8::1]", "2001:db8::1"],
  ["[2001:db8::1]:443", "2001:db8::1"],
  ["::ffff:203.0.113.7", "203.0.113.7"],
  ["[::ffff:cb00:7107]:80", "203.0.113.7"],
  ["\t203.0.113.7 ", "203.0.113.7"],
] as const) {
  test(`${JSON.stringify(written)} of a trusted proxy is ${read}`, () => assert.equal(addressOf(written, 1), read));
}

test("a peer on a socket that takes both families is known by its IPv4 address, and a link-local one without its interface", () => {
  assert.equal(addressOf(undefined, 0, "::ffff:203.0.113.7"), "203.0.113.7");
  assert.equal(addressOf(undefined, 0, "fe80::1%eth0"), "fe80::1");
  assert.equal(callerAddress(request(undefined, {}), 0), "unknown");
});

test("TLS is told from the connection, or by trusted proxies, and by nobody else", () => {
  const by = (proto: string, trustedProxies: number): boolean =>
    cameByTls(request("10.0.0.1", { "x-forwarded-proto": proto }), trustedProxies);
  assert.equal(by("https", 0), false);
  assert.equal(by("https", 1), true);
  assert.equal(by("HTTPS", 1), true);
  assert.equal(by("http", 1), false);
  assert.equal(by("https, http", 1), false, "the caller wrote https, the proxy http");
  assert.equal(by("https, http", 2), true, "the outer proxy was called by https");
  assert.equal(by("https", 2), true, "an inner proxy passes on what the outer one wrote");
  assert.equal(by("wss", 1), false);
});
