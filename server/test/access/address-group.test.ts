import assert from "node:assert/strict";
import { test } from "node:test";
import { addressGroup } from "../../src/access/address-group.ts";

test("an IPv4 address is one caller, also where it comes mapped into IPv6", () => {
  assert.equal(addressGroup("203.0.113.7"), "203.0.113.7");
  assert.equal(addressGroup("::ffff:203.0.113.7"), "203.0.113.7");
  assert.equal(addressGroup("::FFFF:203.0.113.7"), "203.0.113.7");
  assert.notEqual(addressGroup("203.0.113.8"), addressGroup("203.0.113.7"));
});

test("the addresses of one IPv6 /64 are one caller, however they are written, and those of the next are another", () => {
  const group = "2001:db8:0:1::/64";
  for (const address of [
    "2001:db8:0:1::",
    "2001:db8:0:1::7",
    "2001:DB8:0:1:ffff:ffff:ffff:ffff",
    "2001:0db8:0000:0001:0:0:0:1",
    "2001:db8::1:2:3:4:5%eth0",
  ])
    assert.equal(addressGroup(address), group, address);
  assert.equal(addressGroup("2001:db8:0:2::7"), "2001:db8:0:2::/64");
  assert.equal(addressGroup("fe80::1%eth0"), "fe80:0:0:0::/64");
  assert.equal(addressGroup("::1"), "0:0:0:0::/64");
  assert.equal(addressGroup("64:ff9b::203.0.113.7"), "64:ff9b:0:0::/64");
});

test("a socket that is gone has a group too", () => {
  assert.equal(addressGroup(undefined), "unknown");
});
