import type { FastifyReply, FastifyRequest } from "fastify";
import type { Admitted } from "../access/rate-limiter.ts";
import type { CompletionRequest } from "../completion/completion-request.ts";
import type { Route } from "../completion/model-router.ts";
import { type Completed, type CompletionServices, runCompletion } from "../completion/run-completion.ts";
import { BrikkError } from "../errors.ts";
import { totalTokens } from "../ledger/usage.ts";
import { formatUsd } from "../lib/money.ts";
import { refusedHeaders, servedHeaders, standingHeaders, timingHeader } from "./answer-headers.ts";
import type { InFlight } from "./in-flight.ts";
import { createStreamReply } from "./stream-reply.ts";

/** Joins one HTTP request to the completion path: who calls, where the answer goes, and when the caller has left. */
export type AnswerCompletion = (
  http: { request: FastifyRequest; reply: FastifyReply },
  completion: { request: CompletionRequest; chooseRoute: () => Route },
) => Promise<Completed>;

export function createAnswerCompletion(services: CompletionServices, inFlight: InFlight): AnswerCompletion {
  return async ({ request, reply }, completion) => {
    const { key, trace, admission } = request;
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
    request.recorded = true;
    try {
      const completed = await runCompletion(chargingServices(services, admission), {
        key,
        requestId: request.id,
        traceId: trace.traceId,
        ...completion,
        signal: hand.controller.signal,
        sink: createStreamReply(reply, request.id, (head) => ({
          ...servedHeaders(head),
          ...standingHeaders(services.ledger.standing(key)),
          ...timingHeader({ "first-token": head.timeToFirstTokenMs }),
        })),
      });
      const { candidate, route, fallback, clampedMaxTokens, receipt, durationMs, timeToFirstTokenMs } =
        completed.report;
      if (candidate && !reply.raw.headersSent) {
        reply.headers({
          ...servedHeaders({ candidate, route, fallback, clampedMaxTokens }),
          ...standingHeaders(receipt.standing),
          "x-brikk-cost-usd": formatUsd(receipt.cost),
          ...timingHeader({ provider: timeToFirstTokenMs, total: durationMs }),
        });
      }
      return completed;
    } catch (error) {
      if (error instanceof BrikkError && error.code === "hard_cap_exceeded")
        reply.headers(refusedHeaders(services.ledger.standing(key)));
      throw error;
    } finally {
      reply.raw.off("close", left);
      hand.end();
    }
  };
}

/** Whatever became of a request, what it used counts against its key's tokens per minute before its answer ends. */
const chargingServices = (services: CompletionServices, admission: Admitted): CompletionServices => ({
  ...services,
  record: (record) => {
    services.record(record);
    if (record.usage) admission.charge(totalTokens(record.usage));
  },
});
