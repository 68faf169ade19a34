import { nanoUsd } from "../lib/money.ts";
import type { Caps, KeyCaps } from "./caps.ts";

/** Callers without a key share this one, when the server lets them in; capped, limited and metered like any other. */
export const ANONYMOUS_KEY_ID = "bk_anonymous000";

export type KeyState = { readonly kind: "active" } | { readonly kind: "revoked"; readonly revokedAtMs: number };

/** Mid-stream rescue: another candidate goes on where the stream broke, or begins anew. */
export type RescueMode = "continue" | "restart";

/**
 * A caller's identity, without any secret. Immutable: a change makes a new one. The caps of its own are the day's, and absent
 * ones the setting's default; the week and the month have none unless given.
 */
export interface ApiKey extends KeyCaps {
  readonly id: string;
  readonly name: string;
  readonly state: KeyState;
  /** Of two states of a key the one with the higher revision is the newer. */
  readonly revision: number;
  /** Absent: the setting's default. */
  readonly rateLimitPerMin?: number;
  /** Absent: not limited. */
  readonly tokensPerMin?: number;
  /** Absent: not limited. */
  readonly maxConcurrentRequests?: number;
  /** What is done with its streams that break after their output began, unless a request says otherwise. Absent: nothing. */
  readonly rescue?: RescueMode;
  /** Models that it may use, by the names that callers give. Absent: every one. */
  readonly allowedModels?: readonly string[];
  /** Absent: every one. */
  readonly allowedProviders?: readonly string[];
  /** Addresses and CIDR ranges that it may be used from. Absent: everywhere. */
  readonly allowedIps?: readonly string[];
  /** What whoever made it wants to remember. */
  readonly metadata?: Readonly<Record<string, string>>;
  /** Requests without a valid signature are refused. Absent: nobody asks for one. */
  readonly signingRequired?: true;
  /** The caller made it itself. Absent: an administrator did. */
  readonly selfService?: true;
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
  readonly week_soft_cap_nano_usd: bigint | null;
  readonly week_hard_cap_nano_usd: bigint | null;
  readonly month_soft_cap_nano_usd: bigint | null;
  readonly month_hard_cap_nano_usd: bigint | null;
  readonly rate_limit_per_min: bigint | null;
  readonly tokens_per_min: bigint | null;
  readonly max_concurrent_requests: bigint | null;
  readonly rescue: RescueMode | null;
  readonly allowed_models: string | null;
  readonly allowed_providers: string | null;
  readonly allowed_ips: string | null;
  readonly metadata: string | null;
  readonly signing_required: bigint;
  readonly origin: "admin" | "self_service";
  readonly expires_at_ms: bigint | null;
  readonly created_at_ms: bigint;
  readonly revoked_at_ms: bigint | null;
  readonly revision: bigint;
}

export function apiKeyFrom(row: ApiKeyRow): ApiKey {
  const week = capsFrom(row.week_soft_cap_nano_usd, row.week_hard_cap_nano_usd);
  const month = capsFrom(row.month_soft_cap_nano_usd, row.month_hard_cap_nano_usd);
  return Object.freeze({
    id: row.id,
    name: row.name,
    state:
      row.status === "revoked"
        ? { kind: "revoked", revokedAtMs: Number(row.revoked_at_ms ?? row.created_at_ms) }
        : { kind: "active" },
    revision: Number(row.revision),
    ...capsFrom(row.soft_cap_nano_usd, row.hard_cap_nano_usd),
    ...(week && { week }),
    ...(month && { month }),
    ...(row.rate_limit_per_min !== null && { rateLimitPerMin: Number(row.rate_limit_per_min) }),
    ...(row.tokens_per_min !== null && { tokensPerMin: Number(row.tokens_per_min) }),
    ...(row.max_concurrent_requests !== null && { maxConcurrentRequests: Number(row.max_concurrent_requests) }),
    ...(row.rescue !== null && { rescue: row.rescue }),
    ...(row.allowed_models !== null && { allowedModels: JSON.parse(row.allowed_models) as string[] }),
    ...(row.allowed_providers !== null && { allowedProviders: JSON.parse(row.allowed_providers) as string[] }),
    ...(row.allowed_ips !== null && { allowedIps: JSON.parse(row.allowed_ips) as string[] }),
    ...(row.metadata !== null && { metadata: JSON.parse(row.metadata) as Record<string, string> }),
    ...(row.signing_required === 1n && { signingRequired: true as const }),
    ...(row.origin === "self_service" && { selfService: true as const }),
    createdAtMs: Number(row.created_at_ms),
    ...(row.expires_at_ms !== null && { expiresAtMs: Number(row.expires_at_ms) }),
  } satisfies ApiKey);
}

function capsFrom(softCap: bigint | null, hardCap: bigint | null): Caps | undefined {
  if (softCap === null && hardCap === null) return undefined;
  return {
    ...(softCap !== null && { softCap: nanoUsd(softCap) }),
    ...(hardCap !== null && { hardCap: nanoUsd(hardCap) }),
  };
}
