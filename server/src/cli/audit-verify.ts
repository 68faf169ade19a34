import { existsSync } from "node:fs";
import type { ChainPlace } from "../audit/entry-hash.ts";
import { createHeadSeals, type HeadSeals } from "../audit/head-seals.ts";
import { type TrailVerification, verifyTrail } from "../audit/verify-trail.ts";
import type { Config } from "../config.ts";
import { shownUtcTime } from "../lib/utc-time.ts";
import { encryptionKeyPath, openEncryptionKeys } from "../storage/encryption-keys.ts";
import { parseArguments, printable } from "./arguments.ts";
import type { Command } from "./command.ts";
import { json } from "./key-view.ts";
import { UsageError } from "./usage-error.ts";

export const auditVerifyHelp = `Proves the audit trail from its own rows, while the server runs.

  npm run -s brikk -- audit verify [--expect-head SEQUENCE:HASH] [--json]

  --expect-head SEQUENCE:HASH   a head that was noted elsewhere: in the server's
                                log (hourly, and at every start and stop), or
                                from GET /admin/audit/head

It finds entries that were changed, put in, taken out or moved, a trail that
begins or ends elsewhere than it should, and one that was written anew by
somebody who does not have BRIKK_ENCRYPTION_KEY. That all of it was put back
to an earlier state, only a head that was noted elsewhere can show.

Exit code 0: all of it holds. 1: it does not, and the entries are named.
`;

/** Between two lines of progress. */
const TELL_EVERY_MS = 2_000;

/** Reads the arguments after `audit verify`. Throws UsageError. */
export function parseAuditVerify(args: readonly string[]): Command {
  const { values, positionals } = parseArguments(args, {
    json: { type: "boolean" },
    "expect-head": { type: "string" },
  });
  if (positionals[0] !== undefined)
    throw new UsageError(
      `"${printable(positionals[0])}" is not understood; audit verify takes only --expect-head and --json.`,
    );
  const expectedHead = headOption(values["expect-head"]);
  return async ({ database, config, tell }) => {
    let toldMs = performance.now();
    const verification = await verifyTrail({
      database,
      seals: sealsOf(config),
      ...(expectedHead !== undefined && { expectedHead }),
      onProgress(entries, head) {
        if (performance.now() - toldMs < TELL_EVERY_MS) return;
        toldMs = performance.now();
        tell(`${entries} entries, of ${head} at most`);
      },
    });
    return {
      text: values.json === true ? json(fieldsOf(verification)) : summaryOf(verification),
      exitCode: verification.faultCount === 0 ? 0 : 1,
    };
  };
}

function headOption(text: string | undefined): ChainPlace | undefined {
  if (text === undefined) return undefined;
  const match = /^(\d{1,15}):([0-9a-f]{64})$/.exec(text);
  if (match === null)
    throw new UsageError(
      `--expect-head is "${printable(text)}"; give an entry's number and hash, as in 4711:5f0c...; the log has them.`,
    );
  return { sequence: Number(match[1]), hash: match[2]! };
}

/** A verification makes no key, as a start would. */
function sealsOf({ encryptionKeys, databaseUrl }: Config): HeadSeals | undefined {
  if (encryptionKeys === undefined && !existsSync(encryptionKeyPath(databaseUrl))) return undefined;
  const keys = openEncryptionKeys(encryptionKeys, databaseUrl);
  return createHeadSeals(() => keys);
}

function summaryOf({ entries, beginning, head, faults, faultCount, unstopped, dropped }: TrailVerification): string {
  const lines = [
    faultCount === 0 ? "The audit trail holds." : `The audit trail does not hold: ${counted(faultCount, "fault")}.`,
    "",
    `  Entries  ${entries}${beginning.sequence === 0 ? "" : `, from ${beginning.sequence + 1} on; older ones were deleted as set`}`,
    `  Head     ${head.sequence}:${printable(head.hash)}`,
    ...(dropped === 0 ? [] : [`  Dropped  ${dropped}, which were too many to be written; the notices say when`]),
    ...unstopped.map(
      ({ sequence, occurredAtMs, instance }) =>
        `  Entry ${sequence}: instance ${printable(instance)} started at ${shownUtcTime(occurredAtMs)} and has not stopped: it runs, or it was killed`,
    ),
    ...(faults.length === 0 ? [] : ["", ...faults.map(({ rule, what }) => `  ${rule}: ${printable(what)}`)]),
    ...(faultCount > faults.length ? [`  ... and ${counted(faultCount - faults.length, "more fault")}`] : []),
  ];
  return `${lines.join("\n")}\n`;
}

const counted = (count: number, noun: string): string => `${count} ${noun}${count === 1 ? "" : "s"}`;

const fieldsOf = (verification: TrailVerification): Record<string, unknown> => ({
  ok: verification.faultCount === 0,
  entries: verification.entries,
  beginning: verification.beginning,
  head: verification.head,
  dropped: verification.dropped,
  unstopped: verification.unstopped.map(({ instance, sequence, occurredAtMs }) => ({
    instance,
    sequence,
    at: shownUtcTime(occurredAtMs),
  })),
  fault_count: verification.faultCount,
  faults: verification.faults,
});
