import type { Transaction } from "kysely";
import { type Actor, SYSTEM } from "../audit/actor.ts";
import { type AuditTrail, NO_AUDIT_TRAIL } from "../audit/audit-trail.ts";
import { BrikkError } from "../errors.ts";
import type { Clock } from "../lib/clock.ts";
import { reach } from "../lib/fault-point.ts";
import { newKeyId } from "../lib/ids.ts";
import type { Database } from "../storage/database.ts";
import { lockTable } from "../storage/lock-table.ts";
import type { Schema } from "../storage/schema.ts";
import { ANONYMOUS_KEY_ID, type ApiKey, type ApiKeyRow, apiKeyFrom } from "./api-key.ts";
import { auditedKey } from "./audited-key.ts";
import { doOnce, type Idempotency, type IdempotentAnswer, idempotencyKeyReused, type Once } from "./idempotency.ts";
import { findListed, type KeyPage, type ListedKey, listKeys, type WantedKeys } from "./key-list.ts";
import { columnsOf, insertKey, insertSecret, type NewKey, nextRevision } from "./key-rows.ts";
import {
  isEnded,
  mayRepeat,
  notTheNewest,
  refuseUnlessInForce,
  replaceSecret,
  type RotationAnswer,
  type RotationWish,
  secretsOf,
} from "./rotate-key.ts";
import { hashSecret, type Secret } from "./secret.ts";
import { countSelfService, type SelfServiceLimits, type SelfServiceRefusal } from "./self-service-limits.ts";
import { newSigningSecret } from "./signing-secret.ts";
import type { Vault } from "./vault.ts";
import { signingSecretPurpose } from "./vault-purposes.ts";

export type { Idempotency } from "./idempotency.ts";
export type { NewKey } from "./key-rows.ts";
export type { RotationWish } from "./rotate-key.ts";

export interface CreatedKey {
  readonly key: ApiKey;
  /** Not stored anywhere but sealed for a repeat: to be shown once, to the person who asked. */
  readonly secret: Secret;
  /** What requests are to be signed with, where the key asks for that; to be shown once as well. */
  readonly signingSecret?: string;
  /** It was made before, by a request with the same Idempotency-Key, and is shown as it was then. */
  readonly replayed: boolean;
}

export interface Revocation {
  readonly key: ApiKey;
  /** False when the key had been revoked before; it keeps its first moment. */
  readonly changed: boolean;
}

export interface Rotation {
  readonly key: ApiKey;
  /** To be shown once. */
  readonly secret: Secret;
  readonly oldKeyPrefix: string;
  readonly rotatedAtMs: number;
  /** The first moment at which the old secret is no longer accepted. */
  readonly oldValidUntilMs: number;
  readonly replayed: boolean;
}

export type SelfServiceKey = (CreatedKey & { readonly kind: "created" }) | SelfServiceRefusal;

/**
 * Keys at rest: the cold side, for people and admins. Every change raises the table's highest revision by one, which is how
 * key rings in this and other processes see it. Writers take turns, so that a revision is seen only after all below it; a
 * ring that asks for what is higher misses none. What somebody changed is put on record in the transaction of the change; `by`
 * says who. Throws what the database throws, and of coded errors those that are named.
 */
export interface KeyStore {
  /** With `idempotency` it may be repeated for 24 hours: idempotency_key_reused when something else was asked for then. */
  create(wanted: NewKey, by?: Actor, idempotency?: Idempotency): Promise<CreatedKey>;
  /** A key that a caller makes itself, if so many are not there yet. */
  createSelfService(wanted: NewKey, limits: SelfServiceLimits, by: Actor): Promise<SelfServiceKey>;
  find(keyId: string): Promise<ListedKey | undefined>;
  /** Oldest first, a page at a time. */
  list(wanted: WantedKeys): Promise<KeyPage>;
  /**
   * Replaces what was chosen for a key by what `revise` makes of its newest state; gives the key as it then is. What `revise`
   * throws is passed on with nothing changed. Throws version_conflict when the key's revision is not the expected one.
   * Undefined when there is no key of that id.
   */
  update(
    keyId: string,
    revise: (key: ApiKey) => NewKey,
    by?: Actor,
    expectedRevision?: number,
  ): Promise<ApiKey | undefined>;
  /** Undefined when there is no key of that id. */
  revoke(keyId: string, by?: Actor): Promise<Revocation | undefined>;
  /**
   * Gives a key a new secret; rotate-key.ts says what becomes of the others and when it is refused. With `idempotency` it may be
   * repeated as `create` may. Undefined when there is no key of that id.
   */
  rotate(keyId: string, wish: RotationWish, by?: Actor, idempotency?: Idempotency): Promise<Rotation | undefined>;
  /**
   * The new secret to sign requests with, to be shown once; the old one ends at once. Works before signing is asked for, so that
   * callers can be given it first. Undefined when there is no key of that id; invalid_request when it was revoked.
   */
  renewSigningSecret(keyId: string, by?: Actor): Promise<string | undefined>;
  /** The key that callers without one share; made on first use. Has no secret, so nobody can present it. */
  ensureAnonymousKey(): Promise<ApiKey>;
}

export function createKeyStore(options: {
  readonly database: Database;
  readonly clock: Clock;
  /** For signing secrets and answers to be repeated; without it there are neither. */
  readonly vault?: Vault;
  readonly audit?: AuditTrail;
  /** Waited for after a change is durable, so that a key ring in this process knows of it when the change is answered. */
  readonly onChange?: () => Promise<void>;
}): KeyStore {
  const { database, clock, audit = NO_AUDIT_TRAIL, onChange } = options;
  const { query } = database;

  const underLock = <T>(write: (transaction: Transaction<Schema>) => Promise<T>): Promise<T> =>
    query.transaction().execute(async (transaction) => {
      await lockTable(transaction, database.dialect, "api_keys");
      return write(transaction);
    });

  const vault = (): Vault => {
    if (options.vault === undefined) throw new Error("This key store was made without a vault.");
    return options.vault;
  };

  const rowOf = (transaction: Transaction<Schema>, keyId: string): Promise<ApiKeyRow | undefined> =>
    transaction.selectFrom("api_keys").selectAll().where("id", "=", keyId).executeTakeFirst();

  async function insert(
    transaction: Transaction<Schema>,
    wanted: NewKey,
    by: Actor,
    origin: { readonly created_from?: string } = {},
  ): Promise<CreatedAnswer> {
    const nowMs = clock.now();
    const id = newKeyId();
    const signingSecret = wanted.signingRequired ? newSigningSecret() : null;
    const row = await insertKey(transaction, {
      id,
      ...columnsOf(wanted),
      signing_secret: signingSecret === null ? null : vault().seal(signingSecret, signingSecretPurpose(id)),
      ...(origin.created_from !== undefined && { origin: "self_service", created_from: origin.created_from }),
      created_at_ms: nowMs,
    });
    const secret = await insertSecret(transaction, id, nowMs);
    await audit.recordIn(transaction, {
      actor: by,
      action: "key.create",
      target: id,
      after: auditedKey(apiKeyFrom(row)),
    });
    return { ...row, secret, plain_signing_secret: signingSecret };
  }

  /** With an idempotency key or without. */
  async function once<Answer extends IdempotentAnswer<Answer>>(
    transaction: Transaction<Schema>,
    idempotency: Idempotency | undefined,
    act: () => Promise<Answer>,
  ): Promise<Once<Answer>> {
    if (idempotency === undefined) return { kind: "answered", answer: await act(), replayed: false };
    return doOnce(transaction, { vault: vault(), nowMs: clock.now() }, idempotency, act);
  }

  return {
    async create(wanted, by = SYSTEM, idempotency) {
      const made = await underLock((transaction) =>
        once(transaction, idempotency, () => insert(transaction, wanted, by)),
      );
      if (made.kind === "reused") throw idempotencyKeyReused();
      await onChange?.();
      return createdKey(made.answer, made.replayed);
    },

    async createSelfService(wanted, limits, by) {
      const made = await underLock(async (transaction): Promise<SelfServiceKey> => {
        const refusal = await countSelfService(transaction, limits, clock.now());
        if (refusal !== undefined) return refusal;
        const answer = await insert(transaction, wanted, by, { created_from: limits.createdFrom });
        return { kind: "created", ...createdKey(answer, false) };
      });
      if (made.kind === "created") await onChange?.();
      return made;
    },

    find: (keyId) => findListed(query, keyId, clock.now()),
    list: (wanted) => listKeys(query, wanted, clock.now()),

    async update(keyId, revise, by = SYSTEM, expectedRevision) {
      const updated = await underLock(async (transaction) => {
        const row = await rowOf(transaction, keyId);
        if (row === undefined) return undefined;
        const before = apiKeyFrom(row);
        if (expectedRevision !== undefined && before.revision !== expectedRevision)
          throw new BrikkError(
            "version_conflict",
            `The key ${keyId} was changed meanwhile: it is at version ${before.revision}, your change was made on ${expectedRevision}. Read it again and repeat the change on what it is now.`,
            { param: "If-Match", details: { expected: expectedRevision, current: before.revision } },
          );
        const after = apiKeyFrom(
          await transaction
            .updateTable("api_keys")
            .set({ ...columnsOf(revise(before)), revision: nextRevision })
            .where("id", "=", keyId)
            .returningAll()
            .executeTakeFirstOrThrow(),
        );
        await audit.recordIn(transaction, {
          actor: by,
          action: "key.update",
          target: keyId,
          before: auditedKey(before),
          after: auditedKey(after),
        });
        return after;
      });
      if (updated !== undefined) await onChange?.();
      return updated;
    },

    async revoke(keyId, by = SYSTEM) {
      const revocation = await underLock(async (transaction): Promise<Revocation | undefined> => {
        const row = await rowOf(transaction, keyId);
        if (row === undefined) return undefined;
        const before = apiKeyFrom(row);
        if (before.state.kind === "revoked") return { key: before, changed: false };
        const key = apiKeyFrom(
          await transaction
            .updateTable("api_keys")
            .set({ status: "revoked", revoked_at_ms: clock.now(), revision: nextRevision })
            .where("id", "=", keyId)
            .returningAll()
            .executeTakeFirstOrThrow(),
        );
        await audit.recordIn(transaction, {
          actor: by,
          action: "key.revoke",
          target: keyId,
          before: auditedKey(before),
          after: auditedKey(key),
        });
        return { key, changed: true };
      });
      if (revocation?.changed) await onChange?.();
      return revocation;
    },

    async rotate(keyId, wish, by = SYSTEM, idempotency) {
      const { replaces } = wish;
      const rotation = await underLock(async (transaction): Promise<Rotation | undefined> => {
        const row = await rowOf(transaction, keyId);
        if (row === undefined) return undefined;
        const before = apiKeyFrom(row);
        const nowMs = clock.now();
        if (replaces !== undefined) refuseUnlessInForce(before, nowMs, replaces);
        const secrets = await secretsOf(transaction, keyId);
        const presented =
          replaces && secrets.find(({ secret_hash: secretHash }) => secretHash === hashSecret(replaces));

        let key = before;
        const rotated = await once<RotationAnswer>(transaction, idempotency, async () => {
          refuseUnlessInForce(before, nowMs, replaces);
          const replaced = await replaceSecret(transaction, before, wish, nowMs);
          key = replaced.key;
          await audit.recordIn(transaction, {
            actor: by,
            action: "key.rotate",
            target: keyId,
            before: { secret_prefix: replaced.answer.oldKeyPrefix },
            after: {
              secret_prefix: replaced.answer.newKeyPrefix,
              old_valid_until: new Date(replaced.answer.oldValidUntilMs).toISOString(),
            },
          });
          return replaced.answer;
        });
        const mistaken =
          rotated.kind === "reused" ||
          (rotated.replayed && replaces !== undefined && !mayRepeat(rotated.answer, presented, nowMs));
        if (mistaken) {
          if (replaces !== undefined && isEnded(presented, nowMs)) throw notTheNewest(secrets, before, replaces, nowMs);
          throw idempotencyKeyReused();
        }
        const { secret, oldKeyPrefix, rotatedAtMs, oldValidUntilMs } = rotated.answer;
        return {
          key,
          secret: secret as Secret,
          oldKeyPrefix,
          rotatedAtMs,
          oldValidUntilMs,
          replayed: rotated.replayed,
        };
      });
      reach("rotated");
      if (rotation !== undefined) await onChange?.();
      return rotation;
    },

    async renewSigningSecret(keyId, by = SYSTEM) {
      const renewed = await underLock(async (transaction) => {
        const row = await rowOf(transaction, keyId);
        if (row === undefined) return undefined;
        if (row.status === "revoked")
          throw new BrikkError("invalid_request", `The key ${keyId} was revoked for good; make a new one.`);
        const signingSecret = newSigningSecret();
        await transaction
          .updateTable("api_keys")
          .set({ signing_secret: vault().seal(signingSecret, signingSecretPurpose(keyId)), revision: nextRevision })
          .where("id", "=", keyId)
          .execute();
        await audit.recordIn(transaction, { actor: by, action: "key.renew_signing_secret", target: keyId });
        return signingSecret;
      });
      if (renewed !== undefined) await onChange?.();
      return renewed;
    },

    async ensureAnonymousKey() {
      const known = await query
        .selectFrom("api_keys")
        .selectAll()
        .where("id", "=", ANONYMOUS_KEY_ID)
        .executeTakeFirst();
      if (known !== undefined) return apiKeyFrom(known);
      const { row, made } = await underLock(async (transaction) => {
        const there = await rowOf(transaction, ANONYMOUS_KEY_ID);
        if (there !== undefined) return { row: there, made: false };
        const values = { id: ANONYMOUS_KEY_ID, name: "anonymous", created_at_ms: clock.now() };
        return { row: await insertKey(transaction, values), made: true };
      });
      if (made) await onChange?.();
      return apiKeyFrom(row);
    },
  };
}

type CreatedAnswer = ApiKeyRow & { readonly secret: string; readonly plain_signing_secret: string | null };

const createdKey = (
  { secret, plain_signing_secret: signingSecret, ...row }: CreatedAnswer,
  replayed: boolean,
): CreatedKey => ({
  key: apiKeyFrom(row),
  secret: secret as Secret,
  ...(signingSecret !== null && { signingSecret }),
  replayed,
});
