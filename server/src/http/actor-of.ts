import type { FastifyRequest } from "fastify";
import type { Actor } from "../audit/actor.ts";

/** Who acts by a request, for the record. */
export const adminActor = (request: FastifyRequest): Actor => ({
  kind: "admin",
  ip: request.ip,
  requestId: request.id,
});

export const keyActor = (request: FastifyRequest): Actor => ({
  kind: "key",
  keyId: request.key.id,
  ip: request.ip,
  requestId: request.id,
});
