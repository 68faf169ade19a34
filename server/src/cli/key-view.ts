import type { ApiKey } from "../access/api-key.ts";
import type { Caps } from "../access/caps.ts";
import { capsOf } from "../access/key-fields.ts";
import type { Config } from "../config.ts";
import { formatUsd, type NanoUsd } from "../lib/money.ts";
import { printable } from "./arguments.ts";

/** A key's caps, limits, rules and end, a line each, as people read them. */
export function keyLines(key: ApiKey, config: Config): string {
  const { day, week, month } = capsOf(key, config);
  const byDefault = (own: unknown): string => (own === undefined ? " (the server's default)" : "");
  // The default gives way to a lower hard cap.
  const ownSoftCap = day.softCap === config.defaultSoftCap ? key.softCap : day.softCap;
  const listed = (label: string, list: readonly string[] | undefined): string[][] =>
    list === undefined ? [] : [[label, printable(list.join(", "))]];
  const lines = [
    ["Soft cap", day.softCap === undefined ? "none for the day" : `${usd(day.softCap)} a day${byDefault(ownSoftCap)}`],
    ["Hard cap", day.hardCap === undefined ? "none for the day" : `${usd(day.hardCap)} a day${byDefault(key.hardCap)}`],
    ...windowLines("week", week),
    ...windowLines("month", month),
    [
      "Rate limit",
      `${key.rateLimitPerMin ?? config.rateLimitPerMin} requests a minute${byDefault(key.rateLimitPerMin)}`,
    ],
    ...(key.tokensPerMin === undefined ? [] : [["Tokens", `${key.tokensPerMin} a minute`]]),
    ...(key.maxConcurrentRequests === undefined ? [] : [["At once", `${key.maxConcurrentRequests} requests`]]),
    ...(key.rescue === undefined ? [] : [["Rescue", `broken streams: ${key.rescue}`]]),
    ...listed("Models", key.allowedModels),
    ...listed("Providers", key.allowedProviders),
    ...listed("Addresses", key.allowedIps),
    ...(key.signingRequired === true ? [["Signing", "every request must be signed"]] : []),
    ...Object.entries(key.metadata ?? {}).map(([name, value]) => ["Metadata", printable(`${name}=${value}`)]),
    ["Expires", key.expiresAtMs === undefined ? "never" : isoTime(key.expiresAtMs)],
  ];
  return linesOf(lines);
}

/** Labelled values below each other. */
export const linesOf = (lines: readonly (readonly string[])[]): string =>
  lines.map(([label = "", value]) => `  ${label.padEnd(10)}  ${value}\n`).join("");

const windowLines = (window: string, { softCap, hardCap }: Caps): string[][] => [
  ...(softCap === undefined ? [] : [["Soft cap", `${usd(softCap)} a ${window}`]]),
  ...(hardCap === undefined ? [] : [["Hard cap", `${usd(hardCap)} a ${window}`]]),
];

/** Two decimals at least, as people write dollars. */
export function usd(amount: NanoUsd): string {
  const [whole = "0", fraction = ""] = formatUsd(amount).split(".");
  return `$${whole}.${fraction.padEnd(2, "0")}`;
}

export const isoTime = (ms: number): string => new Date(ms).toISOString();
export const json = (value: unknown): string => `${JSON.stringify(value, null, 2)}\n`;
