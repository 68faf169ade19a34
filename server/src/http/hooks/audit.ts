import type { FastifyInstance, FastifyReply, FastifyRequest } from "fastify";
import type { AuditedRequest, AuditTrail } from "../../audit/audit-trail.ts";
import type { Actor } from "../../audit/actor.ts";
import { adminActor, keyActor } from "../actor-of.ts";

/**
 * Puts every request on record whose caller was known, and every one that was refused at a door: the key, the route's template,
 * the status that was sent, the address and the request id; nothing of what was asked or answered. Comes once for every response,
 * also when it was streamed, or when its caller left. Register before whatever may refuse a request.
 */
export function registerAudit(app: FastifyInstance, audit: AuditTrail): void {
  app.addHook("onRequest", (request, reply, done) => {
    if (request.routeOptions.config.open !== true && !request.is404) {
      reply.raw.once("close", () => {
        const noted = auditedRequest(request, reply);
        if (noted !== undefined) audit.noteRequest(noted);
      });
    }
    done();
  });
}

/** What a caller is refused with before it is known, or although it is known, who he is. */
const AT_THE_DOOR: ReadonlySet<string> = new Set([
  "missing_api_key",
  "invalid_api_key",
  "key_expired",
  "key_revoked",
  "signature_invalid",
  "ip_not_allowed",
  "host_not_allowed",
  "admin_token_invalid",
]);

/** Undefined for who was turned away before anybody looked, as while the server stops or its storage is away. */
function auditedRequest(request: FastifyRequest, reply: FastifyReply): AuditedRequest | undefined {
  const code = request.refusedWith?.code;
  const isForAdministrators = request.routeOptions.config.admin === true;
  // An administrators' door limits how often one may try, a caller's before the key is known.
  const isCallerKnown = !isForAdministrators && request.key !== null;
  const atTheDoor = code !== undefined && (AT_THE_DOOR.has(code) || (code === "rate_limit_exceeded" && !isCallerKnown));
  if (!atTheDoor && !isForAdministrators && !isCallerKnown) return undefined;
  const { raw } = reply;
  return {
    kind: atTheDoor ? "refusal" : "request",
    actor: isCallerKnown ? keyActor(request) : atTheDoor ? refusedActor(request) : adminActor(request),
    method: request.method,
    route: request.routeOptions.url ?? "unknown",
    status: raw.headersSent ? raw.statusCode : undefined,
    ...(code !== undefined && { code }),
  };
}

/** A revoked or expired secret says whose it is, though it lets nobody in. */
function refusedActor({ refusedWith, ip, id }: FastifyRequest): Actor {
  const keyId = refusedWith?.extras.keyId;
  return keyId === undefined ? { kind: "unknown", ip, requestId: id } : { kind: "key", keyId, ip, requestId: id };
}
