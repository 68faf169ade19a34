import { hash } from "node:crypto";
import type { FastifyRequest } from "fastify";
import type { Idempotency } from "../access/key-store.ts";
import { BrikkError } from "../errors.ts";

/** Printable and of a bounded length; UUIDs are common. */
const FORM = /^[\x21-\x7e]{1,255}$/;

/** What makes a request known when it comes again; undefined without the header. Throws invalid_request. */
export function idempotencyOf(request: FastifyRequest, scope: string): Idempotency | undefined {
  const key = request.headers["idempotency-key"];
  if (key === undefined) return undefined;
  if (typeof key !== "string" || !FORM.test(key))
    throw new BrikkError(
      "invalid_request",
      "Idempotency-Key must come once, with 1 to 255 characters and no spaces; a UUID does well.",
      { param: "Idempotency-Key" },
    );
  const asked = [request.method, request.url, request.document?.bytes.toString("utf8") ?? ""];
  return { scope, key, requestHash: hash("sha256", asked.join("\n"), "hex") };
}
