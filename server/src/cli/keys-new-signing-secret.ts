import { ANONYMOUS_KEY_ID } from "../access/api-key.ts";
import { administeredKeys, CLI_ACTOR, noSuchKey, revokedForGood } from "./administered-keys.ts";
import { keyIdArgument, parseArguments, printable } from "./arguments.ts";
import type { Command } from "./command.ts";
import { json } from "./key-view.ts";
import { UsageError } from "./usage-error.ts";

export const keysNewSigningSecretHelp = `Gives a key a new signing secret, shown this once. The old one ends at once.

  npm run -s brikk -- keys new-signing-secret KEY_ID [--json]

Signatures become a duty with: keys update KEY_ID --signing-required
`;

/** Reads the arguments after `keys new-signing-secret`. Throws UsageError. */
export function parseKeysNewSigningSecret(args: readonly string[]): Command {
  const { values, positionals } = parseArguments(args, { json: { type: "boolean" } });
  const keyId = keyIdArgument("keys new-signing-secret", positionals);
  if (keyId === ANONYMOUS_KEY_ID)
    throw new UsageError("The anonymous key has no signing secret: its callers share it without any.");

  return async (parts) => {
    const keyStore = administeredKeys(parts);
    const known = await keyStore.find(keyId);
    if (known === undefined) throw noSuchKey(keyId);
    if (known.key.state.kind === "revoked") throw revokedForGood(keyId);
    const signingSecret = await keyStore.renewSigningSecret(keyId, CLI_ACTOR);
    if (signingSecret === undefined) throw noSuchKey(keyId);
    if (values.json === true) return { text: json({ key_id: keyId, signing_secret: signingSecret }) };
    return {
      text: `Key "${printable(known.key.name)}" (${keyId}) has a new signing secret.

  Signing     ${signingSecret}

Copy it now: it is shown this once and cannot be read back.
`,
    };
  };
}
