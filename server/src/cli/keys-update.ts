import { unchangeable } from "../access/key-changes.ts";
import { keyFields } from "../access/key-fields.ts";
import { administeredKeys, CLI_ACTOR, noSuchKey, revokedForGood } from "./administered-keys.ts";
import { keyIdArgument, parseArguments, printable } from "./arguments.ts";
import type { Command } from "./command.ts";
import { keyDefaultsHelp, keyOptions, keyOptionsHelp, misuse, readKeyChanges, revisedKey } from "./key-options.ts";
import { json, keyLines } from "./key-view.ts";
import { UsageError } from "./usage-error.ts";

export const keysUpdateHelp = `Changes a key. What is left out stays as it is.

  npm run -s brikk -- keys update KEY_ID [options]

  --name NAME               who or what it is for
${keyOptionsHelp}  --no-signing-required     take unsigned requests again
  --json                    print JSON

In an amount's or number's place, "default" takes the day's caps and the
requests per minute back to the server's settings, "none" takes the other caps
and limits away, "all" in a list's place takes models, providers or addresses
without a limit, and "never" as --expires-at or --expires-in-days lets the key
live on. --metadata replaces all that was there; --metadata none takes it away.

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

  return async (parts) => {
    const { config, clock } = parts;
    const keyStore = administeredKeys(parts);
    const known = await keyStore.find(keyId);
    if (known === undefined) throw noSuchKey(keyId);
    const fault = unchangeable(known.key, known.hasSigningSecret, changes);
    if (fault !== undefined) throw misuse(fault);
    const key = await keyStore.update(
      keyId,
      (before) => {
        if (before.state.kind === "revoked") throw revokedForGood(keyId);
        return revisedKey(before, changes, config, clock.now());
      },
      CLI_ACTOR,
    );
    if (key === undefined) throw noSuchKey(keyId);
    if (asJson === true) return { text: json({ id: key.id, key_id: key.id, ...keyFields(key, config) }) };
    return {
      text: `Key "${printable(key.name)}" (${key.id}) is changed. A running server obeys within a second or two.\n\n${keyLines(key, config)}`,
    };
  };
}
