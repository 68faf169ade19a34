import { type NanoUsd, usdNumber } from "../lib/money.ts";
import type { ApiKey } from "./api-key.ts";
import type { Caps } from "./caps.ts";
import { settledFields } from "./key-fields.ts";

/** What was chosen for a key, for the record (key-fields.ts has what then holds); null: nothing, so that a default holds or no limit. Never a secret or a hash. */
export function auditedKey(key: ApiKey): Readonly<Record<string, unknown>> {
  return {
    name: key.name,
    status: key.state.kind,
    ...auditedCaps("", key),
    ...auditedCaps("week_", key.week ?? {}),
    ...auditedCaps("month_", key.month ?? {}),
    rate_limit_per_min: key.rateLimitPerMin ?? null,
    ...settledFields(key),
  };
}

const auditedCaps = (prefix: string, { softCap, hardCap }: Caps) => ({
  [`${prefix}soft_cap_usd`]: amount(softCap),
  [`${prefix}hard_cap_usd`]: amount(hardCap),
});

const amount = (cap: NanoUsd | undefined): number | null => (cap === undefined ? null : usdNumber(cap));
