import type { RunPosition } from "../conversations/panel-run-store.ts";

const POSITION = /^(\d{1,15})\.(run_[0-9A-Za-z]{24})$/;

/** A place in a list of runs, as callers hand it back. It says where to go on and grants nothing. */
export const formatRunCursor = ({ startedAtMs, runId }: RunPosition): string =>
  Buffer.from(`${startedAtMs}.${runId}`).toString("base64url");

/** Undefined when it is none of ours. */
export function parseRunCursor(cursor: string): RunPosition | undefined {
  const match = POSITION.exec(Buffer.from(cursor, "base64url").toString("latin1"));
  return match === null ? undefined : { startedAtMs: Number(match[1]), runId: match[2]! };
}
