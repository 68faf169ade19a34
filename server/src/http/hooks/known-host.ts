import type { FastifyInstance } from "fastify";
import type { HostCheck } from "../host-check.ts";

/** For the routes that ask nobody for a key; of the others `admission` asks when it knows that there was none. */
export function registerKnownHost(app: FastifyInstance, hostRefusal: HostCheck): void {
  app.addHook("onRequest", (request, _reply, done) => {
    done(request.routeOptions.config.open === true ? hostRefusal(request.raw) : undefined);
  });
}
