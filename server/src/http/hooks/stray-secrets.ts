import type { FastifyInstance } from "fastify";
import { BrikkError } from "../../errors.ts";
import { isSecretMember, type Redactor } from "../../telemetry/redactor.ts";

declare module "fastify" {
  interface FastifyContextConfig {
    /** Its body is for a provider and is kept nowhere, so it may hold anything. */
    content?: boolean;
  }
}

/**
 * What callers and administrators name, describe and look up is stored, listed and put on record for others to read. So a
 * secret that strayed there, as by pasting it into a key's name, is refused before anything is done with it. Bodies of
 * `content` routes go to a provider and are not looked at; members that are secrets by their names are where they belong.
 */
export function registerStraySecrets(app: FastifyInstance, redactor: Redactor): void {
  const strayIn = (value: unknown, place: string): string | undefined => {
    if (typeof value === "string") return redactor.towardsCallers.finds(value) ? place : undefined;
    if (value === null || typeof value !== "object") return undefined;
    for (const [name, member] of Object.entries(value)) {
      const inner = Array.isArray(value) ? `${place}[${name}]` : place === "" ? name : `${place}.${name}`;
      if (redactor.towardsCallers.finds(name)) return place === "" ? "body" : place;
      const stray = typeof member === "string" && isSecretMember(name) ? undefined : strayIn(member, inner);
      if (stray !== undefined) return stray;
    }
    return undefined;
  };

  app.addHook("preHandler", (request, _reply, done) => {
    const { content, open } = request.routeOptions.config;
    if (content === true) return done();
    // Of what anybody may ask only a body is kept, as that of a key that a caller makes.
    const asked = open === true ? undefined : (strayIn(request.params, "") ?? strayIn(request.query, ""));
    const param = asked ?? strayIn(request.body, "");
    if (param === undefined) return done();
    done(
      new BrikkError(
        "invalid_request",
        `${param} holds what looks like a secret, and others would get to read it there. Leave it out; if it is one in use, replace it.`,
        { param },
      ),
    );
  });
}
