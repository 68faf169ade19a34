import type { EventPosition } from "../ledger/usage-event-row.ts";

const POSITION = /^(\d{1,15})\.([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})$/;

/** A place in a list of requests, as callers hand it back. It says where to go on and grants nothing. */
export const formatUsageCursor = ({ occurredAtMs, eventId }: EventPosition): string =>
  Buffer.from(`${occurredAtMs}.${eventId}`).toString("base64url");

/** Undefined when it is none of ours. */
export function parseUsageCursor(cursor: string): EventPosition | undefined {
  const match = POSITION.exec(Buffer.from(cursor, "base64url").toString("latin1"));
  if (match === null) return undefined;
  const position = { occurredAtMs: Number(match[1]), eventId: match[2]! };
  // Decoding is forgiving, and every place has one spelling.
  return formatUsageCursor(position) === cursor ? position : undefined;
}
