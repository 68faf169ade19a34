import type { IncomingMessage } from "node:http";
import { isIP } from "node:net";
import { isNearHost } from "../config/near-host.ts";
import { BrikkError } from "../errors.ts";

/** Why a request that came without a key cannot be served under the name that it was sent to; undefined: it can. */
export type HostCheck = (request: Pick<IncomingMessage, "headers">) => BrikkError | undefined;

/**
 * A page may be served from a name whose address its owner then changes to 127.0.0.1 (DNS rebinding). To its visitors' browsers
 * what answers there is of the page's own origin, so that neither CORS nor a preflight stands between; the Host header still says
 * which name was called. Addresses, and names that no public DNS gives, cannot be the page's. With `names` undefined every
 * host is taken.
 */
export function createHostCheck(names: readonly string[] | undefined): HostCheck {
  if (names === undefined) return () => undefined;
  const known = new Set(names);
  return ({ headers: { host } }) => {
    // No browser leaves it out.
    if (host === undefined || host === "") return undefined;
    const name = nameIn(host);
    if (known.has(name) || isIP(name.replace(/^\[(.*)\]$/, "$1")) !== 0 || isNearHost(name)) return undefined;
    return new BrikkError(
      "host_not_allowed",
      `Callers without a key are not served under the name ${name.slice(0, 100)}, so that no web page can call this server by a name of its own. Call localhost or the server's address, send a key, or add the name to BRIKK_ALLOWED_HOSTS.`,
      { details: { scope: "request", rule: "host" } },
    );
  };
}

/** Without its port and the dot at its end, in lower case. */
const nameIn = (host: string): string => host.replace(/:\d*$/, "").replace(/\.$/, "").toLowerCase();
