import type { FastifyInstance } from "fastify";
import {
  formatTraceparent,
  isSaneRequestId,
  newRequestId,
  newTraceContext,
  parseTraceparent,
  type TraceContext,
} from "../../lib/ids.ts";
import type { Redactor } from "../../telemetry/redactor.ts";

declare module "fastify" {
  interface FastifyRequest {
    /** W3C trace context: the caller's trace continued, or a new one. */
    trace: TraceContext;
  }
}

/** The caller's request id where it is a sane one and no secret that strayed there, else ours. */
export const createRequestIds =
  (redactor: Redactor) =>
  (raw: { headers: Record<string, string | string[] | undefined> }): string => {
    const given = raw.headers["x-request-id"];
    return typeof given === "string" && isSaneRequestId(given) && !redactor.towardsCallers.finds(given)
      ? given
      : newRequestId();
  };

/** Every answer names its request and its trace. */
export function registerRequestIdentity(app: FastifyInstance): void {
  app.decorateRequest("trace", null as unknown as TraceContext);
  app.addHook("onRequest", (request, reply, done) => {
    const { traceparent } = request.headers;
    request.trace = newTraceContext(typeof traceparent === "string" ? parseTraceparent(traceparent) : undefined);
    reply.header("x-request-id", request.id);
    reply.header("traceparent", formatTraceparent(request.trace));
    done();
  });
}
