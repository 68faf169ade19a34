import type { FastifyRequest } from "fastify";
import { z } from "zod";
import { addressGroup } from "../../access/address-group.ts";
import type { KeyStore, SelfServiceKey } from "../../access/key-store.ts";
import { createLimitCounts } from "../../access/limit-counts.ts";
import type { SelfServiceConfig } from "../../config.ts";
import { BrikkError } from "../../errors.ts";
import { type Clock, DAY_MS } from "../../lib/clock.ts";
import { nanoUsd, usdNumber } from "../../lib/money.ts";
import type { App } from "../app-type.ts";
import { bodyRefusals, refusals } from "../schemas/error.ts";

const sandboxKeyRequest = z
  .strictObject({
    name: z
      .string()
      .trim()
      .min(1)
      .max(100)
      .regex(/^\P{Cc}*$/u, "must have no control characters")
      .default("sandbox")
      .describe("What it is for."),
  })
  .meta({ id: "SandboxKeyRequest", example: { name: "trying it out" } });

const sandboxKey = z
  .object({
    id: z.string(),
    key_id: z.string(),
    key: z.string().describe("The secret, shown this once."),
    name: z.string(),
    soft_cap_usd: z.number().describe("Per day."),
    hard_cap_usd: z.number().describe("Per day."),
    created_at: z.string(),
    expires_at: z.string(),
  })
  .meta({
    id: "SandboxKey",
    example: {
      id: "bk_Example00001",
      key_id: "bk_Example00001",
      key: "brikk_...",
      name: "trying it out",
      soft_cap_usd: 0.8,
      hard_cap_usd: 1,
      created_at: "2026-11-23T09:00:00.000Z",
      expires_at: "2026-11-30T09:00:00.000Z",
    },
  });

/**
 * Callers make a key for themselves. Its hard cap and its end are the operator's, and so is how many there may be: counted in the
 * database, so that neither a restart nor another instance gives more. A JSON body is asked for, if only `{}`: with one, a browser
 * asks before it sends another site's request, so that no page makes its visitors use up what there is.
 */
export function registerSandboxKeyRoutes(
  app: App,
  options: {
    readonly keyStore: KeyStore;
    readonly clock: Clock;
    readonly selfService: SelfServiceConfig;
    /** How often one address may ask per minute, so that a flood of requests does not become a queue for the database. */
    readonly requestsPerMin: number;
  },
): void {
  const { keyStore, clock, selfService } = options;
  const { hardCap, most, mostPerAddress, days } = selfService;
  const tries = createLimitCounts({ clock });

  function countTry(group: string): void {
    const verdict = tries.admit({
      keyId: group,
      requestsPerMin: options.requestsPerMin,
      tokensPerMin: undefined,
      concurrentRequests: undefined,
      address: undefined,
    });
    if (verdict.allowed) return;
    throw tooMany("Too many requests for a key came from this address", verdict.refusedBy.waitMs, {
      scope: "ip",
      rule: "self-service-requests",
      window: "minute",
      limit: options.requestsPerMin,
    });
  }

  app.post(
    "/sandbox/keys",
    {
      config: { open: true },
      onRequest: (request: FastifyRequest, _reply, done) => {
        countTry(addressGroup(request.ip));
        done();
      },
      schema: {
        operationId: "createSandboxKey",
        summary: "A key to try things out with",
        description: `Makes a key for whoever asks: with a hard cap per day, for some days, a few for each address and in all. The limits are the server's; this one gives ${mostPerAddress} in 24 hours to an address.`,
        tags: ["Account"],
        security: [],
        body: sandboxKeyRequest,
        response: {
          201: sandboxKey.describe("The key, with its secret."),
          400: refusals[400],
          ...bodyRefusals,
          429: refusals[429],
          500: refusals[500],
          503: refusals[503],
        },
      },
    },
    async (request, reply): Promise<z.infer<typeof sandboxKey>> => {
      const softCap = nanoUsd((hardCap * 8n) / 10n);
      const expiresAtMs = clock.now() + days * DAY_MS;
      const made = await keyStore.createSelfService(
        { name: request.body.name, softCap, hardCap, expiresAtMs },
        { createdFrom: addressGroup(request.ip), most, mostPerAddress },
        { kind: "self_service", ip: request.ip, requestId: request.id },
      );
      const { key, secret } = createdOrRefused(made, selfService, clock.now());
      reply.code(201);
      return {
        id: key.id,
        key_id: key.id,
        key: secret,
        name: key.name,
        soft_cap_usd: usdNumber(softCap),
        hard_cap_usd: usdNumber(hardCap),
        created_at: new Date(key.createdAtMs).toISOString(),
        expires_at: new Date(expiresAtMs).toISOString(),
      };
    },
  );
}

function createdOrRefused(made: SelfServiceKey, { most, mostPerAddress }: SelfServiceConfig, nowMs: number) {
  switch (made.kind) {
    case "created":
      return made;
    case "too-many-of-address":
      throw tooMany(
        `This address has made ${made.made} keys in 24 hours, and may make ${mostPerAddress}`,
        made.againAtMs - nowMs,
        {
          scope: "ip",
          rule: "self-service-keys-per-address",
          window: "24 hours",
          limit: mostPerAddress,
        },
      );
    case "too-many":
      throw tooMany(
        `${made.inForce} self-service keys are in force here, and there may be ${most}`,
        made.againAtMs - nowMs,
        {
          scope: "server",
          rule: "self-service-keys",
          window: null,
          limit: most,
        },
      );
    default:
      return made satisfies never;
  }
}

function tooMany(why: string, waitMs: number, rule: Readonly<Record<string, unknown>>): BrikkError {
  const retryAfterMs = Math.max(1, Math.ceil(waitMs));
  const seconds = Math.ceil(retryAfterMs / 1_000);
  return new BrikkError(
    "rate_limit_exceeded",
    `${why}. Try again in ${seconds} s, or ask whoever runs this gateway for a key.`,
    {
      retryAfterMs,
      details: { ...rule, remaining: 0, reset_seconds: seconds },
    },
  );
}
