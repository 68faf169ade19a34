import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import type { ApiKey } from "../../src/access/api-key.ts";
import { isAddressAllowed, parseAllowedIps } from "../../src/access/ip-allow-list.ts";

const keyWith = (allowedIps: readonly string[] | undefined): ApiKey => ({
  id: "bk_0123456789AB",
  name: "test",
  state: { kind: "active" },
  revision: 1,
  ...(allowedIps && { allowedIps }),
  createdAtMs: 0,
});

const allowed = (list: readonly string[], address: string): boolean => isAddressAllowed(keyWith(list), address);

function listOf(texts: readonly string[]): readonly string[] {
  const parsed = parseAllowedIps(texts);
  assert.ok(parsed.kind === "list", JSON.stringify(parsed));
  return parsed.ips;
}

function faultOf(texts: readonly string[]): string {
  const parsed = parseAllowedIps(texts);
  assert.ok(parsed.kind === "faulty", JSON.stringify(parsed));
  return parsed.fault;
}

const normal: readonly [string, string][] = [
  ["203.0.113.7", "203.0.113.7"],
  [" 203.0.113.7 ", "203.0.113.7"],
  ["203.0.113.7/32", "203.0.113.7"],
  ["203.0.113.0/24", "203.0.113.0/24"],
  ["0.0.0.0/0", "0.0.0.0/0"],
  ["2001:DB8:0:0:0:0:0:1", "2001:db8::1"],
  ["2001:db8::1/128", "2001:db8::1"],
  ["2001:0db8::/32", "2001:db8::/32"],
  ["::/0", "::/0"],
  ["::ffff:203.0.113.7", "203.0.113.7"],
  ["::ffff:cb00:7107", "203.0.113.7"],
  ["::ffff:203.0.113.0/120", "203.0.113.0/24"],
];
for (const [given, kept] of normal) {
  test(`an allow list keeps ${JSON.stringify(given)} as ${kept}`, () => assert.deepEqual(listOf([given]), [kept]));
}

test("an address that stands twice in different forms is kept once", () => {
  assert.deepEqual(listOf(["10.0.0.1", "::ffff:a00:1", "10.0.0.1/32"]), ["10.0.0.1"]);
});

const refused: readonly [string, RegExp][] = [
  ["", /is not an address such as/],
  ["example.com", /is not an address such as/],
  ["203.0.113.7:443", /is not an address such as/],
  ["[2001:db8::1]", /is not an address such as/],
  ["2001:db8::1::2", /is not an address such as/],
  ["203.0.113.0/24/8", /is not an address such as/],
  ["0x0a.1.2.3", /plain decimal digits/],
  ["0xcb007107", /plain decimal digits/],
  ["010.1.2.3", /plain decimal digits/],
  ["10.1.2.03", /plain decimal digits/],
  ["127.1", /plain decimal digits/],
  ["2130706433", /plain decimal digits/],
  ["fe80::1%eth0", /has a zone/],
  ["fe80::%eth0/64", /has a zone/],
  ["203.0.113.7/33", /a length from 0 to 32/],
  ["203.0.113.0/-1", /a length from 0 to 32/],
  ["203.0.113.0/024", /a length from 0 to 32/],
  ["203.0.113.0/", /a length from 0 to 32/],
  ["203.0.113.0/255.255.255.0", /a length from 0 to 32/],
  ["2001:db8::/129", /a length from 0 to 128/],
  ["::ffff:203.0.113.0/24", /a length from 96 to 128/],
  ["203.0.113.7/24", /write 203\.0\.113\.0\/24 for the range, or 203\.0\.113\.7 for the address/],
  ["2001:db8::1/32", /write 2001:db8::\/32 for the range, or 2001:db8::1 for the address/],
];
for (const [given, fault] of refused) {
  test(`an allow list refuses ${JSON.stringify(given)} and says why`, () =>
    assert.match(faultOf(["192.0.2.1", given]), fault));
}

test("an allow list takes 100 entries, and neither more nor none", () => {
  const many = Array.from({ length: 101 }, (_, index) => `10.0.0.${index}`);
  assert.equal(listOf(many.slice(1)).length, 100);
  assert.match(faultOf(many), /101 entries, and at most 100/);
  assert.match(faultOf([]), /empty/);
});

test("a fault does not repeat a long text in full", () => {
  assert.ok(faultOf(["x".repeat(10_000)]).length < 300);
});

test("a key without a list may be used from everywhere, and one with a list from nowhere else", () => {
  assert.equal(isAddressAllowed(keyWith(undefined), "203.0.113.7"), true);
  assert.equal(isAddressAllowed(keyWith(undefined), "unknown"), true);
  assert.equal(allowed(["203.0.113.0/24"], "203.0.113.255"), true);
  assert.equal(allowed(["203.0.113.0/24"], "203.0.114.0"), false);
  assert.equal(allowed(["203.0.113.0/24"], "unknown"), false);
  assert.equal(allowed(["203.0.113.0/24"], ""), false);
  assert.equal(allowed(["2001:db8::/32"], "2001:db8:ffff::1"), true);
  assert.equal(allowed(["2001:db8::/32"], "2001:db9::1"), false);
});

test("IPv4 that comes mapped into IPv6, in digits or in hexadecimal, is looked for among IPv4", () => {
  assert.equal(allowed(["10.0.0.0/8"], "::ffff:10.1.2.3"), true);
  assert.equal(allowed(["10.0.0.0/8"], "::ffff:a01:203"), true);
  assert.equal(allowed(["10.0.0.0/8"], "::ffff:b01:203"), false);
});

test("all of IPv6 does not let in IPv4, and all of IPv4 not IPv6", () => {
  assert.equal(allowed(["::/0"], "203.0.113.7"), false);
  assert.equal(allowed(["::/0"], "::ffff:203.0.113.7"), false);
  assert.equal(allowed(["::/0"], "2001:db8::1"), true);
  assert.equal(allowed(["0.0.0.0/0"], "2001:db8::1"), false);
});

test("an entry that storage holds and nobody can read lets nobody in, and the others go on", () => {
  assert.equal(allowed(["rubbish"], "203.0.113.7"), false);
  assert.equal(allowed(["rubbish", "203.0.113.7"], "203.0.113.7"), true);
});

test("a range holds exactly the addresses whose first bits are its own", () => {
  fc.assert(
    fc.property(
      fc.bigInt({ min: 0n, max: 0xffffffffn }),
      fc.bigInt({ min: 0n, max: 0xffffffffn }),
      fc.integer({ min: 0, max: 32 }),
      (one, other, prefix) => {
        const text = (bits: bigint) => [24n, 16n, 8n, 0n].map((by) => (bits >> by) & 255n).join(".");
        const hostBits = BigInt(32 - prefix);
        const network = (one >> hostBits) << hostBits;
        const list = listOf([`${text(network)}/${prefix}`]);
        assert.equal(allowed(list, text(one)), true);
        assert.equal(allowed(list, text(other)), other >> hostBits === one >> hostBits);
      },
    ),
  );
});
