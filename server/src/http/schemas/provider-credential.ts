import { z } from "zod";

const credentialSources = ["stored", "environment", "none"] as const;

export const providerCredential = z
  .object({
    provider: z.string(),
    source: z
      .enum(credentialSources)
      .describe("Where the credential comes from that is used; a stored one wins over the environment's."),
    known: z.boolean().describe("False: nothing describes this provider any more, but its credential is stored still."),
    simulated: z.boolean().describe("The simulator answers in its place."),
    readable: z.boolean().describe("False: none of the encryption keys opens what is stored."),
    hint: z.string().nullable().describe("The last characters of a stored one that is long enough."),
    revision: z.int().nullable().describe("Of a stored one: what `If-Match` names."),
    created_at: z.iso.datetime().nullable(),
    updated_at: z.iso.datetime().nullable(),
  })
  .meta({
    id: "ProviderCredential",
    example: {
      provider: "openai",
      source: "stored",
      known: true,
      simulated: false,
      readable: true,
      hint: "x7Qa",
      revision: 3,
      created_at: "2026-11-23T09:00:00.000Z",
      updated_at: "2026-11-24T10:30:00.000Z",
    },
  });

export const providerCredentials = z
  .object({ credentials: z.array(providerCredential) })
  .meta({ id: "ProviderCredentials", example: { credentials: [] } });

/** Whether the provider was asked before a credential was stored, and what it said. */
const VERIFICATIONS = ["accepted", "inconclusive", "skipped"] as const;
export type Verification = (typeof VERIFICATIONS)[number];
export const savedCredential = providerCredential
  .extend({
    verification: z
      .enum(VERIFICATIONS)
      .describe("inconclusive: the provider has no list of models, so it could not be asked what it thinks of it."),
  })
  .meta({ id: "ProviderCredentialSaved" });

export const newCredential = z
  .strictObject({
    api_key: z
      .string()
      .trim()
      .max(4_096)
      // As in the environment; what is wrong is said without repeating it.
      .regex(/^[\x21-\x7e]+$/, "has characters that no key has, such as spaces, or is empty; paste it again"),
    verify: z.boolean().default(true).describe("False: it is stored without asking the provider."),
  })
  .meta({ id: "NewProviderCredential", example: { api_key: "sk-..." } });

export const credentialTest = z
  .object({
    provider: z.string(),
    source: z.enum(credentialSources),
    outcome: z.enum(["accepted", "refused", "inconclusive", "failed"]),
    fault: z.string().nullable().describe("What went wrong when it failed, such as unreachable or overloaded."),
    provider_status: z.int().nullable(),
  })
  .meta({
    id: "ProviderCredentialTest",
    example: { provider: "openai", source: "stored", outcome: "accepted", fault: null, provider_status: null },
  });

export const byProvider = z.object({ provider: z.string().min(1).max(100) });

export const ifMatchHeader = z
  .object({
    "if-match": z
      .string()
      .optional()
      .describe('The revision that the change was made on, in quotes: `"3"`; `*` is whichever there is.'),
  })
  .loose();

export type CredentialSource = (typeof credentialSources)[number];

export const noBody = z.strictObject({}).nullable().describe("Nothing, or `{}`.");
