import type { FastifyError, FastifyInstance, FastifyReply, FastifyRequest } from "fastify";
import { hasZodFastifySchemaValidationErrors } from "fastify-type-provider-zod";
import { BrikkError, toBrikkError } from "../errors.ts";
import type { Logger } from "../telemetry/log.ts";
import type { Metrics } from "../telemetry/metrics.ts";
import type { Redactor } from "../telemetry/redactor.ts";
import { schemaFaults } from "./schema-faults.ts";
import { securityHeaders } from "./security-headers.ts";

declare module "fastify" {
  interface FastifyRequest {
    /** The completion path has written its own line for this request. */
    recorded: boolean;
    /** The error that it was answered with; set here alone. */
    refusedWith: BrikkError | undefined;
  }
}

/** The one place where an error becomes a response. What it says may be a vendor's words, or the caller's own, so secrets are taken out. */
export function registerErrorHandler(
  app: FastifyInstance,
  { logger, metrics, redactor }: { readonly logger: Logger; readonly metrics: Metrics; readonly redactor: Redactor },
): void {
  app.decorateRequest("recorded", false);
  app.decorateRequest("refusedWith", undefined);
  app.setErrorHandler((thrown: FastifyError, request, reply) => {
    const error = explain(thrown);
    if (reply.raw.headersSent || reply.raw.destroyed) {
      if (callerLeft(thrown, request)) logger.debug({ request_id: request.id }, "the caller left while it was sending");
      else logger.error({ request_id: request.id, error: thrown }, "an error came after the answer had begun");
      reply.raw.destroy();
      return reply.hijack();
    }
    if (error.code === "signature_invalid")
      metrics.signaturesRefused.inc({ reason: String(error.extras.details?.["reason"]) });
    if (error.status >= 500 && !request.recorded)
      logger.error({ request_id: request.id, trace_id: request.trace?.traceId, error: thrown }, "request failed");
    // Fastify closes the connection under a body it did not take, and a caller who is still writing then sees a broken pipe in
    // the refusal's place. What is left of the body is read and dropped instead, for the server's requestTimeout at most.
    if (error.status === 400 || error.status === 413) reply.removeHeader("connection");
    return send(redactor, request, reply, error);
  });
  app.setNotFoundHandler((request, reply) =>
    send(
      redactor,
      request,
      reply,
      new BrikkError(
        "not_found",
        `There is no ${request.method} ${request.url.split("?")[0]!.slice(0, 200)} here. GET /docs shows what there is.`,
      ),
    ),
  );
  app.addHook("onResponse", (request, reply, done) => {
    const route = request.routeOptions.url ?? "unknown";
    metrics.httpRequests.inc({ method: request.method, route, status: reply.statusCode });
    if (!request.recorded) {
      const line = {
        request_id: request.id,
        trace_id: request.trace?.traceId,
        key_id: request.key?.id,
        method: request.method,
        route,
        status: reply.statusCode,
        duration_ms: Math.round(reply.elapsedTime),
      };
      if (request.routeOptions.config?.open === true) logger.debug(line, "request");
      else logger.info(line, "request");
    }
    done();
  });
}

/** Node's word for a connection that closed before its request was read in full. */
const callerLeft = ({ code }: FastifyError, { raw }: FastifyRequest): boolean =>
  code === "ECONNRESET" && raw.destroyed && !raw.complete;

/** For requests that fastify refuses before any hook, as for a path that cannot be decoded. */
export const createFrameworkErrorAnswer =
  (trustedProxies: number, redactor: Redactor) =>
  (thrown: FastifyError, request: FastifyRequest, reply: FastifyReply): void => {
    reply.headers(securityHeaders(request.raw, trustedProxies));
    reply.header("x-request-id", request.id);
    send(redactor, request, reply, explain(thrown));
  };

function send(redactor: Redactor, request: FastifyRequest, reply: FastifyReply, error: BrikkError): FastifyReply {
  request.refusedWith = error;
  return reply
    .code(error.status)
    .headers(error.headers())
    .header("content-type", "application/json; charset=utf-8")
    .send(redactor.towardsCallers.json(JSON.stringify(error.body(request.id))));
}

function explain(thrown: FastifyError): BrikkError {
  if (thrown instanceof BrikkError) return thrown;
  if (hasZodFastifySchemaValidationErrors(thrown)) {
    const faults = schemaFaults(thrown.validation);
    const [first] = faults;
    return new BrikkError(
      "invalid_request",
      faults
        .slice(0, 5)
        .map(({ param, message }) => (param === "" ? message : `${param}: ${message}`))
        .join("; "),
      {
        ...(first?.param ? { param: first.param } : {}),
        details: { faults: faults.slice(0, 20) },
      },
    );
  }
  switch (thrown.code) {
    case "FST_ERR_CTP_BODY_TOO_LARGE":
      return new BrikkError(
        "request_too_large",
        "The body is larger than this server accepts. Send less, or ask the operator to raise BRIKK_MAX_BODY_BYTES.",
        { cause: thrown },
      );
    case "FST_ERR_CTP_INVALID_MEDIA_TYPE":
      return new BrikkError(
        "unsupported_media_type",
        "The body must be JSON: send the header Content-Type: application/json.",
        { cause: thrown },
      );
    case "FST_ERR_CTP_INVALID_CONTENT_LENGTH":
    case "FST_ERR_CTP_EMPTY_JSON_BODY":
    case "FST_ERR_BAD_URL":
    case "FST_ERR_MAX_PARAM_LENGTH":
      return new BrikkError("invalid_request", "The request's length or path is malformed.", { cause: thrown });
    default:
      if (thrown.name === "StorageUnavailable") {
        return new BrikkError(
          "storage_unavailable",
          "The gateway's storage cannot be reached right now; try again in a moment.",
          { cause: thrown, retryAfterMs: 2_000 },
        );
      }
      if (thrown.name === "VaultError") {
        return new BrikkError(
          "storage_unavailable",
          "A stored secret that this request needs cannot be opened right now. The operator has to give the gateway its encryption key back.",
          { cause: thrown },
        );
      }
      return toBrikkError(thrown);
  }
}
