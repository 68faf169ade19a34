import { BlockList, isIP } from "node:net";

const NEAR = new BlockList();
for (const [network, prefix] of [
  ["127.0.0.0", 8],
  ["10.0.0.0", 8],
  ["172.16.0.0", 12],
  ["192.168.0.0", 16],
  ["169.254.0.0", 16],
  // Between a carrier and its customers, and what overlay networks use (RFC 6598).
  ["100.64.0.0", 10],
] as const)
  NEAR.addSubnet(network, prefix, "ipv4");
for (const [network, prefix] of [
  ["::1", 128],
  ["fc00::", 7],
  ["fe80::", 10],
] as const)
  NEAR.addSubnet(network, prefix, "ipv6");

/** Top-level names that no public host has (RFC 6761, RFC 6762, and ICANN's reserved `internal`). */
const NEAR_NAME = /^[^.]+$|\.(localhost|local|internal|home\.arpa)$/;

/**
 * Whether a host of a URL, or of a database's address, is this machine or inside a private network, by its spelling alone: a
 * name without a dot is one that only a local network gives. The folder of a socket is near as well.
 */
export function isNearHost(host: string): boolean {
  if (host.startsWith("/")) return true;
  const bare = host.replace(/^\[(.*)\]$/, "$1").toLowerCase();
  const family = isIP(bare);
  if (family === 0) return NEAR_NAME.test(bare.replace(/\.$/, ""));
  return NEAR.check(bare, family === 4 ? "ipv4" : "ipv6");
}
