import { hash } from "node:crypto";
import type { FastifyReply, FastifyRequest } from "fastify";
import { z } from "zod";
import type { Idempotency } from "../access/key-store.ts";
import { BrikkError } from "../errors.ts";

export const idempotencyHeader = z.looseObject({
  "idempotency-key": z
    .string()
    .optional()
    .describe(
      "1 to 255 visible ASCII characters, such as a UUID. The same request with it again, within 24 hours, gets the same answer, with Idempotent-Replayed: true.",
    ),
});

const FORM = /^[\x21-\x7e]{1,255}$/;

/**
 * What makes a repeat of the request known as one; undefined when the caller sent no Idempotency-Key. `asked` is all that the
 * request asks for, as its schema made it. Throws invalid_request.
 */
export function idempotencyOf(request: FastifyRequest, scope: string, asked: unknown): Idempotency | undefined {
  const key = request.headers["idempotency-key"];
  if (key === undefined) return undefined;
  if (typeof key !== "string" || !FORM.test(key))
    throw new BrikkError(
      "invalid_request",
      "Idempotency-Key has 1 to 255 visible ASCII characters without spaces, such as a UUID, and is sent once.",
      { param: "Idempotency-Key" },
    );
  const { method, url } = request.routeOptions;
  return { scope, key, requestHash: hash("sha256", `${String(method)} ${url}\n${JSON.stringify(asked)}`, "hex") };
}

/** Tells an answer that was given before from one to something that was done now. */
export function markReplay(reply: FastifyReply, replayed: boolean): void {
  if (replayed) reply.header("idempotent-replayed", "true");
}
