import { ANONYMOUS_KEY_ID } from "../access/api-key.ts";
import { keyFields } from "../access/key-fields.ts";
import { administeredKeys, CLI_ACTOR, noSuchKey } from "./administered-keys.ts";
import { keyIdArgument, parseArguments, printable } from "./arguments.ts";
import type { Command } from "./command.ts";
import { isoTime, json } from "./key-view.ts";

export const keysRevokeHelp = `Revokes a key for good. A running server refuses it within a second.

  npm run -s brikk -- keys revoke KEY_ID [--json]

KEY_ID is the public id that begins with bk_, as shown by keys list. With
${ANONYMOUS_KEY_ID} callers without a key are refused from then on, for good; to
switch them off for a time, start the server with BRIKK_REQUIRE_AUTH=true.
`;

/** Reads the arguments after `keys revoke`. Throws UsageError. */
export function parseKeysRevoke(args: readonly string[]): Command {
  const { values, positionals } = parseArguments(args, { json: { type: "boolean" } });
  const keyId = keyIdArgument("keys revoke", positionals);
  return async (parts) => {
    const revocation = await administeredKeys(parts).revoke(keyId, CLI_ACTOR);
    if (revocation === undefined) throw noSuchKey(keyId);
    const { key, changed } = revocation;
    if (values.json === true)
      return { text: json({ id: key.id, key_id: key.id, ...keyFields(key, parts.config), status: "revoked" }) };
    const name = `Key "${printable(key.name)}" (${key.id})`;
    if (changed) return { text: `${name} is revoked. A running server refuses it within a second.\n` };
    const revokedAtMs = key.state.kind === "revoked" ? key.state.revokedAtMs : key.createdAtMs;
    return { text: `${name} was already revoked, on ${isoTime(revokedAtMs)}.\n` };
  };
}
