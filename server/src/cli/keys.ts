import { parseArgs } from "node:util";
import { ANONYMOUS_KEY_ID, type ApiKey, keyStatusAt } from "../access/api-key.ts";
import { type Caps, chooseCaps } from "../access/caps.ts";
import type { KeyStore, ListedKey } from "../access/key-store.ts";
import { looksLikeSecret } from "../access/secret.ts";
import type { Config } from "../config.ts";
import type { Clock } from "../lib/clock.ts";
import { formatUsd, type NanoUsd, parseUsd, usdNumber } from "../lib/money.ts";
import { CommandFailed, UsageError } from "./usage-error.ts";

const DAY_MS = 86_400_000;

export const keysHelp = `Makes, lists and revokes the keys that callers present.

  npm run -s brikk -- keys create --name NAME [options]
  npm run -s brikk -- keys list [--json]
  npm run -s brikk -- keys revoke KEY_ID [--json]

It works while the server runs; changes take effect there within a second.
Add --help to a command to read about it.
`;

export const keysCreateHelp = `Makes a key and shows its secret, this once.

  npm run -s brikk -- keys create --name NAME [options]

  --name NAME               who or what it is for
  --soft-cap-usd USD        warn from this much spent per day
  --hard-cap-usd USD        refuse what would exceed this much per day
  --rate-limit-per-min N    requests per minute
  --expires-in-days N       days until it ends; never, if left out
  --json                    print JSON

Caps and limit follow the server's settings where they are left out.
`;

export const keysListHelp = `Lists all keys, oldest first. Secrets are not stored, so only their first characters are shown.

  npm run -s brikk -- keys list [--json]
`;

export const keysRevokeHelp = `Revokes a key for good. A running server refuses it within a second.

  npm run -s brikk -- keys revoke KEY_ID [--json]

KEY_ID is the public id that begins with bk_, as shown by keys list.
`;

/** What a command of `keys` does once the database is open; gives the text for standard output. */
export type KeysCommand = (parts: {
  readonly keyStore: KeyStore;
  readonly config: Config;
  readonly clock: Clock;
}) => Promise<string>;

/** Reads the arguments after `keys create`. Throws UsageError. */
export function parseKeysCreate(args: readonly string[]): KeysCommand {
  const { values, positionals } = parse(args, {
    name: { type: "string" },
    "soft-cap-usd": { type: "string" },
    "hard-cap-usd": { type: "string" },
    "rate-limit-per-min": { type: "string" },
    "expires-in-days": { type: "string" },
    json: { type: "boolean" },
  });
  if (positionals[0] !== undefined)
    throw new UsageError(`"${positionals[0]}" is not understood; give the name as --name NAME.`);
  const name = values.name?.trim() ?? "";
  if (name === "") throw new UsageError("A key needs a name: add --name NAME.");
  if (name.length > 100 || /\p{Cc}/u.test(name))
    throw new UsageError("The name may have at most 100 characters and no control characters.");
  const softCap = usdOption("soft-cap-usd", values["soft-cap-usd"]);
  const hardCap = usdOption("hard-cap-usd", values["hard-cap-usd"]);
  const rateLimitPerMin = countOption("rate-limit-per-min", values["rate-limit-per-min"], 1_000_000);
  const days = countOption("expires-in-days", values["expires-in-days"], 36_500);
  const asked: Caps = { ...(softCap !== undefined && { softCap }), ...(hardCap !== undefined && { hardCap }) };

  return async ({ keyStore, config, clock }) => {
    const choice = chooseCaps(asked, { softCap: config.defaultSoftCap, hardCap: config.defaultHardCap });
    if (choice.kind === "contradictory") {
      throw new UsageError(`No key was made: ${choice.reason}. Lower --soft-cap-usd or raise --hard-cap-usd.`);
    }
    const { key, secret } = await keyStore.create({
      name,
      ...choice.caps,
      ...(rateLimitPerMin !== undefined && { rateLimitPerMin }),
      ...(days !== undefined && { expiresAtMs: clock.now() + days * DAY_MS }),
    });
    if (values.json === true) return json({ id: key.id, key_id: key.id, key: secret, ...described(key, config) });
    return `Key "${key.name}" is ready.

  Secret      ${secret}
  Key id      ${key.id}
  Soft cap    ${perDay(key.softCap, config.defaultSoftCap)}
  Hard cap    ${perDay(key.hardCap, config.defaultHardCap)}
  Rate limit  ${perMinute(key, config)}
  Expires     ${key.expiresAtMs === undefined ? "never" : isoTime(key.expiresAtMs)}

Copy the secret now: it is shown this once and cannot be read back.

Try it:

  curl ${serverUrl(config)}/v1/chat/completions \\
    -H "Authorization: Bearer ${secret}" \\
    -H "Content-Type: application/json" \\
    -d '{"model": "brikk/auto", "messages": [{"role": "user", "content": "Hello!"}]}'
`;
  };
}

/** Reads the arguments after `keys list`. Throws UsageError. */
export function parseKeysList(args: readonly string[]): KeysCommand {
  const { values, positionals } = parse(args, { json: { type: "boolean" } });
  if (positionals[0] !== undefined)
    throw new UsageError(`"${positionals[0]}" is not understood; keys list takes only --json.`);
  return async ({ keyStore, config, clock }) => {
    const listed = await keyStore.list();
    const nowMs = clock.now();
    if (values.json === true) {
      return json(
        listed.map(({ key, secretPrefixes }) => ({
          id: key.id,
          key_id: key.id,
          ...described(key, config),
          status: keyStatusAt(key, nowMs),
          prefixes: secretPrefixes,
        })),
      );
    }
    if (listed.length === 0) return "There are no keys yet. Make one: npm run -s brikk -- keys create --name demo\n";
    return keyTable(listed, config, nowMs);
  };
}

/** Reads the arguments after `keys revoke`. Throws UsageError. */
export function parseKeysRevoke(args: readonly string[]): KeysCommand {
  const { values, positionals } = parse(args, { json: { type: "boolean" } });
  const [keyId, ...others] = positionals;
  if (keyId === undefined)
    throw new UsageError("Which key? Give its id, as in: keys revoke bk_...; keys list shows the ids.");
  if (others.length > 0) throw new UsageError("One key at a time: give a single id.");
  if (looksLikeSecret(keyId))
    throw new UsageError("That is a secret, not an id. Give the id that begins with bk_; keys list shows the ids.");
  if (keyId === ANONYMOUS_KEY_ID) {
    throw new UsageError(
      "The anonymous key is not revoked but switched off: start the server with BRIKK_REQUIRE_AUTH=true.",
    );
  }
  return async ({ keyStore, config }) => {
    const revocation = await keyStore.revoke(keyId);
    if (revocation === undefined)
      throw new CommandFailed(`There is no key ${printable(keyId)} in this database; keys list shows the ids.`);
    const { key, changed } = revocation;
    if (values.json === true) return json({ id: key.id, key_id: key.id, ...described(key, config), status: "revoked" });
    const name = `Key "${printable(key.name)}" (${key.id})`;
    if (!changed) return `${name} was already revoked, on ${isoTime(revokedAtMs(key))}.\n`;
    return `${name} is revoked. A running server refuses it within a second.\n`;
  };
}

type OptionTypes = Readonly<Record<string, { readonly type: "string" | "boolean" }>>;

function parse<const T extends OptionTypes>(args: readonly string[], options: T) {
  try {
    return parseArgs({ args: [...args], options, allowPositionals: true, strict: true });
  } catch (cause) {
    const message = cause instanceof Error ? cause.message : String(cause);
    throw new UsageError(`${message.split(/\.\s|\n/)[0]?.replace(/\.$/, "")}. Add --help to see what is accepted.`, {
      cause,
    });
  }
}

function usdOption(name: string, text: string | undefined): NanoUsd | undefined {
  if (text === undefined) return undefined;
  const amount = parseUsd(text);
  if (amount === undefined) throw new UsageError(`--${name} is "${text}"; give an amount of USD such as 5 or 0.50.`);
  return amount;
}

function countOption(name: string, text: string | undefined, most: number): number | undefined {
  if (text === undefined) return undefined;
  const count = Number(text);
  if (!/^\d{1,9}$/.test(text) || count < 1 || count > most) {
    throw new UsageError(`--${name} is "${text}"; give a whole number from 1 to ${most}.`);
  }
  return count;
}

function described(key: ApiKey, config: Config): Record<string, unknown> {
  return {
    name: key.name,
    soft_cap_usd: usdNumber(key.softCap ?? config.defaultSoftCap),
    hard_cap_usd: usdNumber(key.hardCap ?? config.defaultHardCap),
    rate_limit_per_min: key.rateLimitPerMin ?? config.rateLimitPerMin,
    created_at: isoTime(key.createdAtMs),
    expires_at: key.expiresAtMs === undefined ? null : isoTime(key.expiresAtMs),
    ...(key.state.kind === "revoked" && { revoked_at: isoTime(key.state.revokedAtMs) }),
  };
}

function keyTable(listed: readonly ListedKey[], config: Config, nowMs: number): string {
  const rows = [
    ["ID", "NAME", "STATUS", "SECRET", "SOFT CAP", "HARD CAP", "PER MINUTE", "CREATED", "EXPIRES"],
    ...listed.map(({ key, secretPrefixes }) => [
      key.id,
      shortened(printable(key.name), 32),
      keyStatusAt(key, nowMs),
      secretPrefixes.length === 0 ? "-" : secretPrefixes.map((prefix) => `${prefix}...`).join(" "),
      usd(key.softCap ?? config.defaultSoftCap),
      usd(key.hardCap ?? config.defaultHardCap),
      String(key.rateLimitPerMin ?? config.rateLimitPerMin),
      isoTime(key.createdAtMs).slice(0, 10),
      key.expiresAtMs === undefined ? "never" : isoTime(key.expiresAtMs).slice(0, 10),
    ]),
  ];
  const widths = rows[0]!.map((_, column) => Math.max(...rows.map((row) => row[column]!.length)));
  return rows
    .map(
      (row) =>
        `${row
          .map((cell, column) => cell.padEnd(widths[column]!))
          .join("  ")
          .trimEnd()}\n`,
    )
    .join("");
}

function perDay(cap: NanoUsd | undefined, fallback: NanoUsd): string {
  return cap === undefined ? `${usd(fallback)} a day (the server's default)` : `${usd(cap)} a day`;
}

function perMinute(key: ApiKey, config: Config): string {
  if (key.rateLimitPerMin === undefined) return `${config.rateLimitPerMin} requests a minute (the server's default)`;
  return `${key.rateLimitPerMin} requests a minute`;
}

/** Two decimals at least, as people write dollars. */
function usd(amount: NanoUsd): string {
  const [whole = "0", fraction = ""] = formatUsd(amount).split(".");
  return `$${whole}.${fraction.padEnd(2, "0")}`;
}

/** Where a caller on this machine reaches the server that has these settings. */
function serverUrl(config: Config): string {
  const host = config.host === "0.0.0.0" || config.host === "::" ? "127.0.0.1" : config.host;
  return `http://${host.includes(":") ? `[${host}]` : host}:${config.port}`;
}

const revokedAtMs = (key: ApiKey): number => (key.state.kind === "revoked" ? key.state.revokedAtMs : key.createdAtMs);
const isoTime = (ms: number): string => new Date(ms).toISOString();
const json = (value: unknown): string => `${JSON.stringify(value, null, 2)}\n`;
const printable = (text: string): string => text.replace(/\p{Cc}/gu, "?");
const shortened = (text: string, most: number): string => (text.length > most ? `${text.slice(0, most - 3)}...` : text);
