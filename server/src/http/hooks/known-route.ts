import type { FastifyInstance } from "fastify";
import { BrikkError } from "../../errors.ts";
import type { RouteTable } from "../route-table.ts";

/**
 * Refuses what no route serves, before a byte of the body is read: 405 with `Allow` where the path is known under other
 * methods (RFC 9110 §15.5.6), else 404.
 */
export function registerKnownRoute(app: FastifyInstance, table: RouteTable): void {
  app.addHook("onRequest", (request, reply, done) => {
    if (!request.is404) return done();
    const allowed = [...new Set(table.routesOf(request.url).flatMap(({ methods }) => methods))].sort();
    const shown = request.url.split("?", 1)[0]!.slice(0, 200);
    if (allowed.length === 0)
      return done(
        new BrikkError("not_found", `There is no ${request.method} ${shown} here. GET /docs shows what there is.`),
      );
    reply.header("allow", allowed.join(", "));
    return done(
      new BrikkError(
        "method_not_allowed",
        `${shown} takes ${allowed.join(", ")}, not ${request.method}. GET /docs shows what there is.`,
      ),
    );
  });
}
