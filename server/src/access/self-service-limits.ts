import type { Transaction } from "kysely";
import { DAY_MS } from "../lib/clock.ts";
import type { Schema } from "../storage/schema.ts";

/** How many keys callers may make for themselves. */
export interface SelfServiceLimits {
  /** The group of addresses that asks (address-group.ts). */
  readonly createdFrom: string;
  /** How many such keys may be in force at a time. */
  readonly most: number;
  /** How many the group may make within 24 hours. */
  readonly mostPerAddress: number;
}

export type SelfServiceRefusal =
  /** The group has made as many as it may; one more may be made from that moment on. */
  | { readonly kind: "too-many-of-address"; readonly made: number; readonly againAtMs: number }
  /** So many are in force; one of them ends at that moment. */
  | { readonly kind: "too-many"; readonly inForce: number; readonly againAtMs: number };

/**
 * Counts what there is, in a transaction that holds the lock of `api_keys`: nobody makes another one between the counting and the
 * making, on whichever instance. Revoked keys count against their address all the same.
 */
export async function countSelfService(
  transaction: Transaction<Schema>,
  { createdFrom, most, mostPerAddress }: SelfServiceLimits,
  nowMs: number,
): Promise<SelfServiceRefusal | undefined> {
  const own = await transaction
    .selectFrom("api_keys")
    .select(({ fn }) => [fn.countAll<bigint>().as("made"), fn.min<bigint | null>("created_at_ms").as("first_ms")])
    .where("origin", "=", "self_service")
    .where("created_from", "=", createdFrom)
    .where("created_at_ms", ">", BigInt(nowMs - DAY_MS))
    .executeTakeFirstOrThrow();
  if (Number(own.made) >= mostPerAddress)
    return { kind: "too-many-of-address", made: Number(own.made), againAtMs: Number(own.first_ms) + DAY_MS };
  const all = await transaction
    .selectFrom("api_keys")
    .select(({ fn }) => [
      fn.countAll<bigint>().as("in_force"),
      fn.min<bigint | null>("expires_at_ms").as("first_end_ms"),
    ])
    .where("origin", "=", "self_service")
    .where("status", "=", "active")
    .where((where) => where.or([where("expires_at_ms", "is", null), where("expires_at_ms", ">", BigInt(nowMs))]))
    .executeTakeFirstOrThrow();
  if (Number(all.in_force) >= most)
    return { kind: "too-many", inForce: Number(all.in_force), againAtMs: Number(all.first_end_ms ?? nowMs + DAY_MS) };
  return undefined;
}
