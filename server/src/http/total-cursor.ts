import type { TotalPosition } from "../ledger/usage-totals.ts";
import { nanoUsd } from "../lib/money.ts";

/** A place in a list of sums, as callers hand it back. It says where to go on and grants nothing. */
export const formatTotalCursor = ({ cost, group }: TotalPosition): string =>
  Buffer.from(`${cost}.${group}`).toString("base64url");

/** Undefined when it is none of ours. */
export function parseTotalCursor(cursor: string): TotalPosition | undefined {
  const match = /^(\d{1,18})\.(.*)$/s.exec(Buffer.from(cursor, "base64url").toString("utf8"));
  if (match === null) return undefined;
  const position = { cost: nanoUsd(BigInt(match[1]!)), group: match[2]! };
  // Decoding is forgiving, and every place has one spelling.
  return formatTotalCursor(position) === cursor ? position : undefined;
}
