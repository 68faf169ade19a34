import { sql, type Transaction } from "kysely";
import type { Clock } from "../lib/clock.ts";
import { newKeyId } from "../lib/ids.ts";
import type { Database } from "../storage/database.ts";
import { lockTable } from "../storage/lock-table.ts";
import type { Schema } from "../storage/schema.ts";
import { ANONYMOUS_KEY_ID, type ApiKey, apiKeyFrom, type RescueMode } from "./api-key.ts";
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

export interface CreatedKey {
  readonly key: ApiKey;
  /** Not stored anywhere: to be shown once, to the person who asked. */
  readonly secret: Secret;
}

export interface ListedKey {
  readonly key: ApiKey;
  /** The first characters of each of its secrets, oldest first; none for the anonymous key. */
  readonly secretPrefixes: readonly string[];
}

export interface Revocation {
  readonly key: ApiKey;
  /** False when the key had been revoked before; it keeps its first moment. */
  readonly changed: boolean;
}

/**
 * Keys at rest: the cold side, for people and admins. Every change raises the table's highest revision by one, which is how
 * key rings in this and other processes see it. Writers take turns, so that a revision is seen only after all below it; a
 * ring that asks for what is higher misses none. Throws what the database throws.
 */
export interface KeyStore {
  create(wanted: NewKey): Promise<CreatedKey>;
  /** All keys, oldest first. */
  list(): Promise<readonly ListedKey[]>;
  /**
   * Replaces what was chosen for a key by what `revise` makes of its newest state; gives the key as it then is. `revise` may be
   * called again when somebody else changes the key at the same time, and what it throws is passed on with nothing changed.
   * Undefined when there is no key of that id.
   */
  update(keyId: string, revise: (key: ApiKey) => NewKey): Promise<ApiKey | undefined>;
  /** Undefined when there is no key of that id. */
  revoke(keyId: string): Promise<Revocation | undefined>;
  /** The key that callers without one share; made on first use. Has no secret, so nobody can present it. */
  ensureAnonymousKey(): Promise<ApiKey>;
}

const columnsOf = (wanted: NewKey) => ({
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

const nextRevision = sql<bigint>`(select coalesce(max(revision), 0) + 1 from api_keys)`;

export function createKeyStore(options: {
  readonly database: Database;
  readonly clock: Clock;
  /** Called after a change is durable, so that a key ring in this process need not wait for its next poll. */
  readonly onChange?: () => void;
}): KeyStore {
  const { database, clock, onChange } = options;
  const { query } = database;
  const change = <T>(write: (transaction: Transaction<Schema>) => Promise<T>): Promise<T> =>
    query.transaction().execute(async (transaction) => {
      await lockTable(transaction, database.dialect, "api_keys");
      return write(transaction);
    });
  return {
    async create(wanted) {
      const secret = newSecret();
      const nowMs = clock.now();
      const row = await change(async (transaction) => {
        const inserted = await transaction
          .insertInto("api_keys")
          .values({
            id: newKeyId(),
            ...columnsOf(wanted),
            status: "active",
            created_at_ms: nowMs,
            revision: nextRevision,
          })
          .returningAll()
          .executeTakeFirstOrThrow();
        await transaction
          .insertInto("api_key_secrets")
          .values({
            secret_hash: hashSecret(secret),
            key_id: inserted.id,
            prefix: secretPrefix(secret),
            created_at_ms: nowMs,
          })
          .execute();
        return inserted;
      });
      onChange?.();
      return { key: apiKeyFrom(row), secret };
    },

    async list() {
      const rows = await query
        .selectFrom("api_keys")
        .leftJoin("api_key_secrets", "api_key_secrets.key_id", "api_keys.id")
        .selectAll("api_keys")
        .select("api_key_secrets.prefix")
        .orderBy("api_keys.created_at_ms")
        .orderBy("api_keys.id")
        .orderBy("api_key_secrets.created_at_ms")
        .execute();
      const listed = new Map<string, { key: ApiKey; secretPrefixes: string[] }>();
      for (const row of rows) {
        const entry = listed.get(row.id) ?? { key: apiKeyFrom(row), secretPrefixes: [] };
        if (row.prefix !== null) entry.secretPrefixes.push(row.prefix);
        listed.set(row.id, entry);
      }
      return [...listed.values()];
    },

    async update(keyId, revise) {
      const updated = await change(async (transaction) => {
        const row = await transaction.selectFrom("api_keys").selectAll().where("id", "=", keyId).executeTakeFirst();
        if (row === undefined) return undefined;
        return transaction
          .updateTable("api_keys")
          .set({ ...columnsOf(revise(apiKeyFrom(row))), revision: nextRevision })
          .where("id", "=", keyId)
          .returningAll()
          .executeTakeFirstOrThrow();
      });
      if (updated === undefined) return undefined;
      onChange?.();
      return apiKeyFrom(updated);
    },

    async revoke(keyId) {
      const revoked = await change((transaction) =>
        transaction
          .updateTable("api_keys")
          .set({ status: "revoked", revoked_at_ms: clock.now(), revision: nextRevision })
          .where("id", "=", keyId)
          .where("status", "=", "active")
          .returningAll()
          .executeTakeFirst(),
      );
      if (revoked !== undefined) {
        onChange?.();
        return { key: apiKeyFrom(revoked), changed: true };
      }
      const row = await query.selectFrom("api_keys").selectAll().where("id", "=", keyId).executeTakeFirst();
      return row === undefined ? undefined : { key: apiKeyFrom(row), changed: false };
    },

    async ensureAnonymousKey() {
      const inserted = await change((transaction) =>
        transaction
          .insertInto("api_keys")
          .values({
            id: ANONYMOUS_KEY_ID,
            name: "anonymous",
            status: "active",
            created_at_ms: clock.now(),
            revision: nextRevision,
          })
          .onConflict((conflict) => conflict.column("id").doNothing())
          .returningAll()
          .executeTakeFirst(),
      );
      if (inserted !== undefined) {
        onChange?.();
        return apiKeyFrom(inserted);
      }
      return apiKeyFrom(
        await query.selectFrom("api_keys").selectAll().where("id", "=", ANONYMOUS_KEY_ID).executeTakeFirstOrThrow(),
      );
    },
  };
}
