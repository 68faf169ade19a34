import type { FastifyReply } from "fastify";
import type { AnswerHead, CompletionSink } from "../completion/run-completion.ts";
import type { BrikkError } from "../errors.ts";
import { SSE_DONE } from "../lib/sse-events.ts";

/** The caller's end of a streamed answer: server-sent events on the raw response, which is taken from fastify at the commit point. */
export function createStreamReply(
  reply: FastifyReply,
  requestId: string,
  headersOf: (head: AnswerHead) => Record<string, string>,
): CompletionSink {
  const { raw } = reply;
  return {
    start(head) {
      reply.hijack();
      raw.writeHead(200, {
        ...(reply.getHeaders() as Record<string, string>),
        "content-type": "text/event-stream; charset=utf-8",
        "cache-control": "no-cache, no-transform",
        // Tells nginx and its kin to pass each event on at once.
        "x-accel-buffering": "no",
        ...headersOf(head),
      });
    },
    write(bytes) {
      if (raw.write(bytes) || raw.destroyed) return undefined;
      return new Promise((resolve) => {
        const go = (): void => {
          raw.off("drain", go);
          raw.off("close", go);
          resolve();
        };
        raw.on("drain", go);
        raw.on("close", go);
      });
    },
    end() {
      raw.end(SSE_DONE);
    },
    fail(error: BrikkError) {
      raw.end(`event: error\ndata: ${JSON.stringify(error.body(requestId))}\n\n`);
    },
  };
}
