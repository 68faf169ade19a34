import { lookup as systemLookup } from "node:dns";
import { isIP, type LookupFunction } from "node:net";
import { buildConnector } from "undici";
import { isPrivateAddress } from "./private-address.ts";

/** Nobody connects to where a name or an address leads inside. The message names no address. */
export class PrivateAddressError extends Error {
  override readonly name = "PrivateAddressError";
  readonly code = "ERR_PRIVATE_ADDRESS";

  constructor() {
    super("The host has an address inside a private network, which BRIKK_ALLOW_PRIVATE_ADDRESSES does not allow.");
  }
}

export interface ConnectorOptions {
  readonly timeoutMs: number;
  readonly allowPrivateAddresses: boolean;
}

/** How undici's pools get their connections: HTTP/1.1, and to public addresses alone unless others are allowed. */
export function createConnector({ timeoutMs, allowPrivateAddresses }: ConnectorOptions): buildConnector.connector {
  const options = { timeout: timeoutMs, allowH2: false };
  if (allowPrivateAddresses) return buildConnector(options);
  const connect = buildConnector({ ...options, lookup: publicLookup() });
  return (target, callback) => {
    // An address in a name's place is never looked up.
    const address = target.hostname.replace(/^\[|\]$/g, "");
    if (isIP(address) !== 0 && isPrivateAddress(address)) return callback(new PrivateAddressError(), null);
    connect(target, callback);
  };
}

/**
 * A look-up whose answers are looked at. What it gives is what the socket connects to, so a name that means another address
 * a moment later gains nothing. One address inside among several refuses all: such a name is not to be trusted.
 */
export function publicLookup(lookup: typeof systemLookup = systemLookup): LookupFunction {
  return (hostname, options, callback) => {
    lookup(hostname, { ...options, all: true }, (error, found) => {
      if (error) return callback(error, "", 0);
      const [first] = found;
      if (first === undefined || found.some(({ address }) => isPrivateAddress(address)))
        return callback(new PrivateAddressError(), "", 0);
      if (options.all === true) return callback(null, found);
      callback(null, first.address, first.family);
    });
  };
}
