import { type NanoUsd, usdNumber } from "../lib/money.ts";
import { type ApiKey, keyStatusAt } from "./api-key.ts";
import { effectiveCaps } from "./caps.ts";
import type { ListedKey } from "./key-list.ts";
import type { Rotation } from "./key-store.ts";

/** What holds for a key that has nothing of its own, as the settings have it. */
export interface KeyDefaults {
  readonly defaultSoftCap: NanoUsd;
  readonly defaultHardCap: NanoUsd;
  readonly rateLimitPerMin: number;
}

/** The caps that hold for a key under these settings. */
export const capsOf = (key: ApiKey, defaults: KeyDefaults) =>
  effectiveCaps(key, { softCap: defaults.defaultSoftCap, hardCap: defaults.defaultHardCap });

/** What no setting has a say in, so that it is the same whether it is asked what was chosen or what holds; null: no such limit. */
export const settledFields = (key: ApiKey) => ({
  tokens_per_min: key.tokensPerMin ?? null,
  max_concurrent_requests: key.maxConcurrentRequests ?? null,
  rescue: key.rescue ?? null,
  models: key.allowedModels ?? null,
  providers: key.allowedProviders ?? null,
  allowed_ips: key.allowedIps ?? null,
  signing_required: key.signingRequired === true,
  metadata: key.metadata ?? null,
  self_service: key.selfService === true,
  expires_at: key.expiresAtMs === undefined ? null : isoTime(key.expiresAtMs),
  revoked_at: key.state.kind === "revoked" ? isoTime(key.state.revokedAtMs) : null,
});

/** What holds for a key, as JSON shows it on the command line and over HTTP; null: no such cap or limit. Never a secret. */
export function keyFields(key: ApiKey, defaults: KeyDefaults) {
  const { day, week, month } = capsOf(key, defaults);
  return {
    name: key.name,
    soft_cap_usd: amountOf(day.softCap),
    hard_cap_usd: amountOf(day.hardCap),
    week_soft_cap_usd: amountOf(week.softCap),
    week_hard_cap_usd: amountOf(week.hardCap),
    month_soft_cap_usd: amountOf(month.softCap),
    month_hard_cap_usd: amountOf(month.hardCap),
    rate_limit_per_min: key.rateLimitPerMin ?? defaults.rateLimitPerMin,
    created_at: isoTime(key.createdAtMs),
    ...settledFields(key),
  };
}

/** The same with its state and the beginnings of its secrets, for who administers it. */
export const listedKeyFields = (
  { key, secrets, hasSigningSecret }: ListedKey,
  defaults: KeyDefaults,
  nowMs: number,
) => ({
  id: key.id,
  key_id: key.id,
  ...keyFields(key, defaults),
  status: keyStatusAt(key, nowMs),
  version: versionOf(key),
  secrets: secrets.map(({ prefix, createdAtMs, notAfterMs }) => ({
    prefix,
    created_at: isoTime(createdAtMs),
    valid_until: notAfterMs === undefined ? null : isoTime(notAfterMs),
  })),
  has_signing_secret: hasSigningSecret,
});

/** A rotation, with the one sight of the new secret. */
export const rotationFields = ({ key, secret, oldKeyPrefix, rotatedAtMs, oldValidUntilMs }: Rotation) => ({
  key_id: key.id,
  old_key_prefix: oldKeyPrefix,
  new_key: secret,
  rotated_at: isoTime(rotatedAtMs),
  old_key_valid_until: isoTime(oldValidUntilMs),
});

/** What changes with every change of the key; an ETag is this in quotes. */
export const versionOf = (key: ApiKey): string => String(key.revision);

const amountOf = (cap: NanoUsd | undefined): number | null => (cap === undefined ? null : usdNumber(cap));

const isoTime = (ms: number): string => new Date(ms).toISOString();
