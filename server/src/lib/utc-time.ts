const DATE = /^\d{4}-\d{2}-\d{2}$/;
const TIMESTAMP = /^(\d{4}-\d{2}-\d{2})T\d{2}:\d{2}(:\d{2}(\.\d{1,9})?)?(Z|[+-]\d{2}:\d{2})?$/;

/**
 * Reads a moment as people write it: a date (its first moment), or an ISO 8601 timestamp. All is UTC unless the timestamp names
 * its own offset. Milliseconds since the epoch; undefined when it is anything else, such as a day that no month has.
 */
export function parseUtcTime(text: string): number | undefined {
  const date = DATE.test(text) ? text : TIMESTAMP.exec(text)?.[1];
  if (date === undefined) return undefined;
  const dayMs = Date.parse(`${date}T00:00:00Z`);
  // The 31st of a short month is otherwise taken for the 1st of the next.
  if (Number.isNaN(dayMs) || !new Date(dayMs).toISOString().startsWith(date)) return undefined;
  if (text === date) return dayMs;
  const ms = Date.parse(/(Z|[+-]\d{2}:\d{2})$/.test(text) ? text : `${text}Z`);
  return Number.isNaN(ms) ? undefined : ms;
}

/** Of JavaScript's dates. */
const LAST_MS = 8.64e15;

/** A stored moment for people to read, also where somebody put a number there that is no moment. */
export const shownUtcTime = (ms: number): string => new Date(Math.max(-LAST_MS, Math.min(ms, LAST_MS))).toISOString();
