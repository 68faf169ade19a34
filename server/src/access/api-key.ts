import { type NanoUsd, nanoUsd } from "../lib/money.ts";

/** Callers without a key share this one, when the server lets them in; capped, limited and metered like any other. */
export const ANONYMOUS_KEY_ID = "bk_anonymous000";

export type KeyState = { readonly kind: "active" } | { readonly kind: "revoked"; readonly revokedAtMs: number };

/** A caller's identity, without any secret. Immutable: a change makes a new one. Absent caps and limits: the setting's default. */
export interface ApiKey {
  readonly id: string;
  readonly name: string;
  readonly state: KeyState;
  readonly softCap?: NanoUsd;
  readonly hardCap?: NanoUsd;
  readonly rateLimitPerMin?: number;
  readonly createdAtMs: number;
  /** The first moment at which the key is no longer accepted. */
  readonly expiresAtMs?: number;
}

export type KeyStatus = "active" | "expired" | "revoked";

/** What the key is at a moment; a revoked key stays revoked when it also expires. */
export function keyStatusAt(key: ApiKey, nowMs: number): KeyStatus {
  if (key.state.kind === "revoked") return "revoked";
  return key.expiresAtMs !== undefined && key.expiresAtMs <= nowMs ? "expired" : "active";
}

/** A row of `api_keys` as storage gives it. */
export interface ApiKeyRow {
  readonly id: string;
  readonly name: string;
  readonly status: "active" | "revoked";
  readonly soft_cap_nano_usd: bigint | null;
  readonly hard_cap_nano_usd: bigint | null;
  readonly rate_limit_per_min: bigint | null;
  readonly expires_at_ms: bigint | null;
  readonly created_at_ms: bigint;
  readonly revoked_at_ms: bigint | null;
}

export function apiKeyFrom(row: ApiKeyRow): ApiKey {
  return Object.freeze({
    id: row.id,
    name: row.name,
    state:
      row.status === "revoked"
        ? { kind: "revoked", revokedAtMs: Number(row.revoked_at_ms ?? row.created_at_ms) }
        : { kind: "active" },
    ...(row.soft_cap_nano_usd !== null && { softCap: nanoUsd(row.soft_cap_nano_usd) }),
    ...(row.hard_cap_nano_usd !== null && { hardCap: nanoUsd(row.hard_cap_nano_usd) }),
    ...(row.rate_limit_per_min !== null && { rateLimitPerMin: Number(row.rate_limit_per_min) }),
    createdAtMs: Number(row.created_at_ms),
    ...(row.expires_at_ms !== null && { expiresAtMs: Number(row.expires_at_ms) }),
  } satisfies ApiKey);
}
