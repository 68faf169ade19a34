import type { IncomingMessage } from "node:http";
import { parseIpAddress } from "../lib/ip-address.ts";

/** Stands for the address of a caller who is gone before anybody asked; in no allow list, and in nobody's group. */
const UNKNOWN = "unknown";

/**
 * Where the caller is, as an address in its one normal form.
 *
 * Each proxy appends the address that it was called from to X-Forwarded-For. Of `trustedProxies` of them, counted from this
 * server outwards, the word is taken: the caller is whom the outermost one saw. What stands further to the left was written by
 * callers and is not read. An entry may carry a port and brackets, as some proxies write them. Behind an entry that is no
 * address, the nearest address that is believed counts; where there are fewer entries than proxies, the header was not written
 * by all of them, and nothing of it is believed. With 0 the header is not looked at.
 *
 * Fastify's own `trustProxy` believes nobody when it is given a number, and takes what is no address for one.
 */
export function callerAddress({ socket, headers }: IncomingMessage, trustedProxies: number): string {
  const peer = normalAddress(socket.remoteAddress);
  const forwarded = headers["x-forwarded-for"];
  if (trustedProxies === 0 || forwarded === undefined) return peer;
  const entries = lastEntries(forwarded, trustedProxies);
  if (entries.length < trustedProxies) return peer;
  let believed = peer;
  for (const entry of entries) {
    const address = parseIpAddress(withoutPort(entry));
    if (address === undefined) break;
    believed = address.text;
  }
  return believed;
}

/** Whether the caller's own connection was encrypted, which behind proxies only they can say, in X-Forwarded-Proto. */
export function cameByTls({ socket, headers }: IncomingMessage, trustedProxies: number): boolean {
  if ("encrypted" in socket && socket.encrypted === true) return true;
  const forwarded = headers["x-forwarded-proto"];
  if (trustedProxies === 0 || forwarded === undefined) return false;
  return lastEntries(forwarded, trustedProxies).at(-1)?.toLowerCase() === "https";
}

const MAPPED = "::ffff:";

/** The system writes addresses in their normal form already, but for IPv4 on a socket that takes both, and the interface of link-local peers. */
function normalAddress(address: string | undefined): string {
  if (address === undefined) return UNKNOWN;
  if (!address.includes(":")) return address;
  if (address.startsWith(MAPPED) && address.includes(".")) return address.slice(MAPPED.length);
  return address.split("%", 1)[0]!;
}

/** At most so many entries of a list header, the last one first. Several lines of a header are one list (RFC 9110 §5.3). */
function lastEntries(header: string | string[], most: number): string[] {
  const text = typeof header === "string" ? header : header.join(",");
  const entries: string[] = [];
  for (let end = text.length; end >= 0 && entries.length < most;) {
    const comma = end === 0 ? -1 : text.lastIndexOf(",", end - 1);
    entries.push(text.slice(comma + 1, end).trim());
    end = comma;
  }
  return entries;
}

const IPV4_AND_PORT = /^(\d+\.\d+\.\d+\.\d+):\d{1,5}$/;
const BRACKETED_IPV6 = /^\[([^\]]*:[^\]]*)\](?::\d{1,5})?$/;

/** Of IPv6 without brackets nothing can be told to be a port. */
const withoutPort = (entry: string): string =>
  IPV4_AND_PORT.exec(entry)?.[1] ?? BRACKETED_IPV6.exec(entry)?.[1] ?? entry;
