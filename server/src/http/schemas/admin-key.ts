import { z } from "zod";
import { KEY_BOUNDS, type KeyChanges } from "../../access/key-changes.ts";
import { BrikkError } from "../../errors.ts";
import { type JsonDocument, memberText } from "../../lib/json-document.ts";
import { type NanoUsd, parseUsdNumber } from "../../lib/money.ts";

export const keyId = z
  .string()
  // What was sent in its place may be a secret, and is not repeated.
  .regex(/^bk_[0-9A-Za-z]{12}$/, "is not a key's public id, which is bk_ and 12 letters or digits")
  .meta({ example: "bk_Example00001" });

const usd = z.number().min(0).max(999_999_999).nullable().optional();
const count = (most: number) => z.int().min(1).max(most).nullable().optional();
const names = z
  .array(z.string().min(1).max(KEY_BOUNDS.listedLength))
  .min(1)
  .max(KEY_BOUNDS.listed)
  .nullable()
  .optional();

const choices = {
  soft_cap_usd: usd.describe("Warn from this much spent per day. null: the server's default."),
  hard_cap_usd: usd.describe("Refuse what would exceed this much per day. null: the server's default."),
  week_soft_cap_usd: usd.describe("The same per week, which begins on Monday (UTC). null: none, as below."),
  week_hard_cap_usd: usd,
  month_soft_cap_usd: usd,
  month_hard_cap_usd: usd,
  rate_limit_per_min: count(KEY_BOUNDS.rateLimitPerMin).describe("Requests per minute. null: the server's default."),
  tokens_per_min: count(KEY_BOUNDS.tokensPerMin).describe("null: not limited."),
  max_concurrent_requests: count(KEY_BOUNDS.maxConcurrentRequests).describe("null: not limited."),
  rescue: z
    .enum(["continue", "restart"])
    .nullable()
    .optional()
    .describe("What is done with streams that break midway. null: nothing."),
  expires_at: z.iso
    .datetime({ offset: true, error: "must be a timestamp such as 2026-12-31T23:59:59Z (RFC 3339)" })
    .nullable()
    .optional()
    .describe("From when on it is refused. null: never."),
  models: names.describe("The only models it may use, by the names that callers give. null: every one."),
  providers: names.describe("The only providers it may use. null: every one."),
  allowed_ips: z
    .array(z.string().min(1).max(60))
    .min(1)
    .max(KEY_BOUNDS.listed)
    .nullable()
    .optional()
    .describe("The only addresses and CIDR ranges it may be used from. null: everywhere."),
  signing_required: z.boolean().nullable().optional().describe("Refuse requests without a valid signature."),
  metadata: z
    .record(z.string(), z.string())
    .nullable()
    .optional()
    .describe(
      `What you want to remember about it: at most ${KEY_BOUNDS.metadataPairs} pairs of text. Replaced as a whole; null: none.`,
    ),
};

const name = z.string().max(1_000).describe(`Who or what it is for; at most ${KEY_BOUNDS.nameLength} characters.`);

export const newKey = z.strictObject({ name, ...choices }).meta({
  id: "NewKey",
  example: { name: "billing service", hard_cap_usd: 20, models: ["gpt-4o-mini"], metadata: { team: "billing" } },
});

export const keyPatch = z
  .strictObject({ name: name.optional(), ...choices })
  .refine((patch) => Object.keys(patch).length > 0, "names nothing that is to change")
  .describe("What is left out stays as it is; null takes a limit away or back to the server's default.")
  .meta({ id: "KeyPatch", example: { hard_cap_usd: 40, week_hard_cap_usd: null } });

type Choices = z.infer<typeof newKey> | z.infer<typeof keyPatch>;
type Amount = "soft_cap_usd" | "hard_cap_usd" | `${"week" | "month"}_${"soft" | "hard"}_cap_usd`;

/** What a body that fits one of the schemas asks for. Throws invalid_request for an amount that is no whole number of nano-USD. */
export function keyChangesIn(body: Choices, document: JsonDocument): KeyChanges {
  const amount = (field: Amount): NanoUsd | null | undefined => {
    const value = body[field];
    if (value === undefined || value === null) return value;
    const exact = parseUsdNumber(memberText(document, field) ?? "");
    if (exact !== undefined) return exact;
    throw new BrikkError(
      "invalid_request",
      `${field}: has more than 9 decimals, and a nano-USD is the least there is.`,
      {
        param: field,
      },
    );
  };
  const { expires_at: expiresAt } = body;
  return {
    name: body.name,
    day: { softCap: amount("soft_cap_usd"), hardCap: amount("hard_cap_usd") },
    week: { softCap: amount("week_soft_cap_usd"), hardCap: amount("week_hard_cap_usd") },
    month: { softCap: amount("month_soft_cap_usd"), hardCap: amount("month_hard_cap_usd") },
    rateLimitPerMin: body.rate_limit_per_min,
    tokensPerMin: body.tokens_per_min,
    maxConcurrentRequests: body.max_concurrent_requests,
    rescue: body.rescue,
    expires: expiresAt === undefined || expiresAt === null ? expiresAt : { atMs: Date.parse(expiresAt) },
    allowedModels: body.models,
    allowedProviders: body.providers,
    allowedIps: body.allowed_ips,
    signingRequired: body.signing_required,
    metadata: body.metadata,
  };
}

const amountShown = z.number().nullable();
const moment = z.string().nullable();

const fields = {
  name: z.string(),
  soft_cap_usd: amountShown.describe("What holds: the key's own, or the server's default. null: none for the day."),
  hard_cap_usd: amountShown,
  week_soft_cap_usd: amountShown,
  week_hard_cap_usd: amountShown,
  month_soft_cap_usd: amountShown,
  month_hard_cap_usd: amountShown,
  rate_limit_per_min: z.int(),
  tokens_per_min: z.int().nullable(),
  max_concurrent_requests: z.int().nullable(),
  rescue: z.enum(["continue", "restart"]).nullable(),
  models: z.array(z.string()).readonly().nullable(),
  providers: z.array(z.string()).readonly().nullable(),
  allowed_ips: z.array(z.string()).readonly().nullable(),
  signing_required: z.boolean(),
  metadata: z.record(z.string(), z.string()).readonly().nullable(),
  self_service: z.boolean().describe("A caller made it itself."),
  created_at: z.string(),
  expires_at: moment,
  revoked_at: moment,
};

const ids = { id: z.string(), key_id: z.string().describe("The same as `id`.") };

const exampleFields = {
  id: "bk_Example00001",
  key_id: "bk_Example00001",
  name: "billing service",
  soft_cap_usd: 5,
  hard_cap_usd: 20,
  week_soft_cap_usd: null,
  week_hard_cap_usd: null,
  month_soft_cap_usd: null,
  month_hard_cap_usd: null,
  rate_limit_per_min: 60,
  tokens_per_min: null,
  max_concurrent_requests: null,
  rescue: null,
  models: ["gpt-4o-mini"],
  providers: null,
  allowed_ips: null,
  signing_required: false,
  metadata: { team: "billing" },
  self_service: false,
  created_at: "2026-11-23T09:00:00.000Z",
  expires_at: null,
  revoked_at: null,
} as const;

export const administeredKey = z
  .object({
    ...ids,
    ...fields,
    status: z.enum(["active", "expired", "revoked"]),
    version: z.string().describe("Changes with every change of the key; in quotes it is the ETag that If-Match names."),
    secrets: z
      .array(
        z.object({
          prefix: z.string().describe("Its first characters; no more of it is stored."),
          created_at: z.string(),
          valid_until: moment.describe("Of one that a rotation replaced. null: as long as the key."),
        }),
      )
      .readonly(),
    has_signing_secret: z.boolean(),
  })
  .meta({
    id: "AdministeredKey",
    example: {
      ...exampleFields,
      models: [...exampleFields.models],
      status: "active",
      version: "17",
      secrets: [{ prefix: "brikk_Exampl", created_at: "2026-11-23T09:00:00.000Z", valid_until: null }],
      has_signing_secret: false,
    },
  });

export const createdKey = z
  .object({
    ...ids,
    key: z.string().describe("The secret that callers send. Shown this once."),
    signing_secret: z
      .string()
      .optional()
      .describe("What requests are signed with, where that is required. Shown this once."),
    ...fields,
    version: z.string(),
  })
  .meta({
    id: "CreatedKey",
    example: { ...exampleFields, models: [...exampleFields.models], key: "brikk_...", version: "17" },
  });

export const keyList = z
  .object({
    data: z.array(administeredKey).describe("Oldest first."),
    next_cursor: z.string().nullable().describe("Send it as `cursor` for the next page; null at the end."),
  })
  .meta({ id: "AdministeredKeys", example: { data: [], next_cursor: null } });

export const newSigningSecretAnswer = z
  .object({ key_id: z.string(), signing_secret: z.string().describe("Shown this once; the one before ends at once.") })
  .meta({ id: "NewSigningSecret", example: { key_id: "bk_Example00001", signing_secret: "brikk_sig_..." } });
