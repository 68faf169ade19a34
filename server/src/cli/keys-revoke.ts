import { ANONYMOUS_KEY_ID } from "../access/api-key.ts";
import { createKeyStore } from "../access/key-store.ts";
import { keyIdArgument, parseArguments, printable } from "./arguments.ts";
import type { Command } from "./command.ts";
import { isoTime, json, keyFields } from "./key-view.ts";
import { CommandFailed, UsageError } from "./usage-error.ts";

export const keysRevokeHelp = `Revokes a key for good. A running server refuses it within a second.

  npm run -s brikk -- keys revoke KEY_ID [--json]

KEY_ID is the public id that begins with bk_, as shown by keys list.
`;

/** Reads the arguments after `keys revoke`. Throws UsageError. */
export function parseKeysRevoke(args: readonly string[]): Command {
  const { values, positionals } = parseArguments(args, { json: { type: "boolean" } });
  const keyId = keyIdArgument("keys revoke", positionals);
  if (keyId === ANONYMOUS_KEY_ID) {
    throw new UsageError(
      "The anonymous key is not revoked but switched off: start the server with BRIKK_REQUIRE_AUTH=true.",
    );
  }
  return async ({ database, config, clock }) => {
    const revocation = await createKeyStore({ database, clock }).revoke(keyId);
    if (revocation === undefined)
      throw new CommandFailed(`There is no key ${printable(keyId)} in this database; keys list shows the ids.`);
    const { key, changed } = revocation;
    if (values.json === true)
      return { text: json({ id: key.id, key_id: key.id, ...keyFields(key, config), status: "revoked" }) };
    const name = `Key "${printable(key.name)}" (${key.id})`;
    if (changed) return { text: `${name} is revoked. A running server refuses it within a second.\n` };
    const revokedAtMs = key.state.kind === "revoked" ? key.state.revokedAtMs : key.createdAtMs;
    return { text: `${name} was already revoked, on ${isoTime(revokedAtMs)}.\n` };
  };
}
