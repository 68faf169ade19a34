import type { FastifyRequest } from "fastify";
import type { Logger } from "../telemetry/log.ts";

/** Whoever holds the admin token changed something: what, and from where, is in the log under the act's name. */
export function noteAdminAct(
  logger: Logger,
  request: FastifyRequest,
  act: string,
  numbers: Readonly<Record<string, unknown>>,
): void {
  logger.info({ request_id: request.id, remote_address: request.ip, act, ...numbers }, "an administrator acted");
}
