import type { FastifyReply, FastifyRequest } from "fastify";
import type { RescueMode } from "../access/api-key.ts";
import { chargingServices } from "../completion/charging-services.ts";
import type { CompletionRequest } from "../completion/completion-request.ts";
import { deadlineExceeded } from "../completion/deadline-exceeded.ts";
import type { Route } from "../completion/model-router.ts";
import {
  type Completed,
  type CompletionSink,
  type CompletionServices,
  runCompletion,
} from "../completion/run-completion.ts";
import { BrikkError, toBrikkError } from "../errors.ts";
import { formatUsd } from "../lib/money.ts";
import { refusedHeaders, servedHeaders, standingHeaders, timingHeader } from "./answer-headers.ts";
import type { InFlight } from "./in-flight.ts";
import { createStreamReply } from "./stream-reply.ts";

/** Joins one HTTP request to the completion path: who calls, where the answer goes, and when the caller has left. */
export type AnswerCompletion = (
  http: { request: FastifyRequest; reply: FastifyReply },
  completion: { request: CompletionRequest; chooseRoute: () => Route },
) => Promise<Completed>;

export function createAnswerCompletion(
  services: CompletionServices,
  inFlight: InFlight,
  limits: { readonly requestTimeoutMs: number; readonly keepAliveMs: number },
  /** A fault of ours ended a stream that had begun. */
  onBroken: (requestId: string, error: unknown) => void,
): AnswerCompletion {
  return async ({ request, reply }, completion) => {
    const { key, trace, admission } = request;
    const rescue = rescueOf(request);
    const hand = inFlight.begin();
    const left = (): void => {
      if (!reply.raw.writableFinished)
        hand.controller.abort(
          new BrikkError("client_closed_request", "The caller left before the answer was complete."),
        );
    };
    reply.raw.on("close", left);
    // Who has left already closes nothing any more.
    if (reply.raw.destroyed) left();
    const endsAtMs = services.clock.monotonicMs() + limits.requestTimeoutMs;
    const deadline = setTimeout(
      () => hand.controller.abort(deadlineExceeded(limits.requestTimeoutMs)),
      limits.requestTimeoutMs,
    );
    const stream = completion.request.stream
      ? createStreamReply(reply, {
          requestId: request.id,
          keepAliveMs: limits.keepAliveMs,
          signal: hand.controller.signal,
          redactor: services.redactor,
          headersOf: (head) => ({
            ...(head && servedHeaders(head)),
            ...standingHeaders(services.ledger.standing(key)),
            ...(head && timingHeader({ "first-token": head.timeToFirstTokenMs })),
          }),
        })
      : undefined;
    request.recorded = true;
    try {
      const completed = await runCompletion(chargingServices(services, admission), {
        key,
        requestId: request.id,
        traceId: trace.traceId,
        ...completion,
        rescue,
        endsAtMs,
        signal: hand.controller.signal,
        sink: stream ?? NO_STREAM,
      });
      const { report } = completed;
      if (report?.candidate && !reply.raw.headersSent) {
        const { receipt, durationMs, timeToFirstTokenMs } = report;
        reply.headers({
          ...servedHeaders({ ...report, candidate: report.candidate }),
          ...standingHeaders(receipt.standing),
          "x-brikk-cost-usd": formatUsd(receipt.cost),
          ...timingHeader({ provider: timeToFirstTokenMs, total: durationMs }),
        });
      }
      return completed;
    } catch (error) {
      if (stream?.started) {
        // Nobody else can end it any more: fastify has given the response away.
        onBroken(request.id, error);
        stream.fail(toBrikkError(error));
        return { answer: undefined, report: undefined };
      }
      if (error instanceof BrikkError && error.code === "hard_cap_exceeded")
        reply.headers(refusedHeaders(services.ledger.standing(key)));
      throw error;
    } finally {
      clearTimeout(deadline);
      stream?.close();
      reply.raw.off("close", left);
      hand.end();
    }
  };
}

/** The request's own wish, else its key's. */
function rescueOf(request: FastifyRequest): RescueMode | undefined {
  const wish = request.headers["x-brikk-rescue"];
  switch (wish) {
    case undefined:
      return request.key.rescue;
    case "off":
      return undefined;
    case "continue":
    case "restart":
      return wish;
    default:
      throw new BrikkError(
        "invalid_request",
        "X-Brikk-Rescue is continue (another model goes on where a stream broke), restart (it begins anew) or off.",
        { param: "X-Brikk-Rescue" },
      );
  }
}

/** Whole answers go out by themselves. */
const NO_STREAM: CompletionSink = {
  opened: () => undefined,
  started: false,
  start: () => undefined,
  hold: () => undefined,
  write: () => undefined,
  end: () => undefined,
  fail: () => undefined,
};
