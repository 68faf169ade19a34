import { type NanoUsd, usdNumber } from "../lib/money.ts";
import type { ApiKey } from "./api-key.ts";
import type { Caps } from "./caps.ts";

/** What was chosen for a key, for the record; null: nothing, so that a default holds or no limit. Never a secret or a hash. */
export function auditedKey(key: ApiKey): Readonly<Record<string, unknown>> {
  return {
    name: key.name,
    status: key.state.kind,
    ...auditedCaps("", key),
    ...auditedCaps("week_", key.week ?? {}),
    ...auditedCaps("month_", key.month ?? {}),
    rate_limit_per_min: key.rateLimitPerMin ?? null,
    tokens_per_min: key.tokensPerMin ?? null,
    max_concurrent_requests: key.maxConcurrentRequests ?? null,
    rescue: key.rescue ?? null,
    models: key.allowedModels ?? null,
    providers: key.allowedProviders ?? null,
    allowed_ips: key.allowedIps ?? null,
    signing_required: key.signingRequired === true,
    metadata: key.metadata ?? null,
    self_service: key.selfService === true,
    expires_at: isoTime(key.expiresAtMs),
    revoked_at: isoTime(key.state.kind === "revoked" ? key.state.revokedAtMs : undefined),
  };
}

const auditedCaps = (prefix: string, { softCap, hardCap }: Caps) => ({
  [`${prefix}soft_cap_usd`]: amount(softCap),
  [`${prefix}hard_cap_usd`]: amount(hardCap),
});

const amount = (cap: NanoUsd | undefined): number | null => (cap === undefined ? null : usdNumber(cap));

const isoTime = (ms: number | undefined): string | null => (ms === undefined ? null : new Date(ms).toISOString());
