import { BlockList, isIP, isIPv4, isIPv6 } from "node:net";

/**
 * Which addresses lie inside: loopback, private networks, link-local (where clouds keep their metadata), carrier-grade NAT,
 * multicast, and what IANA's special-purpose registries reserve. Also the ways to write an IPv4 address as an IPv6 one.
 */
const inside = new BlockList();
for (const [network, prefix] of [
  ["0.0.0.0", 8],
  ["10.0.0.0", 8],
  ["100.64.0.0", 10],
  ["127.0.0.0", 8],
  // Answers with the metadata of Azure's machines, from a public range.
  ["168.63.129.16", 32],
  ["169.254.0.0", 16],
  ["172.16.0.0", 12],
  ["192.0.0.0", 24],
  ["192.168.0.0", 16],
  ["198.18.0.0", 15],
  ["224.0.0.0", 3],
] as const)
  inside.addSubnet(network, prefix, "ipv4");
for (const [network, prefix] of [
  // Unspecified, loopback and the old IPv4-compatible form.
  ["::", 96],
  ["64:ff9b:1::", 48],
  ["100::", 64],
  // Tunnels with an IPv4 address inside, which no provider is reached by.
  ["2001::", 32],
  ["2002::", 16],
  ["fc00::", 7],
  ["fe80::", 10],
  ["fec0::", 10],
  ["ff00::", 8],
] as const)
  inside.addSubnet(network, prefix, "ipv6");

const NAT64 = new BlockList();
NAT64.addSubnet("64:ff9b::", 96, "ipv6");

/** Of an IPv4 or IPv6 address, also one with a zone. What is no address counts as inside: nobody should connect to it. */
export function isPrivateAddress(text: string): boolean {
  const address = text.split("%", 1)[0] ?? "";
  if (isIPv4(address)) return inside.check(address, "ipv4");
  // The list takes an IPv4-mapped address for the IPv4 one.
  if (!isIPv6(address)) return true;
  // A network without IPv4 reaches public IPv4 addresses by this prefix, so what is embedded decides.
  return NAT64.check(address, "ipv6") ? inside.check(lastFourBytes(address), "ipv4") : inside.check(address, "ipv6");
}

/** Whether a URL's host is an address inside, or the name that always means this machine (RFC 6761 §6.3); other names are looked up. */
export function namesPrivateAddress(hostname: string): boolean {
  const host = hostname
    .replace(/^\[|\]$/g, "")
    .replace(/\.$/, "")
    .toLowerCase();
  return isIP(host) === 0 ? host === "localhost" || host.endsWith(".localhost") : isPrivateAddress(host);
}

function lastFourBytes(address: string): string {
  const dotted = /(\d+\.\d+\.\d+\.\d+)$/.exec(address)?.[1];
  if (dotted !== undefined) return dotted;
  // The URL parser writes every address in one way: groups of hexadecimal digits.
  const hostname = new URL(`http://[${address}]`).hostname.slice(1, -1);
  const [high = 0, low = 0] = (hostname.endsWith("::") ? `${hostname}0` : hostname)
    .split(":")
    .slice(-2)
    .map((group) => Number.parseInt(group || "0", 16));
  return [high >> 8, high & 0xff, low >> 8, low & 0xff].join(".");
}
