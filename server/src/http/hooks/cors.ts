import type { FastifyInstance, FastifyReply, FastifyRequest } from "fastify";
import type { RouteTable } from "../route-table.ts";

/**
 * Which pages of other origins may call this server and read what it answers (the CORS protocol, https://fetch.spec.whatwg.org/#http-cors-protocol).
 *
 * An origin is allowed when it is in the list to the letter: browsers write it in one form, so that whatever differs (another
 * scheme, port or subdomain, capitals, `null`) is another origin. Keys travel in headers that pages set themselves and never in
 * cookies, so credentials are never allowed. A preflight is answered before anybody asks for a key, which it cannot carry, and
 * only where the real request would meet a route. Whom the list does not have gets the answer that it would get without this
 * hook, and its browser keeps it from the page.
 *
 * `*` opens the callers' routes, never those of administrators, nor the way from public pages into a private network.
 */
export function registerCors(
  app: FastifyInstance,
  { origins, table }: { readonly origins: readonly string[]; readonly table: RouteTable },
): void {
  // Costs nothing where it is not wanted.
  if (origins.length === 0) return;
  const listed = new Set(origins);
  const everyone = listed.has("*");

  /** What a browser is told, or undefined for an origin that may not call there. */
  function allowedOrigin(origin: string | undefined, admin: boolean): string | undefined {
    if (origin === undefined) return undefined;
    if (everyone) return admin ? undefined : "*";
    return listed.has(origin) ? origin : undefined;
  }

  /** Whether it was one that could be answered. */
  function answerPreflight(request: FastifyRequest, reply: FastifyReply): boolean {
    const { headers } = request;
    const method = headers["access-control-request-method"];
    if (method === undefined) return false;
    const route = table.routesOf(request.url).find(({ methods }) => methods.includes(method));
    if (route === undefined) return false;
    const origin = allowedOrigin(headers.origin, route.admin);
    if (origin === undefined) return false;
    const asked = headers["access-control-request-headers"]?.split(",") ?? [];
    reply.headers({
      "access-control-allow-origin": origin,
      "access-control-allow-methods": method,
      "access-control-allow-headers": asked
        .map((name) => name.trim().toLowerCase())
        .filter(mayBeSent)
        .join(", "),
      "access-control-max-age": "7200",
    });
    if (headers["access-control-request-private-network"] === "true" && !everyone)
      reply.header("access-control-allow-private-network", "true");
    void reply.code(204).send();
    return true;
  }

  app.addHook("onRequest", (request, reply, done) => {
    if (request.method === "OPTIONS") {
      reply.header("vary", "Origin, Access-Control-Request-Method, Access-Control-Request-Headers");
      if (answerPreflight(request, reply)) return;
    } else if (!everyone) reply.header("vary", "Origin");
    const origin = allowedOrigin(request.headers.origin, request.routeOptions.config?.admin === true);
    if (origin !== undefined)
      reply.headers({ "access-control-allow-origin": origin, "access-control-expose-headers": EXPOSED });
    done();
  });
}

/** Headers of requests that mean something here, or that the vendors' SDKs and tracing libraries set in browsers. */
const SENT = new Set([
  "accept",
  "accept-language",
  "authorization",
  "content-digest",
  "content-type",
  "idempotency-key",
  "if-match",
  "if-none-match",
  "last-event-id",
  "openai-beta",
  "openai-organization",
  "openai-project",
  "signature",
  "signature-input",
  "traceparent",
  "tracestate",
  "x-request-id",
]);
const SENT_FAMILY = /^x-(brikk|stainless)-[a-z0-9-]{1,64}$/;

const mayBeSent = (name: string): boolean => SENT.has(name) || SENT_FAMILY.test(name);

/** A page reads only those headers of an answer that are named here. */
const EXPOSED = [
  "Allow",
  "ETag",
  "Idempotent-Replayed",
  "Link",
  "Location",
  "RateLimit",
  "RateLimit-Policy",
  "Retry-After",
  "Retry-After-Ms",
  "Server-Timing",
  "Traceparent",
  "X-Brikk-Cost-Usd",
  "X-Brikk-Fallback",
  "X-Brikk-Hard-Cap",
  "X-Brikk-Hard-Cap-Exceeded",
  "X-Brikk-Max-Tokens-Clamped",
  "X-Brikk-Model",
  "X-Brikk-Provider",
  "X-Brikk-Route",
  "X-Brikk-Simulated",
  "X-Brikk-Soft-Cap",
  "X-Brikk-Soft-Cap-Exceeded",
  "X-Brikk-Usage-Today",
  "X-RateLimit-Limit",
  "X-RateLimit-Limit-Requests",
  "X-RateLimit-Limit-Tokens",
  "X-RateLimit-Remaining",
  "X-RateLimit-Remaining-Requests",
  "X-RateLimit-Remaining-Tokens",
  "X-RateLimit-Reset",
  "X-RateLimit-Reset-Requests",
  "X-RateLimit-Reset-Tokens",
  "X-Request-Id",
  "X-Should-Retry",
].join(", ");
