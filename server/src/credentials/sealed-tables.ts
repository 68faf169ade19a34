import { sql, type Kysely } from "kysely";
import { idempotentAnswerPurpose, providerCredentialPurpose, signingSecretPurpose } from "../access/vault-purposes.ts";
import type { Schema } from "../storage/schema.ts";

/** Everything that is stored sealed. A column that is added to the schema and sealed has its place here, or it is lost with its key. */
export interface SealedEntry {
  readonly kind: "signing secret" | "provider credential" | "idempotent answer";
  /** Whose it is: a key's id, a provider's name, the scope of an Idempotency-Key. */
  readonly of: string;
  readonly sealed: string;
  readonly purpose: string;
  /** Its place in the table's order. */
  readonly position: readonly [string, string?];
}

export interface SealedTable {
  readonly name: keyof Schema;
  /** The first `limit` behind a position. */
  page(query: Kysely<Schema>, after: SealedEntry["position"] | undefined, limit: number): Promise<SealedEntry[]>;
  /** Puts another text in the entry's place, in a way that running servers notice. */
  replace(query: Kysely<Schema>, entry: SealedEntry, sealed: string): Promise<void>;
}

const signingSecrets: SealedTable = {
  name: "api_keys",
  async page(query, after, limit) {
    const rows = await query
      .selectFrom("api_keys")
      .select(["id", "signing_secret as sealed"])
      .$narrowType<{ sealed: string }>()
      .where("signing_secret", "is not", null)
      .$if(after !== undefined, (select) => select.where("id", ">", after![0]))
      .orderBy("id")
      .limit(limit)
      .execute();
    return rows.map(({ id, sealed }) => ({
      kind: "signing secret",
      of: id,
      sealed,
      purpose: signingSecretPurpose(id),
      position: [id],
    }));
  },
  async replace(query, { of }, sealed) {
    await query
      .updateTable("api_keys")
      .set({ signing_secret: sealed, revision: sql<bigint>`(select max(revision) + 1 from api_keys)` })
      .where("id", "=", of)
      .execute();
  },
};

const providerCredentials: SealedTable = {
  name: "provider_credentials",
  async page(query, after, limit) {
    const rows = await query
      .selectFrom("provider_credentials")
      .select(["provider", "sealed"])
      .$narrowType<{ sealed: string }>()
      .where("sealed", "is not", null)
      .$if(after !== undefined, (select) => select.where("provider", ">", after![0]))
      .orderBy("provider")
      .limit(limit)
      .execute();
    return rows.map(({ provider, sealed }) => ({
      kind: "provider credential",
      of: provider,
      sealed,
      purpose: providerCredentialPurpose(provider),
      position: [provider],
    }));
  },
  async replace(query, { of }, sealed) {
    await query
      .updateTable("provider_credentials")
      .set({ sealed, revision: sql<bigint>`(select max(revision) + 1 from provider_credentials)` })
      .where("provider", "=", of)
      .execute();
  },
};

const idempotentAnswers: SealedTable = {
  name: "idempotent_answers",
  async page(query, after, limit) {
    const rows = await query
      .selectFrom("idempotent_answers")
      .select(["scope", "idempotency_key_hash as hash", "sealed_answer as sealed"])
      .$if(after !== undefined, (select) =>
        select.where((where) =>
          where(where.refTuple("scope", "idempotency_key_hash"), ">", where.tuple(after![0], after![1] ?? "")),
        ),
      )
      .orderBy("scope")
      .orderBy("idempotency_key_hash")
      .limit(limit)
      .execute();
    return rows.map(({ scope, hash, sealed }) => ({
      kind: "idempotent answer",
      of: scope,
      sealed,
      purpose: idempotentAnswerPurpose(scope, hash),
      position: [scope, hash],
    }));
  },
  async replace(query, { position: [scope, hash = ""] }, sealed) {
    await query
      .updateTable("idempotent_answers")
      .set({ sealed_answer: sealed })
      .where("scope", "=", scope)
      .where("idempotency_key_hash", "=", hash)
      .execute();
  },
};

/** What works for as long as nobody takes it away. */
export const lastingSecrets: readonly SealedTable[] = [signingSecrets, providerCredentials];

export const sealedTables: readonly SealedTable[] = [...lastingSecrets, idempotentAnswers];
