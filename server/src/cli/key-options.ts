import {
  changedKey,
  type Expiry,
  faultIn,
  KEY_BOUNDS,
  type KeyChanges,
  type KeyFault,
  type KeyField,
} from "../access/key-changes.ts";
import type { RescueMode } from "../access/api-key.ts";
import type { NewKey } from "../access/key-store.ts";
import type { Config } from "../config.ts";
import { countOption, printable, timeOption, usdOption } from "./arguments.ts";
import { UsageError } from "./usage-error.ts";

/** What can be chosen for a key, whether it is being made or is there. */
export const keyOptions = {
  name: { type: "string" },
  "soft-cap-usd": { type: "string" },
  "hard-cap-usd": { type: "string" },
  "week-soft-cap-usd": { type: "string" },
  "week-hard-cap-usd": { type: "string" },
  "month-soft-cap-usd": { type: "string" },
  "month-hard-cap-usd": { type: "string" },
  "rate-limit-per-min": { type: "string" },
  "tokens-per-min": { type: "string" },
  "max-concurrent": { type: "string" },
  rescue: { type: "string" },
  models: { type: "string" },
  providers: { type: "string" },
  "allowed-ips": { type: "string" },
  "signing-required": { type: "boolean" },
  "no-signing-required": { type: "boolean" },
  metadata: { type: "string", multiple: true },
  "expires-in-days": { type: "string" },
  "expires-at": { type: "string" },
} as const;

export const keyOptionsHelp = `  --soft-cap-usd USD        warn from this much spent per day
  --hard-cap-usd USD        refuse what would exceed this much per day
  --week-soft-cap-usd USD   the same per week, which begins on Monday
  --week-hard-cap-usd USD
  --month-soft-cap-usd USD  the same per month
  --month-hard-cap-usd USD
  --rate-limit-per-min N    requests per minute
  --tokens-per-min N        tokens per minute
  --max-concurrent N        requests at the same time
  --rescue MODE             continue or restart: another model takes up streams that
                            break midway (docs/resilience.md)
  --models A,B              the only models it may use
  --providers A,B           the only providers it may use
  --allowed-ips A,B         the only addresses and CIDR ranges it may be used from
  --signing-required        refuse requests without a signature
  --metadata NAME=VALUE     what you want to remember about it; may be repeated
  --expires-in-days N       days from now until it ends
  --expires-at TIME         when it ends: 2027-01-01, or 2027-01-01T09:00:00Z (UTC)
`;

export const keyDefaultsHelp = `A request must fit into every cap that the key has. Days, weeks and months are UTC.
The caps of the day and the requests per minute follow the server's settings
where the key has none of its own; there are no others unless you give them.
With a hard cap of its own for the week or the month, and none for the day, the
default caps of the day do not apply: the one you gave is the only hard cap.
`;

type TextOption = Exclude<keyof typeof keyOptions, "metadata" | "signing-required" | "no-signing-required">;

interface Values extends Readonly<Partial<Record<TextOption, string>>> {
  readonly metadata?: readonly string[];
  readonly "signing-required"?: boolean;
  readonly "no-signing-required"?: boolean;
}

/** Throws UsageError. */
export function readKeyChanges(values: Values): KeyChanges {
  const usd = (name: TextOption, word: string) => usdOption(name, values[name], word);
  const count = (name: TextOption, most: number, word: string) => countOption(name, values[name], most, word);
  const changes: KeyChanges = {
    name: values.name,
    day: { softCap: usd("soft-cap-usd", "default"), hardCap: usd("hard-cap-usd", "default") },
    week: { softCap: usd("week-soft-cap-usd", "none"), hardCap: usd("week-hard-cap-usd", "none") },
    month: { softCap: usd("month-soft-cap-usd", "none"), hardCap: usd("month-hard-cap-usd", "none") },
    rateLimitPerMin: count("rate-limit-per-min", KEY_BOUNDS.rateLimitPerMin, "default"),
    tokensPerMin: count("tokens-per-min", KEY_BOUNDS.tokensPerMin, "none"),
    maxConcurrentRequests: count("max-concurrent", KEY_BOUNDS.maxConcurrentRequests, "none"),
    rescue: rescueOption(values.rescue),
    allowedModels: listOption(values.models, "all"),
    allowedProviders: listOption(values.providers, "all"),
    allowedIps: listOption(values["allowed-ips"], "all"),
    signingRequired: signingOption(values),
    metadata: metadataOption(values.metadata),
    expires: expiryOption(values),
  };
  const fault = faultIn(changes);
  if (fault !== undefined) throw misuse(fault);
  return changes;
}

/** What was chosen for a key after the changes. Throws UsageError when they contradict each other or what is there. */
export function revisedKey(before: NewKey, changes: KeyChanges, config: Config, nowMs: number): NewKey {
  const choice = changedKey(before, changes, config, nowMs);
  if (choice.kind === "fitting") return choice.wanted;
  const { field, fault } = choice;
  if (!field.endsWith("_soft_cap_usd") && field !== "soft_cap_usd") throw misuse(choice);
  const soft = OPTIONS[field];
  throw new UsageError(`Nothing was changed: ${fault}. Lower --${soft} or raise --${soft.replace("soft", "hard")}.`);
}

/** A fault under the name that the option has here. */
export const misuse = ({ field, fault }: KeyFault): UsageError =>
  new UsageError(
    field === "name" && /empty/.test(fault)
      ? "A key needs a name: add --name NAME."
      : `--${OPTIONS[field]} ${printable(fault)}.`,
  );

const OPTIONS: Readonly<Record<KeyField, keyof typeof keyOptions>> = {
  name: "name",
  soft_cap_usd: "soft-cap-usd",
  hard_cap_usd: "hard-cap-usd",
  week_soft_cap_usd: "week-soft-cap-usd",
  week_hard_cap_usd: "week-hard-cap-usd",
  month_soft_cap_usd: "month-soft-cap-usd",
  month_hard_cap_usd: "month-hard-cap-usd",
  rate_limit_per_min: "rate-limit-per-min",
  tokens_per_min: "tokens-per-min",
  max_concurrent_requests: "max-concurrent",
  rescue: "rescue",
  models: "models",
  providers: "providers",
  allowed_ips: "allowed-ips",
  signing_required: "signing-required",
  metadata: "metadata",
  expires_at: "expires-at",
};

function rescueOption(text: string | undefined): RescueMode | null | undefined {
  if (text === undefined || text === "continue" || text === "restart") return text;
  if (text === "none") return null;
  throw new UsageError(`--rescue is "${printable(text)}"; give continue, restart or none.`);
}

/** Separated by commas; the word takes the limit away. */
function listOption(text: string | undefined, word: string): readonly string[] | null | undefined {
  if (text === undefined) return undefined;
  if (text.trim() === word) return null;
  return text
    .split(",")
    .map((entry) => entry.trim())
    .filter((entry) => entry !== "");
}

function signingOption(values: Values): boolean | undefined {
  const [on, off] = [values["signing-required"] === true, values["no-signing-required"] === true];
  if (on && off) throw new UsageError("Give either --signing-required or --no-signing-required.");
  return on ? true : off ? false : undefined;
}

function expiryOption(values: Values): Expiry | null | undefined {
  const [inDays, at] = [values["expires-in-days"], values["expires-at"]];
  if (inDays !== undefined && at !== undefined) throw new UsageError("Give either --expires-in-days or --expires-at.");
  if (at !== undefined) return at === "never" ? null : { atMs: timeOption("expires-at", at) };
  const days = countOption("expires-in-days", inDays, KEY_BOUNDS.days, "never");
  return days === undefined || days === null ? days : { inDays: days };
}

function metadataOption(pairs: readonly string[] | undefined): Readonly<Record<string, string>> | null | undefined {
  if (pairs === undefined) return undefined;
  if (pairs.length === 1 && pairs[0] === "none") return null;
  const metadata = new Map<string, string>();
  for (const pair of pairs) {
    const equals = pair.indexOf("=");
    if (equals < 1) throw new UsageError(`--metadata is "${printable(pair)}"; give NAME=VALUE, or none.`);
    const name = pair.slice(0, equals);
    if (metadata.has(name)) throw new UsageError(`--metadata has ${printable(name)} twice; give each name once.`);
    metadata.set(name, pair.slice(equals + 1));
  }
  return Object.fromEntries(metadata);
}
