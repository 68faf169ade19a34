import type { FastifyInstance } from "fastify";
import { BrikkError } from "../../errors.ts";
import { type JsonDocument, JsonDocumentError, JsonTooComplex, parseJsonDocument } from "../../lib/json-document.ts";
import { assertSignedBody } from "./signed-body.ts";

declare module "fastify" {
  interface FastifyRequest {
    /** The body as it came; there when a JSON body was sent. */
    document: JsonDocument;
  }
}

/** JSON bodies are parsed once, here; fastify's own parsers are out. */
export function registerJsonBody(app: FastifyInstance): void {
  app.decorateRequest("document", null as unknown as JsonDocument);
  app.removeAllContentTypeParsers();
  app.addContentTypeParser("application/json", { parseAs: "buffer" }, (request, body, done) => {
    try {
      assertSignedBody(request, body as Buffer);
      request.document = parseJsonDocument(body as Buffer);
      done(null, request.document.value);
    } catch (error) {
      done(error instanceof JsonDocumentError ? refusalOf(error) : (error as Error));
    }
  });
}

const refusalOf = (error: JsonDocumentError): BrikkError =>
  error instanceof JsonTooComplex
    ? new BrikkError("request_too_complex", error.message, {
        details: { scope: "request", rule: error.rule, limit: error.limit },
      })
    : new BrikkError("invalid_request", error.message);
