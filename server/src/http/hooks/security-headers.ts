import type { FastifyInstance } from "fastify";
import { securityHeaders } from "../security-headers.ts";

/** Register first, so that whoever refuses a request does so under these headers too. */
export function registerSecurityHeaders(app: FastifyInstance, trustedProxies: number): void {
  app.addHook("onRequest", (request, reply, done) => {
    reply.headers(securityHeaders(request.raw, trustedProxies));
    done();
  });
}
