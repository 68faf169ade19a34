import { readEventsFrom } from "../ledger/events-from.ts";
import { type ExportedEvent, exportUsageEvents } from "../ledger/usage-export.ts";
import type { UsageScope } from "../ledger/usage-scope.ts";
import { parseArguments, printable, publicKeyId, timeOption } from "./arguments.ts";
import type { Command } from "./command.ts";
import { type EventText, eventTexts } from "./event-text.ts";
import { isoTime } from "./key-view.ts";
import { CommandFailed, UsageError } from "./usage-error.ts";

export const ledgerExportHelp = `Writes usage events to standard output, oldest first, while the server runs.

  npm run -s brikk -- ledger export --from TIME --to TIME --format csv|jsonl [--key KEY_ID]

  --from TIME          the first moment: 2026-11-01, or 2026-11-01T09:00:00Z
  --to TIME            the first moment that is left out
  --format csv|jsonl   a table with a header, or a JSON object per line
  --key KEY_ID         this key only

Times are UTC. Amounts are exact, as decimal USD and as integer nano-USD. In
CSV, text that a spreadsheet would take for a formula has a ' in front.
`;

/** Reads the arguments after `ledger export`. Throws UsageError. */
export function parseLedgerExport(args: readonly string[]): Command {
  const { values, positionals } = parseArguments(args, {
    from: { type: "string" },
    to: { type: "string" },
    format: { type: "string" },
    key: { type: "string" },
  });
  if (positionals[0] !== undefined)
    throw new UsageError(
      `"${printable(positionals[0])}" is not understood; say what is wanted with options, see --help.`,
    );
  const fromMs = timeOption("from", values.from);
  const toMs = timeOption("to", values.to);
  if (fromMs >= toMs) throw new UsageError("--from must be before --to, which is itself left out.");
  const format = formatOption(values.format);
  const keyId = values.key === undefined ? undefined : publicKeyId(values.key);

  return async ({ database }) => {
    if (keyId !== undefined) {
      const key = await database.query.selectFrom("api_keys").select("id").where("id", "=", keyId).executeTakeFirst();
      if (key === undefined)
        throw new CommandFailed(`There is no key ${printable(keyId)} in this database; keys list shows the ids.`);
    }
    // What is older may be half deleted, so it is left out whole, and said so.
    const keptFromMs = (await readEventsFrom(database)) ?? 0;
    const scope: UsageScope = keyId === undefined ? "all-keys" : { keyId };
    const pages = exportUsageEvents(database, { scope, fromMs: Math.max(fromMs, keptFromMs), toMs });
    return {
      text: textOf(pages, format),
      ...(keptFromMs > fromMs && {
        note: `Events before ${isoTime(keptFromMs)} were deleted, as BRIKK_USAGE_RETENTION_DAYS wants; the export begins there.`,
      }),
    };
  };
}

function formatOption(text: string | undefined): EventText {
  if (text === undefined) throw new UsageError("In which form? Add --format csv or --format jsonl.");
  if (text === "csv" || text === "jsonl") return eventTexts[text];
  throw new UsageError(`--format is "${printable(text)}"; give csv or jsonl.`);
}

async function* textOf(pages: AsyncIterable<readonly ExportedEvent[]>, format: EventText): AsyncGenerator<string> {
  if (format.head !== "") yield format.head;
  for await (const page of pages) yield page.map((event) => format.line(event)).join("");
}
