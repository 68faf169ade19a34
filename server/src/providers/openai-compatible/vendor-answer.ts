/** Vendors' answers, read loosely: what is not as promised is as if it were not there. */
export function readJson(body: Buffer): unknown {
  try {
    return JSON.parse(body.toString("utf8"));
  } catch {
    // A body that is not what was promised is told by what is missing from it.
    return undefined;
  }
}

export const isRecord = (value: unknown): value is Record<string, unknown> =>
  typeof value === "object" && value !== null && !Array.isArray(value);

/** A text that is not empty, cut at a length that a log bears; numbers as text, as codes may come either way. */
export const textOf = (value: unknown): string | undefined =>
  typeof value === "string" && value !== ""
    ? value.slice(0, 2_000)
    : typeof value === "number"
      ? String(value)
      : undefined;
