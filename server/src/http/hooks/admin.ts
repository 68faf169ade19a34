import { hash, timingSafeEqual } from "node:crypto";
import type { FastifyInstance, FastifyRequest } from "fastify";
import { createWrongCredentials } from "../../access/wrong-credentials.ts";
import { BrikkError } from "../../errors.ts";
import type { Clock } from "../../lib/clock.ts";
import type { Logger } from "../../telemetry/log.ts";
import type { Metrics } from "../../telemetry/metrics.ts";
import type { Connections } from "../connections.ts";

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
  options: {
    readonly token: string | undefined;
    readonly connections: Connections;
    readonly clock: Clock;
    readonly logger: Logger;
    readonly metrics: Metrics;
  },
): void {
  const { connections, logger, metrics } = options;
  const expected = options.token === undefined ? undefined : digestOf(options.token);
  const wrongTokens = createWrongCredentials({
    clock: options.clock,
    mostPerMin: WRONG_TOKENS_PER_MIN,
    rule: "wrong-admin-tokens",
    sentence: (seconds) =>
      `Too many wrong admin tokens came from this address, and until ${seconds} s have passed none is looked at.`,
  });

  function enter(request: FastifyRequest): void {
    if (expected === undefined) throw new BrikkError("not_found", "There is no such path here.");
    const tooMany = wrongTokens.refusal(request.ip);
    if (tooMany !== undefined) {
      metrics.wrongCredentials.inc({ kind: "admin_token", answer: "limited" });
      throw tooMany;
    }
    const given = tokenIn(request.headers.authorization);
    // Digests have one length, so that neither the token's length nor its beginning can be told from the time this takes.
    if (given !== undefined && timingSafeEqual(digestOf(given), expected)) return connections.vouch(request.socket);
    if (given !== undefined) {
      wrongTokens.count(request.ip);
      metrics.wrongCredentials.inc({ kind: "admin_token", answer: "refused" });
      logger.warn(
        { request_id: request.id, remote_address: request.ip, route: request.routeOptions.url },
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
