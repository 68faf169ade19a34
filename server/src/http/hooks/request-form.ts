import type { IncomingMessage } from "node:http";
import type { FastifyInstance } from "fastify";
import { BrikkError } from "../../errors.ts";

/**
 * Refuses what node reads and others on the way might read differently, and closes the connection behind it: other versions than
 * 1.x, with which node takes a line without one for a request; no Host, more than one or what is none (RFC 9112 §3.2); a body whose
 * length HTTP/1.0 cannot say (§6.1); an address that is too long.
 */
export function registerRequestForm(app: FastifyInstance, maxUrlLength: number): void {
  app.addHook("onRequest", (request, reply, done) => {
    const refusal = faultOf(request.raw, maxUrlLength);
    // Of who offers another protocol node reads no second request.
    if (refusal !== undefined || request.headers.upgrade !== undefined) reply.raw.shouldKeepAlive = false;
    done(refusal);
  });
}

function faultOf(raw: IncomingMessage, maxUrlLength: number): BrikkError | undefined {
  if (raw.url!.length > maxUrlLength)
    return new BrikkError(
      "url_too_long",
      `The request's path and query have ${raw.url!.length} characters; this server takes ${maxUrlLength}.`,
      { details: { scope: "request", rule: "url_length", limit: maxUrlLength } },
    );
  if (raw.httpVersionMajor !== 1) return new BrikkError("invalid_request", "This server speaks HTTP/1.1.");
  const hosts = linesOf(raw.rawHeaders, "host");
  if (hosts > 1) return new BrikkError("invalid_request", "The request has more than one Host header.");
  if (NOT_IN_HOST.test(raw.headers.host ?? ""))
    return new BrikkError("invalid_request", "The Host header names no host.");
  const oldHttp = raw.httpVersionMinor === 0;
  if (hosts === 0 && !oldHttp) return new BrikkError("invalid_request", "The request has no Host header.");
  if (oldHttp && raw.headers["transfer-encoding"] !== undefined)
    return new BrikkError("invalid_request", "HTTP/1.0 has no Transfer-Encoding.");
  return undefined;
}

const NOT_IN_HOST = /[\s/\\@,?#]/;

/**
 * A target with a scheme and a host (RFC 9112 §3.2.2) as the path that it means here, for everybody who reads it. The host in it
 * is no more looked at than the Host header.
 */
export const originForm = ({ url }: Pick<IncomingMessage, "url">): string => {
  const target = url!;
  if (target.startsWith("/")) return target;
  const path = target.replace(/^https?:\/\/[^/?#]*/i, "");
  return path === target || path.startsWith("/") ? path : `/${path}`;
};

/** Node keeps the first one and drops the rest, except here. */
function linesOf(rawHeaders: readonly string[], name: string): number {
  let lines = 0;
  for (let index = 0; index < rawHeaders.length; index += 2) {
    const header = rawHeaders[index]!;
    if (header.length === name.length && header.toLowerCase() === name) lines += 1;
  }
  return lines;
}
