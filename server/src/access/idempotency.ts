import { hash } from "node:crypto";
import type { Transaction } from "kysely";
import { BrikkError } from "../errors.ts";
import { DAY_MS } from "../lib/clock.ts";
import type { Schema } from "../storage/schema.ts";
import type { Vault } from "./vault.ts";
import { idempotentAnswerPurpose } from "./vault-purposes.ts";

/** What makes a repeated request known as such (draft-ietf-httpapi-idempotency-key-header-07). */
export interface Idempotency {
  /** Whose idempotency keys these are: a key's id, or "admin". */
  readonly scope: string;
  /** As the caller sent it. */
  readonly key: string;
  /** Of all that the request asks for, so that another request under the same key is told from a repeat. */
  readonly requestHash: string;
}

const ANSWER_KEPT_MS = DAY_MS;

/** Single values as a database gives and takes them, and texts: what survives being written down. */
export type IdempotentAnswer<Answer> = { readonly [Name in keyof Answer]: string | number | bigint | null };

export type Once<Answer> =
  /** Replayed: the act was done before, and this is the answer that it got. */
  | { readonly kind: "answered"; readonly answer: Answer; readonly replayed: boolean }
  /** The idempotency key came before, with another request; nothing was done. */
  | { readonly kind: "reused" };

/**
 * Does an act once for each idempotency key, and gives a repeat the answer that the act got. The answer is written down in the
 * act's own transaction, sealed, since it may hold a secret: a process that dies leaves both or neither. The transaction must
 * hold the lock of a table that all such acts take, so that of two at once the second waits, and then finds the first one's
 * answer. An answer is kept for 24 hours.
 */
export async function doOnce<Answer extends IdempotentAnswer<Answer>>(
  transaction: Transaction<Schema>,
  { vault, nowMs }: { readonly vault: Vault; readonly nowMs: number },
  idempotency: Idempotency,
  act: () => Promise<Answer>,
): Promise<Once<Answer>> {
  const { scope, requestHash } = idempotency;
  const keyHash = hash("sha256", idempotency.key, "hex");
  const purpose = idempotentAnswerPurpose(scope, keyHash);
  await transaction
    .deleteFrom("idempotent_answers")
    .where("created_at_ms", "<=", BigInt(nowMs - ANSWER_KEPT_MS))
    .execute();
  const known = await transaction
    .selectFrom("idempotent_answers")
    .select(["request_hash", "sealed_answer"])
    .where("scope", "=", scope)
    .where("idempotency_key_hash", "=", keyHash)
    .executeTakeFirst();
  if (known !== undefined) {
    if (known.request_hash !== requestHash) return { kind: "reused" };
    const answer = readAnswer(vault.open(known.sealed_answer, purpose)) as Answer;
    return { kind: "answered", answer, replayed: true };
  }
  const answer = await act();
  await transaction
    .insertInto("idempotent_answers")
    .values({
      scope,
      idempotency_key_hash: keyHash,
      request_hash: requestHash,
      sealed_answer: vault.seal(writeAnswer(answer), purpose),
      created_at_ms: nowMs,
    })
    .execute();
  return { kind: "answered", answer, replayed: false };
}

export const idempotencyKeyReused = (): BrikkError =>
  new BrikkError(
    "idempotency_key_reused",
    "This Idempotency-Key was sent before, with another request. A repeat is the same request; a new one needs a key of its own.",
    { param: "Idempotency-Key" },
  );

/** JSON has no bigints; nothing else in an answer is an object. */
const writeAnswer = (answer: object): string =>
  JSON.stringify(answer, (_, value: unknown) => (typeof value === "bigint" ? { bigint: String(value) } : value));

const readAnswer = (text: string): unknown =>
  JSON.parse(text, (_, value: unknown) =>
    typeof value === "object" && value !== null && "bigint" in value ? BigInt(value.bigint as string) : value,
  );
