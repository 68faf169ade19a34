import { z } from "zod";
import type { ApiKey } from "../../access/api-key.ts";
import { ANONYMOUS_KEY_ID } from "../../access/api-key.ts";
import { presentedSecret } from "../../access/authenticate.ts";
import type { KeyStore } from "../../access/key-store.ts";
import { secretPrefix } from "../../access/secret.ts";
import type { Ledger } from "../../ledger/ledger.ts";
import type { Clock } from "../../lib/clock.ts";
import type { Database } from "../../storage/database.ts";
import { standingHeaders } from "../answer-headers.ts";
import type { App } from "../app-type.ts";
import { budget, exampleBudget, leadingCaps, shownBudget } from "../schemas/budget.ts";
import { refusals } from "../schemas/error.ts";
import { usageAnswer } from "../schemas/key-usage.ts";
import { answerKeyUsage } from "../usage-answers.ts";

const keyAnswer = z
  .object({
    key_id: z.string(),
    name: z.string(),
    anonymous: z.boolean(),
    status: z.literal("active"),
    state: z
      .enum(["active", "in_grace"])
      .describe("Of the secret that the request came with. in_grace: a rotation replaced it, and it ends soon."),
    soft_cap_usd: z.number().nullable(),
    hard_cap_usd: z.number().nullable(),
    budgets: z.array(budget),
    rate_limit_per_min: z.int(),
    tokens_per_min: z.int().nullable().describe("null: not limited."),
    max_concurrent_requests: z.int().nullable().describe("null: not limited."),
    rescue: z
      .string()
      .nullable()
      .describe(
        "continue or restart: what is done with streams that break midway, unless a request's X-Brikk-Rescue says otherwise. null: nothing.",
      ),
    models: z.array(z.string()).nullable().describe("What it may use; null: every model."),
    providers: z.array(z.string()).nullable().describe("null: every provider."),
    allowed_ips: z.array(z.string()).nullable().describe("Where it may be used from; null: everywhere."),
    signing_required: z.boolean().describe("Requests without a valid signature are refused."),
    self_service: z.boolean().describe("Made by its holder, with POST /sandbox/keys."),
    secrets: z
      .array(
        z.object({
          prefix: z.string().describe("The first characters."),
          created_at: z.string(),
          valid_until: z
            .string()
            .nullable()
            .describe("The first moment at which it is no longer accepted; null: none is set."),
        }),
      )
      .describe("The key's secrets that are accepted, oldest first."),
    created_at: z.string(),
    expires_at: z.string().nullable(),
  })
  .meta({
    id: "Key",
    example: {
      key_id: "bk_Example00001",
      name: "demo",
      anonymous: false,
      status: "active",
      state: "active",
      soft_cap_usd: 5,
      hard_cap_usd: 10,
      budgets: [exampleBudget],
      rate_limit_per_min: 60,
      tokens_per_min: null,
      max_concurrent_requests: null,
      rescue: null,
      models: ["gpt-4o-mini", "mistral/mistral-small-latest"],
      providers: null,
      allowed_ips: null,
      signing_required: false,
      self_service: false,
      secrets: [{ prefix: "brikk_aB3dE5", created_at: "2026-11-23T09:00:00.000Z", valid_until: null }],
      created_at: "2026-11-23T09:00:00.000Z",
      expires_at: null,
    },
  });

/** What a caller may know of its own key. */
export function registerAccountRoutes(
  app: App,
  options: { ledger: Ledger; database: Database; keyStore: KeyStore; clock: Clock; rateLimitPerMin: number },
): void {
  const { ledger, database, keyStore, clock } = options;

  app.get(
    "/usage/me",
    {
      schema: {
        operationId: "getMyUsage",
        summary: "What this key used",
        description: "Cost, requests and tokens of today, this week (from Monday) and this month, in UTC.",
        tags: ["Account"],
        response: { 200: usageAnswer.describe("The key's usage."), ...refusals },
      },
    },
    async (request, reply): Promise<z.infer<typeof usageAnswer>> => {
      const standing = await ledger.standingNow(request.key);
      reply.headers(standingHeaders(standing));
      return answerKeyUsage({ database, clock }, request.key, standing);
    },
  );

  app.get(
    "/keys/me",
    {
      schema: {
        operationId: "getMyKey",
        summary: "This key",
        description: "The key's id, caps, limits and rights, and the beginnings of its secrets; never a secret.",
        tags: ["Account"],
        response: { 200: keyAnswer.describe("The key."), ...refusals },
      },
    },
    async (request, reply): Promise<z.infer<typeof keyAnswer>> => {
      const key: ApiKey = request.key;
      const [standing, listed] = await Promise.all([ledger.standingNow(key), keyStore.find(key.id)]);
      reply.headers(standingHeaders(standing));
      const secrets = listed?.secrets ?? [];
      const presented = presentedSecret(request.headers);
      const inGrace = secrets.some(
        ({ prefix, notAfterMs }) => notAfterMs !== undefined && presented && secretPrefix(presented) === prefix,
      );
      return {
        key_id: key.id,
        name: key.name,
        anonymous: key.id === ANONYMOUS_KEY_ID,
        status: "active",
        state: inGrace ? "in_grace" : "active",
        ...leadingCaps(standing),
        budgets: standing.budgets.map(shownBudget),
        rate_limit_per_min: key.rateLimitPerMin ?? options.rateLimitPerMin,
        tokens_per_min: key.tokensPerMin ?? null,
        max_concurrent_requests: key.maxConcurrentRequests ?? null,
        rescue: key.rescue ?? null,
        models: copyOrNull(key.allowedModels),
        providers: copyOrNull(key.allowedProviders),
        allowed_ips: copyOrNull(key.allowedIps),
        signing_required: key.signingRequired === true,
        self_service: key.selfService === true,
        secrets: secrets.map(({ prefix, createdAtMs, notAfterMs }) => ({
          prefix,
          created_at: new Date(createdAtMs).toISOString(),
          valid_until: notAfterMs === undefined ? null : new Date(notAfterMs).toISOString(),
        })),
        created_at: new Date(key.createdAtMs).toISOString(),
        expires_at: key.expiresAtMs === undefined ? null : new Date(key.expiresAtMs).toISOString(),
      };
    },
  );
}

const copyOrNull = (names: readonly string[] | undefined): string[] | null => (names === undefined ? null : [...names]);
