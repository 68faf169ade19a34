import type { Transaction } from "kysely";
import { BrikkError } from "../errors.ts";
import { DAY_MS } from "../lib/clock.ts";
import type { Schema } from "../storage/schema.ts";
import { type ApiKey, apiKeyFrom, keyStatusAt } from "./api-key.ts";
import { keyExpired, keyRevoked, secretEnded } from "./key-refusals.ts";
import { insertSecret, nextRevision } from "./key-rows.ts";
import { hashSecret, type Secret, secretPrefix } from "./secret.ts";

/**
 * A rotation gives a key another secret; what hangs on the key (budgets, usage, limits) knows nothing of it.
 *
 * At most two secrets of a key are accepted: the newest, which has no end, and the one it replaced, until its grace is over. A
 * further rotation ends the older one at once. Only the newest can be replaced: a secret that was replaced before must not get
 * itself a successor, or whoever found it would keep the key beyond its grace. So of rotations that come together one is done, and
 * what it answered with is accepted; the others are refused.
 */
export interface RotationWish {
  /** How long the replaced secret is still accepted; 0: not at all. */
  readonly graceMs: number;
  /** What the request came with, when the key's holder asks for it. Absent: whichever is the newest. */
  readonly replaces?: Secret;
}

/** Long enough to bring a new secret to wherever the old one is used. */
export const LONGEST_GRACE_MS = 7 * DAY_MS;

/** What a rotation is remembered by. */
export interface RotationAnswer {
  readonly secret: string;
  readonly oldKeyPrefix: string;
  readonly newKeyPrefix: string;
  readonly replacedHash: string;
  readonly rotatedAtMs: number;
  readonly oldValidUntilMs: number;
}

/**
 * How long after a rotation a replaced secret that has ended may still fetch that rotation's answer, with its Idempotency-Key: the
 * answer may have been lost, and with it the only secret that is accepted.
 */
export const REPEATABLE_FOR_MS = 10 * 60_000;

/** Of secrets that ended, so that a key that is rotated for ever does not fill the memory of every instance. */
const KEPT_ENDED_SECRETS = 10;

export interface SecretRow {
  readonly secret_hash: string;
  readonly prefix: string;
  readonly created_at_ms: bigint;
  readonly not_after_ms: bigint | null;
}

/** One that is not there any more has ended too. */
export const isEnded = (secret: SecretRow | undefined, nowMs: number): boolean =>
  secret === undefined || (secret.not_after_ms !== null && secret.not_after_ms <= nowMs);

/** Throws the coded errors key_revoked and key_expired for who holds the key, and invalid_request for an administrator. */
export function refuseUnlessInForce(key: ApiKey, nowMs: number, replaces: Secret | undefined): void {
  const status = keyStatusAt(key, nowMs);
  if (status === "active") return;
  if (replaces === undefined)
    throw new BrikkError(
      "invalid_request",
      `The key ${key.id} ${status === "revoked" ? "was revoked" : "has expired"} and gets no new secret. Make a new key.`,
    );
  const refused = { prefix: secretPrefix(replaces), keyId: key.id };
  throw status === "revoked" ? keyRevoked(refused) : keyExpired(refused, key.expiresAtMs);
}

/**
 * Replaces the key's newest secret, in a transaction that holds the lock of `api_keys`. Throws key_expired when the secret to be
 * replaced has ended, secret_replaced when it is in its grace.
 */
export async function replaceSecret(
  transaction: Transaction<Schema>,
  key: ApiKey,
  { graceMs, replaces }: RotationWish,
  nowMs: number,
): Promise<{ readonly answer: RotationAnswer; readonly key: ApiKey }> {
  const secrets = await secretsOf(transaction, key.id);
  const newest = secrets.find(({ not_after_ms: notAfterMs }) => notAfterMs === null);
  if (newest === undefined)
    throw new BrikkError("invalid_request", `The key ${key.id} has no secret that could be replaced.`);
  if (replaces !== undefined && hashSecret(replaces) !== newest.secret_hash)
    throw notTheNewest(secrets, key, replaces, nowMs);

  const oldValidUntilMs = Math.min(nowMs + graceMs, key.expiresAtMs ?? Number.POSITIVE_INFINITY);
  await transaction
    .updateTable("api_key_secrets")
    .set({ not_after_ms: nowMs })
    .where("key_id", "=", key.id)
    .where("not_after_ms", ">", BigInt(nowMs))
    .execute();
  await transaction
    .updateTable("api_key_secrets")
    .set({ not_after_ms: oldValidUntilMs })
    .where("secret_hash", "=", newest.secret_hash)
    .execute();
  const tooMany = secrets.filter((secret) => secret !== newest).slice(0, -KEPT_ENDED_SECRETS);
  for (const { secret_hash: hash } of tooMany)
    await transaction.deleteFrom("api_key_secrets").where("secret_hash", "=", hash).execute();
  const secret = await insertSecret(transaction, key.id, nowMs);
  const row = await transaction
    .updateTable("api_keys")
    .set({ revision: nextRevision })
    .where("id", "=", key.id)
    .returningAll()
    .executeTakeFirstOrThrow();
  return {
    answer: {
      secret,
      oldKeyPrefix: newest.prefix,
      newKeyPrefix: secretPrefix(secret),
      replacedHash: newest.secret_hash,
      rotatedAtMs: nowMs,
      oldValidUntilMs,
    },
    key: apiKeyFrom(row),
  };
}

/**
 * Whether a repeat may have a rotation's answer: who sends the secret that was replaced, or the one that replaced it. A secret
 * that has ended gets it only if it is the replaced one, and only for a while.
 */
export function mayRepeat(answer: RotationAnswer, presented: SecretRow | undefined, nowMs: number): boolean {
  if (presented === undefined) return false;
  const { secret_hash: hash } = presented;
  if (isEnded(presented, nowMs)) return hash === answer.replacedHash && nowMs < answer.rotatedAtMs + REPEATABLE_FOR_MS;
  return hash === answer.replacedHash || hash === hashSecret(answer.secret as Secret);
}

/** What to say to who sends a secret that is not the key's newest. */
export function notTheNewest(secrets: readonly SecretRow[], key: ApiKey, presented: Secret, nowMs: number): BrikkError {
  const prefix = secretPrefix(presented);
  const known = secrets.find(({ secret_hash: hash }) => hash === hashSecret(presented));
  if (known === undefined || isEnded(known, nowMs))
    return secretEnded({ prefix, keyId: key.id }, known && Number(known.not_after_ms));
  return new BrikkError(
    "secret_replaced",
    `The API key ${prefix}... (${key.id}) was already replaced and ends on ${new Date(Number(known.not_after_ms)).toISOString()}. ` +
      "Only the newest secret of a key can rotate it. To get the answer of a rotation again, repeat it with its Idempotency-Key.",
  );
}

/** Oldest first; the newest is the one without an end. */
export async function secretsOf(transaction: Transaction<Schema>, keyId: string): Promise<readonly SecretRow[]> {
  return transaction
    .selectFrom("api_key_secrets")
    .select(["secret_hash", "prefix", "created_at_ms", "not_after_ms"])
    .where("key_id", "=", keyId)
    .orderBy("created_at_ms")
    .orderBy("not_after_ms", (order) => order.asc().nullsLast())
    .execute();
}
