const MAPPED_IPV4 = /^::ffff:(\d+\.\d+\.\d+\.\d+)$/i;
const LEADING_ZEROS = /(^|:)0+(?=[0-9a-f])/g;
const GROUPS = 8;
const NETWORK_GROUPS = 4;

/**
 * Whom an address is counted as. An IPv4 address is one caller, also where it comes mapped into IPv6 (RFC 4291 §2.5.5.2), as it
 * does on a socket that takes both. Of IPv6 a whole /64 is one caller: that is what one home or server is given (RFC 6177), and
 * with single addresses it could be 2^64 callers.
 */
export function addressGroup(remoteAddress: string | undefined): string {
  if (remoteAddress === undefined) return "unknown";
  if (!remoteAddress.includes(":")) return remoteAddress;
  const mapped = MAPPED_IPV4.exec(remoteAddress);
  if (mapped) return mapped[1]!;
  const [head = "", tail] = remoteAddress.split("%", 1)[0]!.toLowerCase().replace(LEADING_ZEROS, "$1").split("::");
  const network = head === "" ? [] : head.split(":");
  if (network.length < NETWORK_GROUPS) {
    const right = tail === undefined || tail === "" ? [] : tail.split(":");
    // An embedded IPv4 address stands for two groups, and is never within the first four that count.
    const written = network.length + right.length + (remoteAddress.includes(".") ? 1 : 0);
    for (let zeros = GROUPS - written; zeros > 0; zeros -= 1) network.push("0");
    network.push(...right);
  }
  return `${network.slice(0, NETWORK_GROUPS).join(":")}::/64`;
}
