import { createKeyStore } from "../access/key-store.ts";
import { keyIdArgument, parseArguments, printable } from "./arguments.ts";
import type { Command } from "./command.ts";
import { changedKey, keyDefaultsHelp, keyOptions, keyOptionsHelp, readKeyChanges } from "./key-options.ts";
import { json, keyFields, keyLines } from "./key-view.ts";
import { CommandFailed, UsageError } from "./usage-error.ts";

export const keysUpdateHelp = `Changes a key. What is left out stays as it is.

  npm run -s brikk -- keys update KEY_ID [options]

  --name NAME               who or what it is for
${keyOptionsHelp}  --json                    print JSON

In an amount's or number's place, "default" takes the day's caps and the
requests per minute back to the server's settings, "none" takes the other caps
and limits away, and --expires-in-days never lets the key live on.

${keyDefaultsHelp}
A running server obeys within a second or two.
`;

/** Reads the arguments after `keys update`. Throws UsageError. */
export function parseKeysUpdate(args: readonly string[]): Command {
  const { values, positionals } = parseArguments(args, { ...keyOptions, json: { type: "boolean" } });
  const keyId = keyIdArgument("keys update", positionals);
  const { json: asJson, ...given } = values;
  if (Object.keys(given).length === 0)
    throw new UsageError("What is to change? Add an option, such as --hard-cap-usd 20; --help shows all of them.");
  const changes = readKeyChanges(given);

  return async ({ database, config, clock }) => {
    const key = await createKeyStore({ database, clock }).update(keyId, (before) => {
      if (before.state.kind === "revoked")
        throw new CommandFailed(`Key ${before.id} was revoked for good and cannot be changed; make a new one.`);
      return changedKey(before, changes, config, clock.now());
    });
    if (key === undefined)
      throw new CommandFailed(`There is no key ${printable(keyId)} in this database; keys list shows the ids.`);
    if (asJson === true) return { text: json({ id: key.id, key_id: key.id, ...keyFields(key, config) }) };
    return {
      text: `Key "${printable(key.name)}" (${key.id}) is changed. A running server obeys within a second or two.\n\n${keyLines(key, config)}`,
    };
  };
}
