import { isIP } from "node:net";
import { namesPrivateAddress } from "../lib/private-address.ts";

/** Names that no public host has: those without a dot, which only a local network gives, and what is reserved for such networks. */
const NEAR_NAME = /^[^.]+$|\.(local|internal|home\.arpa)$/;

/**
 * Whether a host of a URL, or of a database's address, is this machine or inside a private network, by its spelling alone. The
 * folder of a socket is near as well.
 */
export function isNearHost(host: string): boolean {
  if (host.startsWith("/") || namesPrivateAddress(host)) return true;
  const bare = host.replace(/^\[(.*)\]$/, "$1").replace(/\.$/, "");
  return isIP(bare) === 0 && NEAR_NAME.test(bare.toLowerCase());
}
