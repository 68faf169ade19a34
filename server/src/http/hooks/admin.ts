import { hash, timingSafeEqual } from "node:crypto";
import type { FastifyInstance, FastifyRequest } from "fastify";
import { addressGroup } from "../../access/address-group.ts";
import { createLimitCounts } from "../../access/limit-counts.ts";
import type { RateLimits } from "../../access/rate-limits.ts";
import { BrikkError } from "../../errors.ts";
import type { Clock } from "../../lib/clock.ts";
import type { Logger } from "../../telemetry/log.ts";

declare module "fastify" {
  interface FastifyContextConfig {
    /** For who has the admin token; no caller's key, and no rate limit of one, counts there. */
    admin?: boolean;
  }
}

const WRONG_TOKENS_PER_MIN = 10;

/**
 * Routes marked `admin` ask for the admin token, before a byte of the body is read. Who sends wrong ones too often is not
 * heard for a while, with the right one neither: else the right one could be found by trying all the same. Without a token
 * set there is nothing to be found; such a server does not register these routes either, so that nothing tells of them.
 */
export function registerAdminAccess(
  app: FastifyInstance,
  options: { readonly token: string | undefined; readonly clock: Clock; readonly logger: Logger },
): void {
  const { clock, logger } = options;
  const expected = options.token === undefined ? undefined : digestOf(options.token);
  const wrongTokens = createLimitCounts({ clock });

  function enter(request: FastifyRequest): void {
    if (expected === undefined) throw new BrikkError("not_found", "There is no such path here.");
    const limits = limitsOf(request.socket.remoteAddress);
    const verdict = wrongTokens.peek(limits);
    if (!verdict.allowed) throw tooManyTries(verdict.refusedBy.waitMs);
    const given = tokenIn(request.headers.authorization);
    // Digests have one length, so that neither the token's length nor its beginning can be told from the time this takes.
    if (given !== undefined && timingSafeEqual(digestOf(given), expected)) return;
    if (given !== undefined) {
      wrongTokens.count(limits);
      logger.warn(
        { request_id: request.id, remote_address: request.socket.remoteAddress, route: request.routeOptions.url },
        "a wrong admin token was sent",
      );
    }
    throw new BrikkError(
      "admin_token_invalid",
      given === undefined
        ? "This path is for administrators: send `Authorization: Bearer` and the token that BRIKK_ADMIN_TOKEN holds."
        : "This is not the admin token of this server, which BRIKK_ADMIN_TOKEN holds.",
    );
  }

  app.addHook("onRequest", (request, _reply, done) => {
    if (request.routeOptions.config.admin === true && !request.is404) enter(request);
    done();
  });
}

const digestOf = (token: string): Buffer => hash("sha256", token, "buffer");

const tokenIn = (authorization: string | undefined): string | undefined =>
  /^bearer[ \t]+(\S+)[ \t]*$/i.exec(authorization ?? "")?.[1];

/** One bucket for each address, in the limiter's terms. */
const limitsOf = (remoteAddress: string | undefined): RateLimits => ({
  keyId: addressGroup(remoteAddress),
  requestsPerMin: WRONG_TOKENS_PER_MIN,
  tokensPerMin: undefined,
  concurrentRequests: undefined,
  address: undefined,
});

function tooManyTries(waitMs: number): BrikkError {
  const seconds = Math.ceil(waitMs / 1_000);
  return new BrikkError(
    "rate_limit_exceeded",
    `Too many wrong admin tokens came from this address, and until ${seconds} s have passed none is looked at.`,
    {
      retryAfterMs: waitMs,
      details: {
        scope: "ip",
        rule: "wrong-admin-tokens",
        window: "minute",
        limit: WRONG_TOKENS_PER_MIN,
        remaining: 0,
        reset_seconds: seconds,
      },
    },
  );
}
