import type { ApiKey } from "../access/api-key.ts";
import { type Caps, effectiveCaps } from "../access/caps.ts";
import type { Config } from "../config.ts";
import { formatUsd, type NanoUsd, usdNumber } from "../lib/money.ts";

/** The caps that hold for a key under these settings. */
export const capsOf = (key: ApiKey, config: Config) =>
  effectiveCaps(key, { softCap: config.defaultSoftCap, hardCap: config.defaultHardCap });

/** A key as JSON shows it; null: no such cap or limit. */
export function keyFields(key: ApiKey, config: Config): Record<string, unknown> {
  const { day, week, month } = capsOf(key, config);
  const amount = (cap: NanoUsd | undefined): number | null => (cap === undefined ? null : usdNumber(cap));
  return {
    name: key.name,
    soft_cap_usd: amount(day.softCap),
    hard_cap_usd: amount(day.hardCap),
    week_soft_cap_usd: amount(week.softCap),
    week_hard_cap_usd: amount(week.hardCap),
    month_soft_cap_usd: amount(month.softCap),
    month_hard_cap_usd: amount(month.hardCap),
    rate_limit_per_min: key.rateLimitPerMin ?? config.rateLimitPerMin,
    tokens_per_min: key.tokensPerMin ?? null,
    max_concurrent_requests: key.maxConcurrentRequests ?? null,
    rescue: key.rescue ?? null,
    created_at: isoTime(key.createdAtMs),
    expires_at: key.expiresAtMs === undefined ? null : isoTime(key.expiresAtMs),
    ...(key.state.kind === "revoked" && { revoked_at: isoTime(key.state.revokedAtMs) }),
  };
}

/** A key's caps, limits and end, a line each, as people read them. */
export function keyLines(key: ApiKey, config: Config): string {
  const { day, week, month } = capsOf(key, config);
  const byDefault = (own: unknown): string => (own === undefined ? " (the server's default)" : "");
  // The default gives way to a lower hard cap.
  const ownSoftCap = day.softCap === config.defaultSoftCap ? key.softCap : day.softCap;
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
    ["Expires", key.expiresAtMs === undefined ? "never" : isoTime(key.expiresAtMs)],
  ];
  return lines.map(([label = "", value]) => `  ${label.padEnd(10)}  ${value}\n`).join("");
}

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
