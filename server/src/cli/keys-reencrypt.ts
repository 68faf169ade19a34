import { type Reencryption, reencrypt } from "../credentials/reencrypt.ts";
import { CLI_ACTOR } from "./administered-keys.ts";
import { parseArguments, printable } from "./arguments.ts";
import type { Command } from "./command.ts";
import { json } from "./key-view.ts";
import { openVault } from "./open-vault.ts";
import { UsageError } from "./usage-error.ts";

export const keysReencryptHelp = `Seals every stored secret anew under the newest encryption key, the first in
BRIKK_ENCRYPTION_KEY, so that the older ones can be dropped.

  npm run -s brikk -- keys reencrypt [--json]

Give the new key to every server first, before the old one (NEW,OLD), and
restart them; then run this; then take the old key away. It works while the
servers run, a small transaction at a time, and may be interrupted and run again.

Exit code 0: all is sealed under the newest key. 1: something could be opened by
none of the keys; it is named and was left as it is.
`;

const MAX_NAMED = 20;

/** Reads the arguments after `keys reencrypt`. Throws UsageError. */
export function parseKeysReencrypt(args: readonly string[]): Command {
  const { values, positionals } = parseArguments(args, { json: { type: "boolean" } });
  if (positionals[0] !== undefined)
    throw new UsageError(`"${printable(positionals[0])}" is not understood; keys reencrypt takes only --json.`);
  return async ({ database, config, clock, audit }) => {
    const done = await reencrypt({ database, vault: openVault({ config, clock }), clock });
    const { resealed, current, dropped, unreadable } = done;
    // This seals the trail's own head under the newest key, too, or it would be left behind with the old one.
    await audit.record({
      actor: CLI_ACTOR,
      action: "secrets.reencrypt",
      after: { resealed, already_current: current, old_answers_dropped: dropped, unreadable: unreadable.length },
    });
    return {
      text: values.json === true ? json(fieldsOf(done)) : summaryOf(done),
      exitCode: done.unreadable.length === 0 ? 0 : 1,
    };
  };
}

const fieldsOf = ({ resealed, current, dropped, unreadable }: Reencryption) => ({
  resealed,
  already_current: current,
  old_answers_dropped: dropped,
  unreadable: unreadable.map((entry) => ({ kind: entry.kind, of: entry.of })),
});

function summaryOf({ resealed, current, dropped, unreadable }: Reencryption): string {
  const named = unreadable.slice(0, MAX_NAMED).map((entry) => `  ${entry.kind} of ${printable(entry.of)}`);
  return [
    `Sealed anew            ${resealed}`,
    `Sealed so already      ${current}`,
    `Old answers dropped    ${dropped}`,
    `Opened by no key       ${unreadable.length}`,
    ...named,
    ...(unreadable.length > MAX_NAMED ? [`  ... and ${unreadable.length - MAX_NAMED} more`] : []),
    unreadable.length === 0
      ? "The older keys can be taken out of BRIKK_ENCRYPTION_KEY, when every server has the newest as its first."
      : "Put the key that sealed these into BRIKK_ENCRYPTION_KEY and run this again; or store them anew.",
    "",
  ].join("\n");
}
