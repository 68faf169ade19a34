import { sql } from "kysely";
import type { Database } from "../storage/database.ts";
import { type ApiKey, type ApiKeyRow, apiKeyFrom, type KeyStatus } from "./api-key.ts";

export interface ListedKey {
  readonly key: ApiKey;
  /** Those that no rotation has ended, oldest first; none of the anonymous key. */
  readonly secrets: readonly ListedSecret[];
  readonly hasSigningSecret: boolean;
}

export interface ListedSecret {
  /** The first characters. */
  readonly prefix: string;
  readonly createdAtMs: number;
  /** The first moment at which it is no longer accepted; there while it is in its grace. */
  readonly notAfterMs?: number;
}

export interface WantedKeys {
  /** The `next` of the page before. */
  readonly after?: KeyPosition | undefined;
  readonly limit: number;
  readonly status?: KeyStatus | undefined;
  /** A part of the name, or the whole id, or the first characters of a secret. */
  readonly q?: string | undefined;
}

/** A place in the list of keys, which is by time of making and then by id. */
export interface KeyPosition {
  readonly createdAtMs: number;
  readonly id: string;
}

export interface KeyPage {
  readonly keys: readonly ListedKey[];
  /** Undefined at the end of the list. */
  readonly next: KeyPosition | undefined;
}

type Query = Database["query"];

/** Undefined when there is no key of that id. */
export async function findListed(query: Query, keyId: string, nowMs: number): Promise<ListedKey | undefined> {
  const row = await query.selectFrom("api_keys").selectAll().where("id", "=", keyId).executeTakeFirst();
  return row && (await withSecrets(query, [row], nowMs))[0];
}

export async function listKeys(query: Query, { after, limit, status, q }: WantedKeys, nowMs: number): Promise<KeyPage> {
  let rows = query
    .selectFrom("api_keys")
    .selectAll()
    .orderBy("created_at_ms")
    .orderBy("id")
    .limit(limit + 1);
  if (after !== undefined)
    rows = rows.where((where) =>
      where.or([
        where("created_at_ms", ">", BigInt(after.createdAtMs)),
        where.and([where("created_at_ms", "=", BigInt(after.createdAtMs)), where("id", ">", after.id)]),
      ]),
    );
  if (status !== undefined) {
    rows = rows.where("status", "=", status === "revoked" ? "revoked" : "active");
    if (status === "expired") rows = rows.where("expires_at_ms", "<=", BigInt(nowMs));
    if (status === "active")
      rows = rows.where((where) =>
        where.or([where("expires_at_ms", "is", null), where("expires_at_ms", ">", BigInt(nowMs))]),
      );
  }
  if (q !== undefined)
    rows = rows.where((where) =>
      where.or([
        sql<boolean>`lower(name) like lower(${`%${q.replace(/[\\%_]/g, "\\$&")}%`}) escape '\\'`,
        where.eb("id", "=", q),
        where.eb("id", "in", where.selectFrom("api_key_secrets").select("key_id").where("prefix", "=", q)),
      ]),
    );
  const found = await rows.execute();
  const page = found.slice(0, limit);
  const last = page.at(-1);
  return {
    keys: await withSecrets(query, page, nowMs),
    next: found.length > limit && last ? { createdAtMs: Number(last.created_at_ms), id: last.id } : undefined,
  };
}

async function withSecrets(
  query: Query,
  rows: readonly (ApiKeyRow & { readonly signing_secret: string | null })[],
  nowMs: number,
): Promise<ListedKey[]> {
  if (rows.length === 0) return [];
  const secrets = await query
    .selectFrom("api_key_secrets")
    .select(["key_id", "prefix", "created_at_ms", "not_after_ms"])
    .where(
      "key_id",
      "in",
      rows.map(({ id }) => id),
    )
    .where((where) => where.or([where("not_after_ms", "is", null), where("not_after_ms", ">", BigInt(nowMs))]))
    .orderBy("created_at_ms")
    .orderBy("not_after_ms", (order) => order.asc().nullsLast())
    .execute();
  const byKey = Map.groupBy(secrets, ({ key_id: keyId }) => keyId);
  return rows.map((row) => ({
    key: apiKeyFrom(row),
    secrets: (byKey.get(row.id) ?? []).map(({ prefix, created_at_ms: createdAtMs, not_after_ms: notAfterMs }) => ({
      prefix,
      createdAtMs: Number(createdAtMs),
      ...(notAfterMs !== null && { notAfterMs: Number(notAfterMs) }),
    })),
    hasSigningSecret: row.signing_secret !== null,
  }));
}
