import { ACTOR_KINDS } from "../audit/actor.ts";
import { ENTRY_KINDS } from "../audit/audit-entry.ts";
import { type EntryFilter, type EntryPosition, readEntries, type ShownEntry } from "../audit/read-entries.ts";
import type { Database } from "../storage/database.ts";
import { countOption, parseArguments, printable, publicKeyId, timeOption } from "./arguments.ts";
import type { Command } from "./command.ts";
import { UsageError } from "./usage-error.ts";

export const auditListHelp = `Shows entries of the audit trail, newest first, while the server runs.

  npm run -s brikk -- audit list [options]

  --kind KIND          ${ENTRY_KINDS.join(", ")}
  --actor ACTOR        ${ACTOR_KINDS.join(", ")}
  --key KEY_ID         what this key did
  --target TARGET      acts upon this key or provider
  --action PREFIX      acts and notices whose name begins so, such as key.
  --route PREFIX       requests whose route begins so, such as /admin
  --status STATUS      such as 429
  --code CODE          an error's code, such as invalid_api_key
  --ip ADDRESS
  --request REQUEST_ID
  --from TIME          the first moment: 2026-11-01, or 2026-11-01T09:00:00Z
  --to TIME            the first moment that is left out
  --limit N            at most so many entries, 50 unless given
  --json               a JSON object per line, with everything

Times are UTC.
`;

const MOST = 1_000_000;
const PAGE = 500;

/** Reads the arguments after `audit list`. Throws UsageError. */
export function parseAuditList(args: readonly string[]): Command {
  const { values, positionals } = parseArguments(args, {
    kind: { type: "string" },
    actor: { type: "string" },
    key: { type: "string" },
    target: { type: "string" },
    action: { type: "string" },
    route: { type: "string" },
    status: { type: "string" },
    code: { type: "string" },
    ip: { type: "string" },
    request: { type: "string" },
    from: { type: "string" },
    to: { type: "string" },
    limit: { type: "string" },
    json: { type: "boolean" },
  });
  if (positionals[0] !== undefined)
    throw new UsageError(
      `"${printable(positionals[0])}" is not understood; say what is wanted with options, see --help.`,
    );
  const filter: EntryFilter = {
    kind: oneOf("kind", values.kind, ENTRY_KINDS),
    actor: oneOf("actor", values.actor, ACTOR_KINDS),
    keyId: values.key === undefined ? undefined : publicKeyId(values.key),
    target: values.target === undefined ? undefined : publicKeyId(values.target),
    action: values.action,
    route: values.route,
    status: countOption("status", values.status, 599, "any") ?? undefined,
    code: values.code,
    ip: values.ip,
    requestId: values.request,
  };
  const fromMs = values.from === undefined ? 0 : timeOption("from", values.from);
  const toMs = values.to === undefined ? Number.MAX_SAFE_INTEGER : timeOption("to", values.to);
  if (fromMs >= toMs) throw new UsageError("--from must be before --to, which is itself left out.");
  const limit = countOption("limit", values.limit, MOST, "all") ?? (values.limit === undefined ? 50 : MOST);
  const lineOf = values.json === true ? (entry: ShownEntry) => JSON.stringify(entry) : shortLine;
  return async ({ database }) => ({ text: linesOf(database, { filter, fromMs, toMs, limit }, lineOf) });
}

function oneOf<const T extends string>(name: string, text: string | undefined, known: readonly T[]): T | undefined {
  if (text === undefined) return undefined;
  const found = known.find((one) => one === text);
  if (found !== undefined) return found;
  throw new UsageError(`--${name} is "${printable(text)}"; give one of ${known.join(", ")}.`);
}

async function* linesOf(
  database: Database,
  wanted: { readonly filter: EntryFilter; readonly fromMs: number; readonly toMs: number; readonly limit: number },
  lineOf: (entry: ShownEntry) => string,
): AsyncGenerator<string> {
  let before: EntryPosition | undefined;
  for (let left = wanted.limit; left > 0;) {
    const page = await readEntries(database, { ...wanted, before, limit: Math.min(left, PAGE) });
    if (page.entries.length > 0) yield page.entries.map((entry) => `${lineOf(entry)}\n`).join("");
    left -= page.entries.length;
    before = page.next;
    if (before === undefined) return;
  }
}

/** What matters of an entry, in one line. */
function shortLine(entry: ShownEntry): string {
  const { sequence, at, kind, actor, key_id: keyId, action, method, route, target, status, code, ip, details } = entry;
  const parts = [
    String(sequence),
    at,
    kind,
    keyId ?? actor,
    ip,
    action ?? (method === null ? null : `${method} ${route ?? ""}`.trimEnd()),
    target,
    status === null ? null : String(status),
    code,
    details === null ? null : JSON.stringify(details),
  ];
  return printable(parts.filter((part) => part !== null).join("  "));
}
