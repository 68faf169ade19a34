import type { FastifyReply, FastifyRequest } from "fastify";
import type { Reading } from "../conversations/reading.ts";
import { eventsAfter, type Place } from "../conversations/transcript-events.ts";
import type { TurnWait } from "../conversations/transcript.ts";
import { shownEvent } from "./conversation-answers.ts";

/** Whether the caller asked for server-sent events. */
export const wantsEvents = ({ headers }: FastifyRequest): boolean =>
  headers.accept?.includes("text/event-stream") === true;

/**
 * Sends a conversation's events from a place on, as they happen, until its end or until the reader leaves. A reader that is slow is
 * waited for, and then gets what has gathered; one that takes nothing at all for long is cut off, and can come back to where it was.
 * In silence a comment is sent now and then, so that nothing on the way cuts the connection.
 */
export async function followConversation(
  reply: FastifyReply,
  reading: Reading,
  from: Place,
  options: { readonly keepAliveMs: number; readonly headers?: Record<string, string> },
): Promise<void> {
  const { raw } = reply;
  const left = new AbortController();
  const leave = (): void => left.abort();
  raw.on("close", leave);
  if (raw.destroyed) leave();
  reply.hijack();
  let quiet = true;
  let stuckBeats = 0;
  const beat = setInterval(() => {
    stuckBeats = quiet && raw.writableNeedDrain ? stuckBeats + 1 : 0;
    if (stuckBeats === STUCK_BEATS) raw.destroy();
    if (quiet && !raw.destroyed && !raw.writableNeedDrain) raw.write(KEEP_ALIVE);
    quiet = true;
  }, options.keepAliveMs / 2);
  const send = async (text: string): Promise<void> => {
    quiet = false;
    if (!raw.write(text) && !left.signal.aborted) await drained(reply, left.signal);
  };
  try {
    if (left.signal.aborted) return;
    raw.writeHead(200, {
      ...(reply.getHeaders() as Record<string, string>),
      "content-type": "text/event-stream; charset=utf-8",
      // What compresses on the way would hold events back.
      "cache-control": "no-store, no-transform",
      // Tells nginx and its kin to pass each event on at once.
      "x-accel-buffering": "no",
      ...options.headers,
    });
    let place = from;
    let told: TurnWait | undefined;
    while (!left.signal.aborted) {
      const { now, waiting } = reading;
      const next = eventsAfter(now, place);
      ({ place } = next);
      let text = "";
      for (const event of next.events) {
        const shown = shownEvent(event, now);
        text += `id: ${event.id}\nevent: ${shown.event}\ndata: ${JSON.stringify(shown.data)}\n\n`;
      }
      // Of the moment, so without an id: who comes back is told anew if it is still so.
      if (waiting !== undefined && waiting !== told)
        text += `event: turn.waiting\ndata: ${JSON.stringify({ index: waiting.index, wait_ms: waiting.ms })}\n\n`;
      told = waiting;
      if (text !== "") await send(text);
      else if (now.end || reading.isOver) return;
      else await reading.news(left.signal);
    }
  } finally {
    clearInterval(beat);
    raw.off("close", leave);
    reading.close();
    if (!raw.writableEnded) raw.end();
  }
}

/** Of a reader that takes nothing; with the default of the keep-alive, a minute. */
const STUCK_BEATS = 8;

const KEEP_ALIVE = Buffer.from(": keep-alive\n\n");

function drained({ raw }: FastifyReply, left: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    const go = (): void => {
      raw.off("drain", go);
      left.removeEventListener("abort", go);
      resolve();
    };
    raw.on("drain", go);
    left.addEventListener("abort", go);
  });
}
