import type { FastifyInstance, FastifyRequest } from "fastify";
import { assertContent, type ContentDigest } from "../../access/content-digest.ts";

declare module "fastify" {
  interface FastifyRequest {
    /** What the body has to hash to, as the request's signature says; gone once it did, and where nothing was signed. */
    signedDigest: ContentDigest | undefined;
  }
}

const NO_BODY = Buffer.alloc(0);

/**
 * Who reads a body calls this with its bytes before anything else is done with them. Throws signature_invalid when they are not
 * what was signed.
 */
export function assertSignedBody(request: FastifyRequest, body: Buffer): void {
  if (request.signedDigest === undefined) return;
  assertContent(request.signedDigest, body);
  request.signedDigest = undefined;
}

/** A body that nobody read counts as empty: a reader that does not ask above lets no signed request through. */
export function registerSignedBody(app: FastifyInstance): void {
  app.decorateRequest("signedDigest", undefined);
  app.addHook("preValidation", (request, _reply, done) => {
    assertSignedBody(request, NO_BODY);
    done();
  });
}
