import type { FastifyInstance } from "fastify";

/** Which paths there are, for requests that no route takes: with another method, or before a browser dares to send the real one. */
export interface RouteTable {
  /** Of the routes whose template the path fits; a query is not looked at. */
  routesOf(url: string): readonly KnownRoute[];
}

export interface KnownRoute {
  readonly methods: readonly string[];
  readonly admin: boolean;
}

/** Register before the routes. */
export function collectRoutes(app: FastifyInstance): RouteTable {
  const routes: (KnownRoute & { readonly path: RegExp })[] = [];
  app.addHook("onRoute", ({ url, method, config }) => {
    routes.push({ path: patternOf(url), methods: [method].flat(), admin: config?.admin === true });
  });
  return {
    routesOf: (url) => {
      const path = url.split("?", 1)[0]!;
      return routes.filter((route) => route.path.test(path));
    },
  };
}

/** A route's template (`/agents/:agent/chat`, `/docs/static/*`) as a pattern of paths. */
function patternOf(template: string): RegExp {
  const parts = template
    .split("/")
    .map((part) => (part.startsWith(":") ? "[^/]+" : part === "*" ? ".*" : RegExp.escape(part)));
  return new RegExp(`^${parts.join("/")}$`);
}
