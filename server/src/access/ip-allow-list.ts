import { BlockList, isIPv4, isIPv6 } from "node:net";
import { type IpAddress, ipAddressOf, parseIpAddress, WIDTH } from "../lib/ip-address.ts";
import type { ApiKey } from "./api-key.ts";

const MAX_ENTRIES = 100;
const MAX_SHOWN = 60;
const FORM = "an address such as 203.0.113.7 or 2001:db8::1, or a range such as 203.0.113.0/24 or 2001:db8::/32";

export type AllowedIps =
  | { readonly kind: "list"; readonly ips: readonly string[] }
  /** The text is for whoever wrote the list. */
  | { readonly kind: "faulty"; readonly fault: string };

/**
 * Addresses and CIDR ranges of a key, in their one normal form and each once: a whole-width range as the bare address, IPv4
 * that is mapped into IPv6 as IPv4. What can be read in two ways, as octal digits or a range with host bits, is faulty.
 */
export function parseAllowedIps(texts: readonly string[]): AllowedIps {
  if (texts.length === 0) return faulty("the list is empty, so that nobody could use the key");
  if (texts.length > MAX_ENTRIES)
    return faulty(`the list has ${texts.length} entries, and at most ${MAX_ENTRIES} are taken; join them to ranges`);
  const ips = new Set<string>();
  for (const text of texts) {
    const entry = parseEntry(text.trim());
    if ("fault" in entry) return faulty(`"${text.slice(0, MAX_SHOWN)}" ${entry.fault}`);
    ips.add(textOf(entry));
  }
  return { kind: "list", ips: [...ips] };
}

/** Whether the key may be used from there; `ip` is the caller's address as `request.ip` gives it. */
export function isAddressAllowed(key: ApiKey, ip: string): boolean {
  if (key.allowedIps === undefined) return true;
  let lists = compiled.get(key);
  if (lists === undefined) {
    lists = compile(key.allowedIps);
    compiled.set(key, lists);
  }
  if (isIPv4(ip)) return lists.ipv4.check(ip, "ipv4");
  if (isIPv6(ip) && !ip.startsWith("::") && !ip.includes("%")) return lists.ipv6.check(ip, "ipv6");
  const address = parseIpAddress(ip);
  return address !== undefined && lists[address.family].check(address.text, address.family);
}

/** Apart, because one list finds every IPv4 address in `::/0`, by its mapped form. */
type Lists = Readonly<Record<IpAddress["family"], BlockList>>;

/** A changed key is a new object, so what stands here is never stale. */
const compiled = new WeakMap<ApiKey, Lists>();

interface Range {
  readonly network: IpAddress;
  readonly prefix: number;
}

const textOf = ({ network, prefix }: Range): string =>
  prefix === WIDTH[network.family] ? network.text : `${network.text}/${prefix}`;

/** Of what cannot be read any more nothing is let in. */
function compile(ips: readonly string[]): Lists {
  const lists: Lists = { ipv4: new BlockList(), ipv6: new BlockList() };
  for (const text of ips) {
    const entry = parseEntry(text);
    if ("fault" in entry) continue;
    const { network, prefix } = entry;
    lists[network.family].addSubnet(network.text, prefix, network.family);
  }
  return lists;
}

function parseEntry(text: string): Range | { readonly fault: string } {
  const [written = "", length, ...more] = text.split("/");
  if (written.includes("%")) return { fault: "has a zone, which means something on one machine only" };
  const address = parseIpAddress(written);
  if (address === undefined || more.length > 0) {
    return {
      fault:
        looksAmbiguous(written) && more.length === 0
          ? `is not in plain decimal digits, without leading zeros; accepted is ${FORM}`
          : `is not ${FORM}`,
    };
  }
  const width = WIDTH[address.family];
  if (length === undefined) return { network: address, prefix: width };
  // A mapped address was written with the bits of IPv6 before it.
  const mappedBits = address.family === "ipv4" && written.includes(":") ? WIDTH.ipv6 - WIDTH.ipv4 : 0;
  const prefix = /^(0|[1-9]\d{0,2})$/.test(length) ? Number(length) - mappedBits : -1;
  if (prefix < 0 || prefix > width)
    return { fault: `needs a length from ${mappedBits} to ${width + mappedBits} behind the slash` };
  const hostBits = BigInt(width - prefix);
  const network = ipAddressOf(address.family, (address.bits >> hostBits) << hostBits);
  if (network.bits === address.bits) return { network, prefix };
  return {
    fault: `names an address inside a range; write ${textOf({ network, prefix })} for the range, or ${address.text} for the address`,
  };
}

/** 0x7f.1, 010.1.2.3, 127.1 and 2130706433 are addresses to some readers, and not the same to all. */
const looksAmbiguous = (text: string): boolean => /^(0x[0-9a-f]+|\d+)(\.(0x[0-9a-f]+|\d+)){0,3}$/i.test(text);

const faulty = (fault: string): AllowedIps => ({ kind: "faulty", fault });
