import { z } from "zod";
import type { RateLimiter } from "../../access/rate-limiter.ts";
import type { CredentialRing } from "../../credentials/credential-ring.ts";
import type { Ledger } from "../../ledger/ledger.ts";
import type { ProviderSet } from "../../providers/provider-set.ts";
import type { Database } from "../../storage/database.ts";
import type { App } from "../app-type.ts";
import { refusals } from "../schemas/error.ts";
import type { InFlight } from "../in-flight.ts";

const check = z.object({ ok: z.boolean(), detail: z.string() });

const healthAnswer = z.object({
  status: z.enum(["ok", "draining"]),
  version: z.string(),
  uptime_seconds: z.int(),
  in_flight: z.int(),
});
const readyAnswer = z.object({
  ready: z.boolean(),
  checks: z.object({
    storage: check,
    ledger: check,
    providers: check,
    rate_limits: check,
    secrets: check,
    accepting: check,
  }),
});
/** Liveness asks nothing; readiness asks what a request would need. Open: who probes has no key. */
export function registerHealthRoutes(
  app: App,
  options: {
    version: string;
    database: Database;
    ledger: Ledger;
    providers: ProviderSet;
    rateLimiter: RateLimiter;
    credentialRing: CredentialRing;
    unreadableSigningSecrets: number;
    inFlight: InFlight;
    startedAtMs: number;
  },
): void {
  const { database, ledger, providers, inFlight } = options;
  const open = { open: true } as const;
  const tags = ["Health"];

  app.get(
    "/health",
    {
      config: open,
      schema: {
        operationId: "getHealth",
        summary: "Alive, and how",
        description: "Answers as long as the process does.",
        tags,
        security: [],
        response: {
          200: healthAnswer
            .meta({ id: "Health", example: { status: "ok", version: "0.1.0", uptime_seconds: 12, in_flight: 0 } })
            .describe("Alive."),
          500: refusals[500],
        },
      },
    },
    async () => ({
      status: inFlight.draining ? ("draining" as const) : ("ok" as const),
      version: options.version,
      uptime_seconds: Math.floor((Date.now() - options.startedAtMs) / 1_000),
      in_flight: inFlight.count,
    }),
  );

  app.get(
    "/health/live",
    {
      config: open,
      schema: {
        operationId: "getLiveness",
        summary: "Liveness",
        description: "For an orchestrator's liveness probe.",
        tags,
        security: [],
        response: {
          200: z
            .object({ status: z.literal("ok") })
            .meta({ id: "Liveness", example: { status: "ok" } })
            .describe("Alive."),
          500: refusals[500],
        },
      },
    },
    async () => ({ status: "ok" as const }),
  );

  app.get(
    "/health/ready",
    {
      config: open,
      schema: {
        operationId: "getReadiness",
        summary: "Readiness",
        description:
          "Ready when storage answers, the ledger takes events, at least one provider is configured and the server is not stopping.",
        tags,
        security: [],
        response: {
          200: readyAnswer
            .meta({
              id: "Readiness",
              example: {
                ready: true,
                checks: {
                  storage: { ok: true, detail: "answers" },
                  ledger: { ok: true, detail: "takes events" },
                  providers: { ok: true, detail: "openai, mistral" },
                  rate_limits: { ok: true, detail: "in memory" },
                  secrets: { ok: true, detail: "all can be opened" },
                  accepting: { ok: true, detail: "accepting" },
                },
              },
            })
            .describe("Ready."),
          500: refusals[500],
          503: readyAnswer.describe("Not ready; the checks say why."),
        },
      },
    },
    async (_request, reply) => {
      const checks = {
        storage: await storageCheck(database),
        ledger: ledger.writable
          ? { ok: true, detail: "takes events" }
          : { ok: false, detail: "events wait in memory; the database does not take them" },
        providers:
          providers.all.length > 0
            ? { ok: true, detail: providers.all.map(({ provider }) => provider.name).join(", ") }
            : { ok: false, detail: "none is configured" },
        // Limits hold in any case, so none of these keeps the server from serving.
        rate_limits: { ok: true, detail: PLACES_OF_LIMITS[options.rateLimiter.place] },
        // What needs one that cannot be opened is refused; everything else goes on.
        secrets: { ok: true, detail: secretsDetail(options.unreadableSigningSecrets, options.credentialRing) },
        accepting: inFlight.draining
          ? { ok: false, detail: "the server is stopping" }
          : { ok: true, detail: "accepting" },
      };
      const ready = Object.values(checks).every(({ ok }) => ok);
      return reply.code(ready ? 200 : 503).send({ ready, checks });
    },
  );
}

const PLACES_OF_LIMITS: Readonly<Record<RateLimiter["place"], string>> = {
  memory: "in memory",
  redis: "shared in Redis",
  "memory-while-redis-is-down": "in memory; Redis does not answer",
};

function secretsDetail(signingSecrets: number, { unreadable }: CredentialRing): string {
  const closed = [
    ...unreadable.map((provider) => `the credential of ${provider}`),
    ...(signingSecrets > 0 ? [`signing secrets of ${signingSecrets} key${signingSecrets === 1 ? "" : "s"}`] : []),
  ];
  return closed.length === 0 ? "all can be opened" : `cannot be opened: ${closed.join(", ")}`;
}

async function storageCheck(database: Database): Promise<z.infer<typeof check>> {
  try {
    await database.all({ sql: "select 1 as one from api_keys limit 1", params: [] });
    return { ok: true, detail: "answers" };
  } catch {
    return { ok: false, detail: "does not answer" };
  }
}
