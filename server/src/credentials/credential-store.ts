import { sql, type Transaction } from "kysely";
import type { Vault } from "../access/vault.ts";
import { providerCredentialPurpose } from "../access/vault-purposes.ts";
import { type Actor, SYSTEM } from "../audit/actor.ts";
import { type AuditTrail, NO_AUDIT_TRAIL } from "../audit/audit-trail.ts";
import { BrikkError } from "../errors.ts";
import type { Clock } from "../lib/clock.ts";
import type { Database } from "../storage/database.ts";
import { lockTable } from "../storage/lock-table.ts";
import type { ProviderCredentialsTable, Schema } from "../storage/schema.ts";

/** What may be told of a stored credential. */
export interface StoredCredential {
  readonly provider: string;
  /** The last characters; undefined for one that is too short to tell any. */
  readonly hint: string | undefined;
  /** Another one after every change. */
  readonly revision: number;
  readonly createdAtMs: number;
  readonly updatedAtMs: number;
}

/** What whoever changes a credential takes to be there: that revision, any, none, or does not care. */
export type Expectation = number | "some" | "none" | "whatever";

/**
 * Credentials of providers at rest: sealed, each for its own provider. Every change raises the table's highest revision, which is
 * how credential rings in this and other processes see it; one that was removed leaves its row for that. Throws what the
 * database throws, and version_conflict or precondition_required when something else is there than was expected.
 */
export interface CredentialStore {
  /** In the order of their providers' names. */
  list(): Promise<readonly StoredCredential[]>;
  save(provider: string, credential: string, expected: Expectation, by?: Actor): Promise<StoredCredential>;
  /** What it was; undefined when none was stored, and none or whatever was expected. */
  remove(provider: string, expected: Expectation, by?: Actor): Promise<StoredCredential | undefined>;
}

const HINT_LENGTH = 4;
/** Of a shorter one the hint would be too large a part. */
const LEAST_WITH_HINT = 20;

const nextRevision = sql<bigint>`(select coalesce(max(revision), 0) + 1 from provider_credentials)`;

export function createCredentialStore(options: {
  readonly database: Database;
  readonly clock: Clock;
  readonly vault: Vault;
  readonly audit?: AuditTrail;
}): CredentialStore {
  const { database, clock, vault, audit = NO_AUDIT_TRAIL } = options;
  const { query } = database;

  /** With what is stored now, and after it was seen to be what was expected. */
  const change = <T>(
    provider: string,
    expected: Expectation,
    write: (transaction: Transaction<Schema>, stored: StoredCredential | undefined) => Promise<T>,
  ): Promise<T> =>
    query.transaction().execute(async (transaction) => {
      await lockTable(transaction, database.dialect, "provider_credentials");
      const row = await transaction
        .selectFrom("provider_credentials")
        .selectAll()
        .where("provider", "=", provider)
        .where("sealed", "is not", null)
        .executeTakeFirst();
      const stored = row && storedFrom(row);
      checkExpected(provider, expected, stored);
      return write(transaction, stored);
    });

  return {
    async list() {
      const rows = await query
        .selectFrom("provider_credentials")
        .selectAll()
        .where("sealed", "is not", null)
        .orderBy("provider")
        .execute();
      return rows.map(storedFrom);
    },

    save: (provider, credential, expected, by = SYSTEM) =>
      change(provider, expected, async (transaction, before) => {
        const nowMs = clock.now();
        const values = {
          sealed: vault.seal(credential, providerCredentialPurpose(provider)),
          hint: hintOf(credential) ?? null,
          revision: nextRevision,
          created_at_ms: before?.createdAtMs ?? nowMs,
          updated_at_ms: nowMs,
        };
        const row = await transaction
          .insertInto("provider_credentials")
          .values({ provider, ...values })
          .onConflict((conflict) => conflict.column("provider").doUpdateSet(values))
          .returningAll()
          .executeTakeFirstOrThrow();
        const stored = storedFrom(row);
        await audit.recordIn(transaction, {
          actor: by,
          action: "provider_credential.save",
          target: provider,
          ...(before && { before: credentialFields(before) }),
          after: credentialFields(stored),
        });
        return stored;
      }),

    remove: (provider, expected, by = SYSTEM) =>
      change(provider, expected, async (transaction, before) => {
        if (before === undefined) return undefined;
        await transaction
          .updateTable("provider_credentials")
          .set({ sealed: null, hint: null, revision: nextRevision, updated_at_ms: clock.now() })
          .where("provider", "=", provider)
          .execute();
        await audit.recordIn(transaction, {
          actor: by,
          action: "provider_credential.remove",
          target: provider,
          before: credentialFields(before),
        });
        return before;
      }),
  };
}

/** As JSON shows it. */
export const credentialFields = (stored: StoredCredential) => ({
  hint: stored.hint ?? null,
  revision: stored.revision,
  created_at: new Date(stored.createdAtMs).toISOString(),
  updated_at: new Date(stored.updatedAtMs).toISOString(),
});

function checkExpected(provider: string, expected: Expectation, stored: StoredCredential | undefined): void {
  if (expected === "whatever") return;
  const details = { provider, revision: stored?.revision ?? null };
  if (expected === "none") {
    if (stored === undefined) return;
    throw new BrikkError(
      "precondition_required",
      `A credential of ${provider} is stored already. To change or remove it, send its revision: If-Match: "${stored.revision}".`,
      { details },
    );
  }
  if (stored !== undefined && (expected === "some" || expected === stored.revision)) return;
  throw new BrikkError(
    "version_conflict",
    stored === undefined
      ? `No credential of ${provider} is stored any more; somebody else removed it, or it never was.`
      : `Somebody else changed the credential of ${provider} meanwhile; its revision is ${stored.revision} now.`,
    { details },
  );
}

const hintOf = (credential: string): string | undefined =>
  credential.length < LEAST_WITH_HINT ? undefined : credential.slice(-HINT_LENGTH);

type Row = {
  readonly [Column in "created_at_ms" | "updated_at_ms" | "revision"]: bigint;
} & Pick<ProviderCredentialsTable, "provider"> & { readonly hint: string | null };

const storedFrom = (row: Row): StoredCredential => ({
  provider: row.provider,
  hint: row.hint ?? undefined,
  revision: Number(row.revision),
  createdAtMs: Number(row.created_at_ms),
  updatedAtMs: Number(row.updated_at_ms),
});
