import type { Connection } from "./connection.ts";

/** Signs of life that carry nothing of an answer. */
export interface Heartbeats {
  readonly everyMs: number;
  /** For ever when left out. */
  readonly ms?: number | undefined;
  /** What is sent, in turn. */
  readonly beats: readonly [string, ...string[]];
}

/** As vendors and proxies send them while a model thinks (https://html.spec.whatwg.org/multipage/server-sent-events.html). */
export const COMMENT = ": keep-alive\n\n";
/** White space before a JSON text and after it is no part of it (RFC 8259 §2), which makes it a plain answer's heartbeat. */
export const BLANK_LINE = "\n";

/** Beats at once, then after each pause; ends when the time is over or the client has left. */
export async function sendHeartbeats(connection: Connection, { everyMs, ms, beats }: Heartbeats): Promise<void> {
  const until = ms === undefined ? Number.POSITIVE_INFINITY : performance.now() + ms;
  for (let turn = 0; !connection.gone; turn += 1) {
    const left = until - performance.now();
    if (left <= 0) return;
    await connection.write(beats[turn % beats.length] ?? beats[0]);
    await connection.wait(Math.min(everyMs, left));
  }
}
