import type { Connection } from "./connection.ts";
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
  /** Sends every so many bytes as a write of their own. */
  readonly splitBytes?: number | undefined;
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
  await connection.wait(options.firstTokenMs);
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
    if (batch !== "") await writeBatch(connection, batch, options.splitBytes);
    else await connection.wait(due - now);
  }
  return { tokens, reasoningTokens, finished: next === events.length && !connection.gone };
}

/** Writes text whole, or in pieces that reach the client apart. */
export async function writeBatch(connection: Connection, batch: string, splitBytes: number | undefined): Promise<void> {
  if (splitBytes === undefined) return connection.write(batch);
  const bytes = Buffer.from(batch);
  for (let start = 0; start < bytes.length && !connection.gone; start += splitBytes) {
    await connection.write(bytes.subarray(start, start + splitBytes));
    // Node joins what is written within one turn of the event loop.
    await new Promise((resolve) => setImmediate(resolve));
  }
}
