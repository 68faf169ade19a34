import type { FastifyInstance } from "fastify";
import { BrikkError } from "../../errors.ts";

/**
 * Refuses what no route serves, before a byte of the body is read: 405 with `Allow` where the path is known under other
 * methods (RFC 9110 §15.5.6), else 404. Register before the routes.
 */
export function registerKnownRoute(app: FastifyInstance): void {
  const routes: { readonly path: RegExp; readonly methods: readonly string[] }[] = [];
  app.addHook("onRoute", ({ url, method }) => {
    routes.push({ path: patternOf(url), methods: [method].flat() });
  });
  app.addHook("onRequest", (request, reply, done) => {
    if (!request.is404) return done();
    const path = request.url.split("?", 1)[0]!;
    const allowed = [
      ...new Set(routes.filter((route) => route.path.test(path)).flatMap(({ methods }) => methods)),
    ].sort();
    const shown = path.slice(0, 200);
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

/** A route's template (`/agents/:agent/chat`, `/docs/static/*`) as a pattern of paths. */
function patternOf(template: string): RegExp {
  const parts = template
    .split("/")
    .map((part) => (part.startsWith(":") ? "[^/]+" : part === "*" ? ".*" : RegExp.escape(part)));
  return new RegExp(`^${parts.join("/")}$`);
}
