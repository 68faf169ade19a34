import type { FastifyInstance } from "fastify";
import type { ApiKey } from "../../access/api-key.ts";
import type { Authenticate } from "../../access/authenticate.ts";
import { rateLimitHeaders } from "../../access/rate-limit-headers.ts";
import type { RateLimiter } from "../../access/rate-limiter.ts";
import { BrikkError } from "../../errors.ts";
import type { InFlight } from "../in-flight.ts";

declare module "fastify" {
  interface FastifyRequest {
    /** Who calls; set on every route that is not marked open. */
    key: ApiKey;
  }
  interface FastifyContextConfig {
    /** Served without a key and without a rate limit: health, docs, metrics. Every other route is closed. */
    open?: boolean;
  }
}

export interface AdmissionOptions {
  readonly authenticate: Authenticate;
  readonly rateLimiter: RateLimiter;
  readonly rateLimitPerMin: number;
  readonly inFlight: InFlight;
}

/** draining? -> authenticate -> rate limit, before a byte of the body is read. */
export function registerAdmission(app: FastifyInstance, options: AdmissionOptions): void {
  app.decorateRequest("key", null as unknown as ApiKey);
  app.addHook("onRequest", async (request, reply) => {
    if (request.routeOptions.config.open === true || request.is404) return;
    if (options.inFlight.draining) {
      reply.header("connection", "close");
      throw new BrikkError("draining", "This server is stopping and takes no new requests; try again in a moment.", {
        retryAfterMs: 1_000,
      });
    }
    const found = options.authenticate(request.headers);
    const key = found instanceof Promise ? await found : found;
    request.key = key;
    const decision = options.rateLimiter.take(key.id, key.rateLimitPerMin ?? options.rateLimitPerMin);
    reply.headers(rateLimitHeaders(decision));
    if (!decision.allowed) {
      throw new BrikkError(
        "rate_limit_exceeded",
        `This key may make ${decision.limit} requests a minute, and they are used up. The next one is accepted in ${Math.max(1, Math.ceil(decision.retryAfterMs / 1_000))} s.`,
        {
          retryAfterMs: decision.retryAfterMs,
          details: {
            scope: "key",
            window: "minute",
            limit: decision.limit,
            remaining: decision.remaining,
            reset_seconds: decision.resetSeconds,
          },
        },
      );
    }
  });
}
