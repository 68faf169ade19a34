import { isIPv4, isIPv6, SocketAddress } from "node:net";

export interface IpAddress {
  readonly family: "ipv4" | "ipv6";
  /** In its one normal form (RFC 5952), so that two texts are the same address exactly when they are equal. */
  readonly text: string;
  readonly bits: bigint;
}

export const WIDTH = { ipv4: 32, ipv6: 128 } as const;

const MAPPED_PREFIX = 0xffffn;

/**
 * Undefined for whatever is not a whole address in digits. An IPv4 address that comes mapped into IPv6 (RFC 4291 §2.5.5.2) is
 * the IPv4 address. No octal, hexadecimal or shortened IPv4, which readers disagree about, and no zone.
 */
export function parseIpAddress(text: string): IpAddress | undefined {
  if (isIPv4(text)) return { family: "ipv4", text, bits: bitsOfIpv4(text) };
  if (!isIPv6(text) || text.includes("%")) return undefined;
  const bits = bitsOfIpv6(text);
  if (bits >> 32n === MAPPED_PREFIX) return ipAddressOf("ipv4", bits & 0xffffffffn);
  return { family: "ipv6", text: new SocketAddress({ family: "ipv6", address: text }).address, bits };
}

export function ipAddressOf(family: IpAddress["family"], bits: bigint): IpAddress {
  if (family === "ipv4") return { family, text: groupsOf(bits, 4, 8n).join("."), bits };
  const groups = groupsOf(bits, 8, 16n).map((group) => group.toString(16));
  return { family, text: new SocketAddress({ family, address: groups.join(":") }).address, bits };
}

const bitsOfIpv4 = (text: string): bigint => text.split(".").reduce((bits, part) => (bits << 8n) | BigInt(part), 0n);

function bitsOfIpv6(text: string): bigint {
  const [left = "", right] = text.split("::");
  const before = wordsOf(left);
  const after = right === undefined ? [] : wordsOf(right);
  const zeros = Array.from({ length: 8 - before.length - after.length }, () => 0n);
  return [...before, ...zeros, ...after].reduce((bits, word) => (bits << 16n) | word, 0n);
}

/** The 16-bit words of one side of `::`; its last part may be an IPv4 address, which is two of them. */
function wordsOf(side: string): bigint[] {
  if (side === "") return [];
  return side.split(":").flatMap((part) => {
    if (!part.includes(".")) return [BigInt(`0x${part}`)];
    const bits = bitsOfIpv4(part);
    return [bits >> 16n, bits & 0xffffn];
  });
}

const groupsOf = (bits: bigint, count: number, width: bigint): bigint[] =>
  Array.from({ length: count }, (_, index) => (bits >> (width * BigInt(count - 1 - index))) & ((1n << width) - 1n));
