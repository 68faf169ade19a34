import type { Headroom, RateLimitHeadroom, ResponseHeaders } from "./provider.ts";

/** Names of the headers that speak of one limit. */
export interface HeadroomHeaders {
  readonly limit: string;
  readonly remaining: string;
  readonly reset?: string;
}

/** Reads both limits where headers of these names are there and are numbers. */
export function readHeadroom(
  headers: ResponseHeaders,
  names: { readonly requests: HeadroomHeaders; readonly tokens: HeadroomHeaders },
): RateLimitHeadroom | undefined {
  const requests = headroomOf(headers, names.requests);
  const tokens = headroomOf(headers, names.tokens);
  if (requests === undefined && tokens === undefined) return undefined;
  return { ...(requests && { requests }), ...(tokens && { tokens }) };
}

function headroomOf(headers: ResponseHeaders, names: HeadroomHeaders): Headroom | undefined {
  const limit = countIn(headers[names.limit]);
  const remaining = countIn(headers[names.remaining]);
  if (limit === undefined || remaining === undefined) return undefined;
  const resetMs = names.reset === undefined ? undefined : readDuration(headers[names.reset]);
  return { limit, remaining, ...(resetMs !== undefined && { resetMs }) };
}

function countIn(value: string | string[] | undefined): number | undefined {
  return typeof value === "string" && /^\d{1,15}$/.test(value.trim()) ? Number(value) : undefined;
}

const UNIT_MS: Readonly<Record<string, number>> = { ms: 1, s: 1_000, m: 60_000, h: 3_600_000, d: 86_400_000 };

/** `20ms`, `1s`, `2m59.56s`, `6m0s`; a bare number would be seconds to one vendor and a date to another, and says nothing. */
function readDuration(value: string | string[] | undefined): number | undefined {
  if (typeof value !== "string" || value.length > 40) return undefined;
  const text = value.trim();
  if (!/^(\d+(\.\d+)?(ms|s|m|h|d))+$/.test(text)) return undefined;
  let total = 0;
  for (const [, amount = "", unit = ""] of text.matchAll(/(\d+(?:\.\d+)?)(ms|s|m|h|d)/g))
    total += Number(amount) * (UNIT_MS[unit] ?? 0);
  return Math.round(total);
}
