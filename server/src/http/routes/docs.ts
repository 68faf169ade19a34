import swagger from "@fastify/swagger";
import swaggerUi from "@fastify/swagger-ui";
import type { FastifyError, FastifyReply, FastifyRequest } from "fastify";
import { jsonSchemaTransform, jsonSchemaTransformObject } from "fastify-type-provider-zod";
import { BrikkError } from "../../errors.ts";
import type { App } from "../app-type.ts";
import { PAGE_HEADERS } from "../security-headers.ts";
import { tidyDocument } from "../schemas/tidy-document.ts";

const DESCRIPTION = `Brikk is an LLM gateway: one base URL and one key in front of several providers, with budgets that hold and a ledger that loses nothing.

Authenticate with \`Authorization: Bearer brikk_...\` (what OpenAI's SDKs send) or with \`X-Brikk-API-Key: brikk_...\`. A server that does not ask for keys serves callers without one under a shared, capped key.

Every error has OpenAI's shape; \`error.code\` is stable and \`error.details\` names the rule and its numbers. \`x-should-retry: false\` marks a refusal that trying again cannot cure.`;

/** The document is written from the routes' own schemas. Register before the routes. */
export async function registerApiDocument(app: App, version: string): Promise<void> {
  await app.register(swagger, {
    openapi: {
      openapi: "3.0.3",
      info: {
        title: "Brikk",
        version,
        description: DESCRIPTION,
        license: { name: "Apache-2.0", url: "https://www.apache.org/licenses/LICENSE-2.0" },
      },
      servers: [{ url: "/", description: "This server" }],
      tags: [
        { name: "OpenAI-compatible", description: "What OpenAI's SDKs call." },
        { name: "Agents", description: "One message in, one answer out; or two agents that talk." },
        { name: "Panel", description: "Four agents in four languages." },
        { name: "Account", description: "The caller's own key and usage." },
        { name: "Health", description: "For probes and people on call." },
        { name: "Administration", description: "For who holds BRIKK_ADMIN_TOKEN; not there when none is set." },
      ],
      components: {
        securitySchemes: {
          bearer: { type: "http", scheme: "bearer", description: "A Brikk key, as OpenAI's SDKs send it." },
          apiKey: { type: "apiKey", in: "header", name: "X-Brikk-API-Key", description: "A Brikk key." },
          adminToken: { type: "http", scheme: "bearer", description: "What BRIKK_ADMIN_TOKEN holds." },
        },
      },
      security: [{ bearer: [] }, { apiKey: [] }],
    },
    transform: jsonSchemaTransform,
    transformObject: (document) => tidyDocument(jsonSchemaTransformObject(document)),
  });
}

const shownPath = ({ url }: FastifyRequest): string => url.split("?", 1)[0]!.slice(0, 200);

/** Swagger UI at /docs, with everything it needs served from here, and the document itself. */
export async function registerDocs(app: App): Promise<void> {
  let written: Buffer | undefined;
  /** Once for all: to write it takes milliseconds, and nobody is asked for a key here. */
  const document = (reply: FastifyReply): FastifyReply =>
    reply
      .header("content-type", "application/json; charset=utf-8")
      .send((written ??= Buffer.from(JSON.stringify(app.swagger()))));
  app.get("/openapi.json", { config: { open: true }, schema: { hide: true } }, async (_request, reply) =>
    document(reply),
  );
  app.get("/", { config: { open: true }, schema: { hide: true } }, async (_request, reply) => reply.redirect("/docs"));
  await app.register(async (docs) => {
    // Its redirects carry the query along, and a query may be anything.
    docs.addHook("onSend", (_request, reply, payload, done) => {
      const location = reply.getHeader("location");
      if (typeof location === "string") reply.header("location", location.replace(/\?.*/, ""));
      done(null, payload);
    });
    docs.addHook("onRoute", (route) => {
      route.config = { ...route.config, open: true };
    });
    // A path that leads outside the folder, or nowhere, is no fault of ours.
    docs.setErrorHandler((error: FastifyError, request) => {
      const refused = error.statusCode !== undefined && error.statusCode < 500;
      throw refused ? new BrikkError("not_found", `There is no ${request.method} ${shownPath(request)} here.`) : error;
    });
    docs.addHook("onRequest", (_request, reply, done) => {
      reply.headers(PAGE_HEADERS);
      done();
    });
    docs.addHook("preHandler", (request, reply, done) => {
      if (request.routeOptions.url === "/docs/json") return void document(reply);
      done();
    });
    await docs.register(swaggerUi, {
      routePrefix: "/docs",
      uiConfig: {
        layout: "BaseLayout",
        validatorUrl: null,
        persistAuthorization: false,
        tryItOutEnabled: true,
        displayRequestDuration: true,
        docExpansion: "list",
      },
      theme: { title: "Brikk API" },
    });
  });
}
