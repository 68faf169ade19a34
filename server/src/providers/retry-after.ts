import type { ResponseHeaders } from "./provider.ts";

/**
 * How long the provider asks to be left alone, in milliseconds: `retry-after-ms`, else `Retry-After` as seconds or as a
 * date (RFC 9110 §10.2.3). Undefined when it does not say, or not readably.
 */
export function readRetryAfter(headers: ResponseHeaders, now = Date.now()): number | undefined {
  const exact = Number(single(headers["retry-after-ms"]));
  if (Number.isFinite(exact) && exact >= 0) return exact;
  const text = single(headers["retry-after"]);
  if (text === undefined) return undefined;
  const seconds = Number(text);
  if (Number.isFinite(seconds)) return seconds < 0 ? undefined : seconds * 1_000;
  const date = Date.parse(text);
  return Number.isNaN(date) ? undefined : Math.max(0, date - now);
}

const single = (value: string | string[] | undefined): string | undefined => (Array.isArray(value) ? value[0] : value);
