import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { isPrivateAddress, namesPrivateAddress } from "../../src/lib/private-address.ts";

const INSIDE = [
  "0.0.0.0",
  "10.0.0.1",
  "10.255.255.255",
  "100.64.0.1",
  "100.100.100.200",
  "127.0.0.1",
  "127.255.255.254",
  "168.63.129.16",
  "169.254.169.254",
  "172.16.0.1",
  "172.31.255.255",
  "192.0.0.192",
  "192.168.1.1",
  "198.18.0.1",
  "224.0.0.1",
  "239.255.255.250",
  "240.0.0.1",
  "255.255.255.255",
];
const OUTSIDE = [
  "1.1.1.1",
  "8.8.8.8",
  "9.255.255.255",
  "11.0.0.0",
  "100.63.255.255",
  "100.128.0.0",
  "126.255.255.255",
  "128.0.0.1",
  "169.253.255.255",
  "172.15.255.255",
  "172.32.0.0",
  "192.167.255.255",
  "192.169.0.0",
  "198.20.0.0",
  "223.255.255.255",
];

/** Every way in which IPv6 writes an IPv4 address that some network would carry to it. */
const asIpv6 = (ipv4: string): string[] => {
  const [a = 0, b = 0, c = 0, d = 0] = ipv4.split(".").map(Number);
  const groups = `${((a << 8) | b).toString(16)}:${((c << 8) | d).toString(16)}`;
  return [`::ffff:${ipv4}`, `::ffff:${groups}`, `0:0:0:0:0:FFFF:${groups}`, `64:ff9b::${ipv4}`, `64:ff9b::${groups}`];
};

test("loopback, private, link-local, shared, multicast, reserved and metadata addresses are inside, and so is every IPv6 spelling of one", () => {
  for (const address of INSIDE)
    for (const spelling of [address, ...asIpv6(address)]) assert.equal(isPrivateAddress(spelling), true, spelling);
  for (const address of [
    "::",
    "::1",
    "::127.0.0.1",
    "fc00::1",
    "fd00:ec2::254",
    "fdff:ffff::1",
    "fe80::1",
    "fe80::1%eth0",
    "febf::1",
    "fec0::1",
    "ff02::1",
    "2002:7f00:1::",
    "2001:0:a00:1::",
    "64:ff9b:1::a00:1",
  ])
    assert.equal(isPrivateAddress(address), true, address);
});

test("public addresses are outside, up to the edge of what is inside, also when a network without IPv4 reaches them", () => {
  for (const address of OUTSIDE)
    for (const spelling of [address, ...asIpv6(address)]) assert.equal(isPrivateAddress(spelling), false, spelling);
  for (const address of ["2606:4700:4700::1111", "2a00:1450:4001:80b::200e", "fbff::1"])
    assert.equal(isPrivateAddress(address), false, address);
});

test("what is no address counts as inside", () => {
  for (const text of ["", "example.com", "1.2.3", "::g", "1.2.3.4.5"]) assert.equal(isPrivateAddress(text), true, text);
});

test("a URL's host is told inside however its address is spelled: decimal, hexadecimal, octal, short, wide, mapped", () => {
  for (const host of [
    "127.0.0.1",
    "127.1",
    "2130706433",
    "0x7f000001",
    "0x7f.0.0.1",
    "0177.0.0.1",
    "017700000001",
    "127.0.0.1.",
    "%31%32%37.0.0.1",
    "①②⑦.0.0.1",
    "[::1]",
    "[::ffff:127.0.0.1]",
    "[::ffff:7f00:1]",
    "0xa9fea9fe",
    "2852039166",
    "169.254.169.254",
    "localhost",
    "LOCALHOST.",
    "anything.localhost",
    "0",
  ])
    assert.equal(namesPrivateAddress(new URL(`http://${host}/v1`).hostname), true, host);
  for (const host of ["api.example.com", "8.8.8.8", "134744072", "[2606:4700::1111]", "localhost.example.com"])
    assert.equal(namesPrivateAddress(new URL(`http://${host}/v1`).hostname), false, host);
});

test("every number that a URL takes for an address inside is told inside", () => {
  fc.assert(
    fc.property(fc.constantFrom(...INSIDE), fc.constantFrom(10, 8, 16), (address, radix) => {
      const number = address.split(".").reduce((sum, part) => sum * 256 + Number(part), 0);
      const prefix = { 10: "", 8: "0", 16: "0x" }[radix];
      const { hostname } = new URL(`http://${prefix}${number.toString(radix)}/`);
      assert.equal(namesPrivateAddress(hostname), true, hostname);
    }),
  );
});
