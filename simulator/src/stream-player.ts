import type { Connection } from "./connection.ts";
import { COMMENT, sendHeartbeats } from "./heartbeats.ts";
import type { Pace } from "./pacing.ts";
import type { StreamPlan } from "./stream-plan.ts";

export interface PlayedStream {
  /** Completion tokens sent, reasoning included. */
  readonly tokens: number;
  readonly reasoningTokens: number;
  readonly finished: boolean;
}

export interface PlayOptions {
  readonly firstTokenMs: number;
  /** Comments so often until the first token. */
  readonly commentEveryMs?: number | undefined;
  readonly pieces?: Pieces | undefined;
}

/** So many bytes as a write of their own, and so much time after each. */
export interface Pieces {
  readonly bytes: number;
  readonly everyMs: number;
}

const WRITE_CHARS = 16_384;

/**
 * Plays a plan at the pace: the first event after `firstTokenMs`, then the tokens as they fall due. A late timer sends
 * all that is due by then in one write. Ends at once when the client leaves. The caller ends or destroys the response.
 */
export async function playStream(
  connection: Connection,
  plan: StreamPlan,
  pace: Pace,
  options: PlayOptions,
): Promise<PlayedStream> {
  const { events } = plan;
  let due = performance.now() + options.firstTokenMs;
  let next = 0;
  let tokens = 0;
  let reasoningTokens = 0;
  if (options.commentEveryMs === undefined) await connection.wait(options.firstTokenMs);
  else
    await sendHeartbeats(connection, { everyMs: options.commentEveryMs, ms: options.firstTokenMs, beats: [COMMENT] });
  while (next < events.length && !connection.gone) {
    const now = performance.now();
    let batch = "";
    for (let event = events[next]; event !== undefined && batch.length < WRITE_CHARS; event = events[next]) {
      if (event.tokens > 0 && due > now) break;
      batch += event.data;
      tokens += event.tokens;
      reasoningTokens += event.reasoningTokens;
      due += pace.durationMs(event.tokens - event.reasoningTokens);
      next += 1;
    }
    if (batch !== "") await writeBatch(connection, batch, options.pieces);
    else await connection.wait(due - now);
  }
  return { tokens, reasoningTokens, finished: next === events.length && !connection.gone };
}

/** Writes text whole, or in pieces that reach the client apart. */
export async function writeBatch(connection: Connection, batch: string, pieces: Pieces | undefined): Promise<void> {
  if (pieces === undefined) return connection.write(batch);
  const bytes = Buffer.from(batch);
  for (let start = 0; start < bytes.length && !connection.gone; start += pieces.bytes) {
    await connection.write(bytes.subarray(start, start + pieces.bytes));
    // Node joins what is written within one turn of the event loop.
    if (pieces.everyMs === 0) await new Promise((resolve) => setImmediate(resolve));
    else await connection.wait(pieces.everyMs);
  }
}
