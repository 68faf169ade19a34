import { DAY_MS } from "../lib/clock.ts";
import type { NanoUsd } from "../lib/money.ts";
import { ANONYMOUS_KEY_ID, type ApiKey, type RescueMode } from "./api-key.ts";
import { chooseCaps, type KeyCaps } from "./caps.ts";
import { parseAllowedIps } from "./ip-allow-list.ts";
import type { KeyDefaults } from "./key-fields.ts";
import type { NewKey } from "./key-store.ts";

/**
 * What may be chosen for a key and how a choice changes it, for the command line and the admin API alike.
 *
 * 1. Whoever reads a choice, from arguments or from JSON, makes a KeyChanges of it; the bounds are those of KEY_BOUNDS.
 * 2. `faultIn(changes)` says what is wrong with it by itself, before anything is opened or asked.
 * 3. `changedKey(before, changes, ...)` gives the key as it then is, or what it contradicts. Whatever the changes do not name
 *    stays: a key store replaces all that was chosen for a key.
 */
export const KEY_BOUNDS = {
  nameLength: 100,
  rateLimitPerMin: 1_000_000,
  tokensPerMin: 999_999_999,
  maxConcurrentRequests: 1_000_000,
  days: 36_500,
  /** Models, providers or addresses in a list, and characters in one of the first two. */
  listed: 100,
  listedLength: 200,
  metadataPairs: 16,
  metadataNameLength: 64,
  metadataValueLength: 512,
} as const;

/** A part of a key by the name that JSON has for it. */
export type KeyField =
  | "name"
  | `${"" | "week_" | "month_"}${"soft" | "hard"}_cap_usd`
  | "rate_limit_per_min"
  | "tokens_per_min"
  | "max_concurrent_requests"
  | "rescue"
  | "expires_at"
  | "models"
  | "providers"
  | "allowed_ips"
  | "signing_required"
  | "metadata";

/** Undefined: stays as it is. Null: back to the default, or none. */
export interface KeyChanges {
  readonly name?: string | undefined;
  readonly day?: CapChanges;
  readonly week?: CapChanges;
  readonly month?: CapChanges;
  readonly rateLimitPerMin?: number | null | undefined;
  readonly tokensPerMin?: number | null | undefined;
  readonly maxConcurrentRequests?: number | null | undefined;
  readonly rescue?: RescueMode | null | undefined;
  readonly expires?: Expiry | null | undefined;
  readonly allowedModels?: readonly string[] | null | undefined;
  readonly allowedProviders?: readonly string[] | null | undefined;
  readonly allowedIps?: readonly string[] | null | undefined;
  readonly signingRequired?: boolean | null | undefined;
  /** Replaces all pairs that there were. */
  readonly metadata?: Readonly<Record<string, string>> | null | undefined;
}

interface CapChanges {
  readonly softCap: NanoUsd | null | undefined;
  readonly hardCap: NanoUsd | null | undefined;
}

export type Expiry = { readonly atMs: number } | { readonly inDays: number };

/** A sentence's middle, to stand behind the field's name in whichever way its reader knows it. */
export interface KeyFault {
  readonly kind: "faulty";
  readonly field: KeyField;
  readonly fault: string;
}

export type KeyChoice = { readonly kind: "fitting"; readonly wanted: NewKey } | KeyFault;

/** What is wrong with the changes whatever key they are for. */
export function faultIn(changes: KeyChanges): KeyFault | undefined {
  const { name, allowedModels, allowedProviders, allowedIps, metadata } = changes;
  if (name !== undefined) {
    const fault = nameFault(name);
    if (fault !== undefined) return faulty("name", fault);
  }
  for (const [field, list] of [
    ["models", allowedModels],
    ["providers", allowedProviders],
  ] as const) {
    const fault = list && (listFault(list) ?? (list.every(isListable) ? undefined : UNLISTABLE));
    if (fault) return faulty(field, fault);
  }
  if (allowedIps) {
    const parsed = parseAllowedIps(allowedIps);
    if (parsed.kind === "faulty") return faulty("allowed_ips", parsed.fault);
  }
  const fault = metadata && metadataFault(metadata);
  return fault ? faulty("metadata", fault) : undefined;
}

/** What was chosen for a key after the changes, of which `faultIn` finds nothing wrong; or what they contradict. */
export function changedKey(before: NewKey, changes: KeyChanges, defaults: KeyDefaults, nowMs: number): KeyChoice {
  const caps = chooseCaps(
    {
      ...capsAfter(before, changes.day),
      ...window("week", capsAfter(before.week ?? {}, changes.week)),
      ...window("month", capsAfter(before.month ?? {}, changes.month)),
    },
    { softCap: defaults.defaultSoftCap, hardCap: defaults.defaultHardCap },
  );
  if (caps.kind === "contradictory") {
    const prefix = caps.window === "day" ? "" : (`${caps.window}_` as const);
    return faulty(`${prefix}soft_cap_usd`, caps.reason);
  }
  const expiresAtMs = after(before.expiresAtMs, changes.expires && momentOf(changes.expires, nowMs));
  if (expiresAtMs !== before.expiresAtMs && expiresAtMs !== undefined && expiresAtMs <= nowMs)
    return faulty("expires_at", "has passed; a key that is to end now is revoked");
  const given = {
    rateLimitPerMin: after(before.rateLimitPerMin, changes.rateLimitPerMin),
    tokensPerMin: after(before.tokensPerMin, changes.tokensPerMin),
    maxConcurrentRequests: after(before.maxConcurrentRequests, changes.maxConcurrentRequests),
    rescue: after(before.rescue, changes.rescue),
    allowedModels: after(before.allowedModels, changes.allowedModels),
    allowedProviders: after(before.allowedProviders, changes.allowedProviders),
    allowedIps: after(before.allowedIps, changes.allowedIps && canonical(changes.allowedIps)),
    metadata: after(before.metadata, changes.metadata),
    signingRequired:
      after<boolean>(before.signingRequired, changes.signingRequired) === true ? (true as const) : undefined,
    expiresAtMs,
  };
  return {
    kind: "fitting",
    wanted: { name: changes.name?.trim() ?? before.name, ...caps.caps, ...present(given) },
  };
}

/** What a key that is there cannot become, and why; what it has in common with new ones is for `changedKey` to say. */
export function unchangeable(key: ApiKey, hasSigningSecret: boolean, changes: KeyChanges): KeyFault | undefined {
  if (changes.signingRequired !== true) return undefined;
  if (key.id === ANONYMOUS_KEY_ID)
    return faulty("signing_required", "is nothing for the anonymous key, whose callers have no secret to sign with");
  if (!hasSigningSecret)
    return faulty(
      "signing_required",
      "needs a signing secret, which this key does not have; make one first and give it to whoever uses the key",
    );
  return undefined;
}

const faulty = (field: KeyField, fault: string): KeyFault => ({ kind: "faulty", field, fault });

function nameFault(text: string): string | undefined {
  const name = text.trim();
  if (name === "") return "must not be empty";
  if (name.length > KEY_BOUNDS.nameLength || /\p{Cc}/u.test(name))
    return `may have at most ${KEY_BOUNDS.nameLength} characters and no control characters`;
  return undefined;
}

function listFault(list: readonly string[]): string | undefined {
  if (list.length === 0) return "is empty, which would shut everybody out; to take the limit away, say so";
  if (list.length > KEY_BOUNDS.listed) return `has ${list.length} entries, and ${KEY_BOUNDS.listed} is the most`;
  if (new Set(list).size < list.length) return "has an entry twice";
  return undefined;
}

const isListable = (text: string): boolean =>
  text !== "" && text.length <= KEY_BOUNDS.listedLength && !/[\s\p{Cc},"'\\]/u.test(text);
const UNLISTABLE = `has an entry that is no name: 1 to ${KEY_BOUNDS.listedLength} characters without spaces, commas, quotes and backslashes`;

function metadataFault(metadata: Readonly<Record<string, string>>): string | undefined {
  const pairs = Object.entries(metadata);
  if (pairs.length > KEY_BOUNDS.metadataPairs)
    return `has ${pairs.length} pairs, and ${KEY_BOUNDS.metadataPairs} is the most`;
  for (const [name, value] of pairs) {
    if (name === "" || name.length > KEY_BOUNDS.metadataNameLength || /\p{Cc}/u.test(name))
      return `has a name that is empty, longer than ${KEY_BOUNDS.metadataNameLength} characters, or has control characters`;
    if (value.length > KEY_BOUNDS.metadataValueLength || /\p{Cc}/u.test(value))
      return `has a value that is longer than ${KEY_BOUNDS.metadataValueLength} characters or has control characters`;
  }
  return undefined;
}

const after = <T>(before: T | undefined, change: T | null | undefined): T | undefined =>
  change === undefined ? before : (change ?? undefined);

function capsAfter(before: KeyCaps, changes: CapChanges | undefined): KeyCaps {
  return present({
    softCap: after(before.softCap, changes?.softCap),
    hardCap: after(before.hardCap, changes?.hardCap),
  });
}

const window = (name: "week" | "month", caps: KeyCaps): KeyCaps =>
  Object.keys(caps).length === 0 ? {} : { [name]: caps };

const momentOf = (expiry: Expiry, nowMs: number): number =>
  "atMs" in expiry ? expiry.atMs : nowMs + expiry.inDays * DAY_MS;

/** The spelling that is stored; `faultIn` has refused what has none. */
function canonical(allowedIps: readonly string[]): readonly string[] {
  const parsed = parseAllowedIps(allowedIps);
  return parsed.kind === "list" ? parsed.ips : allowedIps;
}

type Present<T> = { [Name in keyof T]?: Exclude<T[Name], undefined> };

const present = <T extends object>(given: T): Present<T> =>
  Object.fromEntries(Object.entries(given).filter(([, value]) => value !== undefined)) as Present<T>;
