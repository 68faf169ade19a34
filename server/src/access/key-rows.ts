import { type Insertable, sql, type Transaction } from "kysely";
import type { ApiKeysTable, Schema } from "../storage/schema.ts";
import type { ApiKeyRow, RescueMode } from "./api-key.ts";
import type { KeyCaps } from "./caps.ts";
import { hashSecret, newSecret, type Secret, secretPrefix } from "./secret.ts";

/** All of a key that people choose. */
export interface NewKey extends KeyCaps {
  readonly name: string;
  readonly rateLimitPerMin?: number;
  readonly tokensPerMin?: number;
  readonly maxConcurrentRequests?: number;
  readonly rescue?: RescueMode;
  readonly allowedModels?: readonly string[];
  readonly allowedProviders?: readonly string[];
  readonly allowedIps?: readonly string[];
  readonly metadata?: Readonly<Record<string, string>>;
  readonly signingRequired?: true;
  readonly expiresAtMs?: number;
}

/** What was chosen, as the table has it. */
export const columnsOf = (wanted: NewKey) => ({
  name: wanted.name,
  soft_cap_nano_usd: wanted.softCap ?? null,
  hard_cap_nano_usd: wanted.hardCap ?? null,
  week_soft_cap_nano_usd: wanted.week?.softCap ?? null,
  week_hard_cap_nano_usd: wanted.week?.hardCap ?? null,
  month_soft_cap_nano_usd: wanted.month?.softCap ?? null,
  month_hard_cap_nano_usd: wanted.month?.hardCap ?? null,
  rate_limit_per_min: wanted.rateLimitPerMin ?? null,
  tokens_per_min: wanted.tokensPerMin ?? null,
  max_concurrent_requests: wanted.maxConcurrentRequests ?? null,
  rescue: wanted.rescue ?? null,
  allowed_models: jsonOrNull(wanted.allowedModels),
  allowed_providers: jsonOrNull(wanted.allowedProviders),
  allowed_ips: jsonOrNull(wanted.allowedIps),
  metadata: jsonOrNull(wanted.metadata),
  signing_required: wanted.signingRequired === true ? 1 : 0,
  expires_at_ms: wanted.expiresAtMs ?? null,
});

const jsonOrNull = (value: unknown): string | null => (value === undefined ? null : JSON.stringify(value));

/** For every change of a key or of one of its secrets, by whoever holds the table's lock. */
export const nextRevision = sql<bigint>`(select coalesce(max(revision), 0) + 1 from api_keys)`;

/** A new key. */
export const insertKey = (
  transaction: Transaction<Schema>,
  values: Omit<Insertable<ApiKeysTable>, "status" | "revision">,
): Promise<ApiKeyRow> =>
  transaction
    .insertInto("api_keys")
    .values({ ...values, status: "active", revision: nextRevision })
    .returningAll()
    .executeTakeFirstOrThrow();

/** A new secret of a key; the only place where one is written down, as its hash. */
export async function insertSecret(transaction: Transaction<Schema>, keyId: string, nowMs: number): Promise<Secret> {
  const secret = newSecret();
  await transaction
    .insertInto("api_key_secrets")
    .values({ secret_hash: hashSecret(secret), key_id: keyId, prefix: secretPrefix(secret), created_at_ms: nowMs })
    .execute();
  return secret;
}
