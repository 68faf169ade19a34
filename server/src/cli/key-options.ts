import { DAY_MS } from "../lib/clock.ts";
import { type CapsChoice, chooseCaps, type KeyCaps } from "../access/caps.ts";
import type { RescueMode } from "../access/api-key.ts";
import type { NewKey } from "../access/key-store.ts";
import type { Config } from "../config.ts";
import type { NanoUsd } from "../lib/money.ts";
import { countOption, printable, usdOption } from "./arguments.ts";
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
  "expires-in-days": { type: "string" },
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
  --expires-in-days N       days from now until it ends
`;

export const keyDefaultsHelp = `A request must fit into every cap that the key has. Days, weeks and months are UTC.
The caps of the day and the requests per minute follow the server's settings
where the key has none of its own; there are no others unless you give them.
With a hard cap of its own for the week or the month, and none for the day, the
default caps of the day do not apply: the one you gave is the only hard cap.
`;

/** Absent: stays as it is. Null: back to the default, or none. */
export interface KeyChanges {
  readonly name: string | undefined;
  readonly day: CapChanges;
  readonly week: CapChanges;
  readonly month: CapChanges;
  readonly rateLimitPerMin: number | null | undefined;
  readonly tokensPerMin: number | null | undefined;
  readonly maxConcurrentRequests: number | null | undefined;
  readonly rescue: RescueMode | null | undefined;
  readonly expiresInDays: number | null | undefined;
}

interface CapChanges {
  readonly softCap: NanoUsd | null | undefined;
  readonly hardCap: NanoUsd | null | undefined;
}

type Values = Readonly<Partial<Record<keyof typeof keyOptions, string>>>;

/** Throws UsageError. */
export function readKeyChanges(values: Values): KeyChanges {
  const usd = (name: keyof typeof keyOptions, word: string) => usdOption(name, values[name], word);
  const count = (name: keyof typeof keyOptions, most: number, word: string) =>
    countOption(name, values[name], most, word);
  return {
    name: nameOption(values.name),
    day: { softCap: usd("soft-cap-usd", "default"), hardCap: usd("hard-cap-usd", "default") },
    week: { softCap: usd("week-soft-cap-usd", "none"), hardCap: usd("week-hard-cap-usd", "none") },
    month: { softCap: usd("month-soft-cap-usd", "none"), hardCap: usd("month-hard-cap-usd", "none") },
    rateLimitPerMin: count("rate-limit-per-min", 1_000_000, "default"),
    tokensPerMin: count("tokens-per-min", 999_999_999, "none"),
    maxConcurrentRequests: count("max-concurrent", 1_000_000, "none"),
    rescue: rescueOption(values.rescue),
    expiresInDays: count("expires-in-days", 36_500, "never"),
  };
}

function rescueOption(text: string | undefined): RescueMode | null | undefined {
  if (text === undefined || text === "continue" || text === "restart") return text;
  if (text === "none") return null;
  throw new UsageError(`--rescue is "${printable(text)}"; give continue, restart or none.`);
}

function nameOption(text: string | undefined): string | undefined {
  const name = text?.trim();
  if (name === "") throw new UsageError("A key needs a name: add --name NAME.");
  if (name !== undefined && (name.length > 100 || /\p{Cc}/u.test(name)))
    throw new UsageError("The name may have at most 100 characters and no control characters.");
  return name;
}

/** What was chosen for a key after the changes. Throws UsageError when its caps then contradict each other. */
export function changedKey(before: NewKey, changes: KeyChanges, config: Config, nowMs: number): NewKey {
  const caps = fittingCaps(
    {
      ...capsAfter(before, changes.day),
      ...window("week", capsAfter(before.week ?? {}, changes.week)),
      ...window("month", capsAfter(before.month ?? {}, changes.month)),
    },
    config,
  );
  const rateLimitPerMin = after(before.rateLimitPerMin, changes.rateLimitPerMin);
  const tokensPerMin = after(before.tokensPerMin, changes.tokensPerMin);
  const maxConcurrentRequests = after(before.maxConcurrentRequests, changes.maxConcurrentRequests);
  const rescue = after(before.rescue, changes.rescue);
  const expiresAtMs = after(before.expiresAtMs, changes.expiresInDays && nowMs + changes.expiresInDays * DAY_MS);
  return {
    name: changes.name ?? before.name,
    ...caps,
    ...(rateLimitPerMin !== undefined && { rateLimitPerMin }),
    ...(tokensPerMin !== undefined && { tokensPerMin }),
    ...(maxConcurrentRequests !== undefined && { maxConcurrentRequests }),
    ...(rescue !== undefined && { rescue }),
    ...(expiresAtMs !== undefined && { expiresAtMs }),
  };
}

const after = <T>(before: T | undefined, change: T | null | undefined): T | undefined =>
  change === undefined ? before : (change ?? undefined);

function capsAfter(before: KeyCaps, changes: CapChanges): KeyCaps {
  const softCap = after(before.softCap, changes.softCap);
  const hardCap = after(before.hardCap, changes.hardCap);
  return { ...(softCap !== undefined && { softCap }), ...(hardCap !== undefined && { hardCap }) };
}

const window = (name: "week" | "month", caps: KeyCaps): KeyCaps =>
  Object.keys(caps).length === 0 ? {} : { [name]: caps };

function fittingCaps(asked: KeyCaps, config: Config): KeyCaps {
  const choice: CapsChoice = chooseCaps(asked, { softCap: config.defaultSoftCap, hardCap: config.defaultHardCap });
  if (choice.kind === "fitting") return choice.caps;
  const prefix = choice.window === "day" ? "" : `${choice.window}-`;
  throw new UsageError(
    `Nothing was changed: ${choice.reason}. Lower --${prefix}soft-cap-usd or raise --${prefix}hard-cap-usd.`,
  );
}
