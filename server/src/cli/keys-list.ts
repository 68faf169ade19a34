import { type ApiKey, keyStatusAt } from "../access/api-key.ts";
import { capsOf, listedKeyFields } from "../access/key-fields.ts";
import type { KeyPosition, ListedKey } from "../access/key-list.ts";
import type { KeyStore } from "../access/key-store.ts";
import type { Config } from "../config.ts";
import type { NanoUsd } from "../lib/money.ts";
import { administeredKeys } from "./administered-keys.ts";
import { parseArguments, printable } from "./arguments.ts";
import type { Command } from "./command.ts";
import { isoTime, json, usd } from "./key-view.ts";
import { tableOf } from "./table.ts";
import { UsageError } from "./usage-error.ts";

export const keysListHelp = `Lists all keys, oldest first. Secrets are not stored, so only their first characters are shown.
Caps of the week and month, tokens per minute and requests at once have columns when any key has them.

  npm run -s brikk -- keys list [--json]
`;

/** Reads the arguments after `keys list`. Throws UsageError. */
export function parseKeysList(args: readonly string[]): Command {
  const { values, positionals } = parseArguments(args, { json: { type: "boolean" } });
  if (positionals[0] !== undefined)
    throw new UsageError(`"${printable(positionals[0])}" is not understood; keys list takes only --json.`);
  return async (parts) => {
    const { config, clock } = parts;
    const listed = await allKeys(administeredKeys(parts));
    const nowMs = clock.now();
    if (values.json === true) return { text: json(listed.map((one) => listedKeyFields(one, config, nowMs))) };
    if (listed.length === 0)
      return { text: "There are no keys yet. Make one: npm run -s brikk -- keys create --name demo\n" };
    return { text: keyTable(listed, config, nowMs) };
  };
}

/** Page by page, as a store gives them. */
async function allKeys(keyStore: KeyStore): Promise<readonly ListedKey[]> {
  const listed: ListedKey[] = [];
  let after: KeyPosition | undefined;
  do {
    const page = await keyStore.list({ limit: 200, after });
    listed.push(...page.keys);
    after = page.next;
  } while (after !== undefined);
  return listed;
}

interface Column {
  readonly title: string;
  readonly cell: (listed: ListedKey) => string | undefined;
  /** Left out when no key has anything in it. */
  readonly optional?: true;
}

function keyTable(listed: readonly ListedKey[], config: Config, nowMs: number): string {
  const caps = new Map(listed.map(({ key }) => [key, capsOf(key, config)]));
  const amount = (cap: NanoUsd | undefined): string | undefined => (cap === undefined ? undefined : usd(cap));
  const count = (limit: number | undefined): string | undefined => limit?.toString();
  const of = (key: ApiKey) => caps.get(key)!;
  const columns: readonly Column[] = [
    { title: "ID", cell: ({ key }) => key.id },
    { title: "NAME", cell: ({ key }) => shortened(printable(key.name), 32) },
    { title: "STATUS", cell: ({ key }) => keyStatusAt(key, nowMs) },
    { title: "SECRET", cell: ({ secrets }) => secrets.map(({ prefix }) => `${prefix}...`).join(" ") },
    { title: "SOFT CAP", cell: ({ key }) => amount(of(key).day.softCap) },
    { title: "HARD CAP", cell: ({ key }) => amount(of(key).day.hardCap) },
    { title: "WEEK SOFT", cell: ({ key }) => amount(of(key).week.softCap), optional: true },
    { title: "WEEK HARD", cell: ({ key }) => amount(of(key).week.hardCap), optional: true },
    { title: "MONTH SOFT", cell: ({ key }) => amount(of(key).month.softCap), optional: true },
    { title: "MONTH HARD", cell: ({ key }) => amount(of(key).month.hardCap), optional: true },
    { title: "PER MINUTE", cell: ({ key }) => count(key.rateLimitPerMin ?? config.rateLimitPerMin) },
    { title: "TOKENS/MIN", cell: ({ key }) => count(key.tokensPerMin), optional: true },
    { title: "AT ONCE", cell: ({ key }) => count(key.maxConcurrentRequests), optional: true },
    { title: "CREATED", cell: ({ key }) => isoTime(key.createdAtMs).slice(0, 10) },
    {
      title: "EXPIRES",
      cell: ({ key }) => (key.expiresAtMs === undefined ? "never" : isoTime(key.expiresAtMs).slice(0, 10)),
    },
  ];
  const filled = columns
    .map(({ title, cell, optional }) => ({ optional, cells: [title, ...listed.map((one) => cell(one) || "-")] }))
    .filter(({ optional, cells }) => optional !== true || cells.slice(1).some((cell) => cell !== "-"))
    .map(({ cells }) => cells);
  return tableOf(filled[0]!.map((_, row) => filled.map((cells) => cells[row]!)));
}

const shortened = (text: string, most: number): string => (text.length > most ? `${text.slice(0, most - 3)}...` : text);
