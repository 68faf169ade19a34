import type { FastifyInstance, FastifyRequest } from "fastify";
import { callerAddress, cameByTls } from "../caller-address.ts";

/** Makes `request.ip` and `request.protocol` the caller's own, as far as `trustedProxies` can be believed about them. */
export function registerCaller(app: FastifyInstance, trustedProxies: number): void {
  app.decorateRequest("ip", {
    getter(this: FastifyRequest) {
      return callerAddress(this.raw, trustedProxies);
    },
  });
  app.decorateRequest("protocol", {
    getter(this: FastifyRequest) {
      return cameByTls(this.raw, trustedProxies) ? "https" : "http";
    },
  });
}
