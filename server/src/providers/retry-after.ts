import type { ResponseHeaders } from "./provider.ts";

/**
 * How long the provider asks to be left alone, in milliseconds: `retry-after-ms`, else `Retry-After` as seconds or as a
 * date (RFC 9110 §10.2.3). Undefined when it does not say, or not readably.
 */
export function readRetryAfter(headers: ResponseHeaders, now = Date.now()): number | undefined {
  const exact = amount(single(headers["retry-after-ms"]));
  if (exact !== undefined) return exact;
  const text = single(headers["retry-after"]);
  if (text === undefined) return undefined;
  const seconds = amount(text);
  if (seconds !== undefined) return seconds * 1_000;
  // Date.parse takes a bare number such as "-5" for a date, too.
  if (!/[a-z]/i.test(text)) return undefined;
  const date = Date.parse(text);
  return Number.isNaN(date) ? undefined : Math.max(0, date - now);
}

const single = (value: string | string[] | undefined): string | undefined => (Array.isArray(value) ? value[0] : value);
/** Number("") is 0, and an empty header says nothing. */
const amount = (text: string | undefined): number | undefined =>
  text !== undefined && /^\s*\d+(\.\d+)?\s*$/.test(text) ? Number(text) : undefined;
