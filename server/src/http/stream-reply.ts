import type { FastifyReply } from "fastify";
import type { AnswerHead, CompletionSink } from "../completion/run-completion.ts";
import type { BrikkError } from "../errors.ts";
import { SSE_DONE } from "../lib/sse-events.ts";
import type { Redactor } from "../telemetry/redactor.ts";

/**
 * The caller's end of a streamed answer: server-sent events on the raw response, which is taken from fastify at the commit point.
 * While nothing comes, a comment is sent now and then, before proxies on the way take the connection for dead; the first one
 * takes the status line with it, which then cannot say any more who serves.
 */
export function createStreamReply(
  reply: FastifyReply,
  options: {
    readonly requestId: string;
    readonly keepAliveMs: number;
    /** Ends the request: nobody waits for its reader any more. */
    readonly signal: AbortSignal;
    readonly redactor: Pick<Redactor, "towardsCallers">;
    /** Without a head nobody has begun to answer. */
    readonly headersOf: (head: AnswerHead | undefined) => Record<string, string>;
  },
): CompletionSink & { close(): void } {
  const { raw } = reply;
  const { signal } = options;
  let started = false;
  let quiet = true;
  let beat: NodeJS.Timeout | undefined;

  const start = (head: AnswerHead | undefined): void => {
    if (started) return;
    started = true;
    reply.hijack();
    raw.writeHead(200, {
      ...(reply.getHeaders() as Record<string, string>),
      "content-type": "text/event-stream; charset=utf-8",
      // What compresses on the way would hold events back.
      "cache-control": "no-store, no-transform",
      // Tells nginx and its kin to pass each event on at once.
      "x-accel-buffering": "no",
      ...options.headersOf(head),
    });
  };

  return {
    opened() {
      // Twice in the time, so that no silence is longer than that.
      beat = setInterval(() => {
        // Who has not taken what there is needs no comments on top.
        if (quiet && !raw.destroyed && !raw.writableEnded && !raw.writableNeedDrain) {
          start(undefined);
          raw.write(KEEP_ALIVE);
        }
        quiet = true;
      }, options.keepAliveMs / 2);
    },
    get started() {
      return started;
    },
    start,
    hold() {
      if (!started) clearInterval(beat);
    },
    close: () => clearInterval(beat),
    write(bytes) {
      quiet = false;
      if (raw.write(bytes) || raw.destroyed || signal.aborted) return undefined;
      return new Promise((resolve) => {
        const go = (): void => {
          raw.off("drain", go);
          raw.off("close", go);
          signal.removeEventListener("abort", go);
          resolve();
        };
        raw.on("drain", go);
        raw.on("close", go);
        signal.addEventListener("abort", go);
      });
    },
    end() {
      raw.end(SSE_DONE);
    },
    fail(error: BrikkError) {
      if (!raw.writableEnded)
        raw.end(
          `event: error\ndata: ${options.redactor.towardsCallers.json(JSON.stringify(error.body(options.requestId)))}\n\n`,
        );
    },
  };
}

const KEEP_ALIVE = Buffer.from(": keep-alive\n\n");
