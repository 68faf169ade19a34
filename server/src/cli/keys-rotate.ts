import { ANONYMOUS_KEY_ID } from "../access/api-key.ts";
import { rotationFields } from "../access/key-fields.ts";
import { LONGEST_GRACE_MS } from "../access/rotate-key.ts";
import { HOUR_MS } from "../lib/clock.ts";
import { administeredKeys, CLI_ACTOR, noSuchKey, revokedForGood } from "./administered-keys.ts";
import { keyIdArgument, parseArguments, printable } from "./arguments.ts";
import type { Command } from "./command.ts";
import { isoTime, json } from "./key-view.ts";
import { UsageError } from "./usage-error.ts";

const MOST_GRACE_HOURS = LONGEST_GRACE_MS / HOUR_MS;

export const keysRotateHelp = `Gives a key a new secret, shown this once. Its budgets and usage go on unbroken.

  npm run -s brikk -- keys rotate KEY_ID [--grace-hours N] [--json]

  --grace-hours N   how long the old secret works beside the new one, up to ${MOST_GRACE_HOURS};
                    without it, the old one ends at once
  --json            print JSON

A running server obeys within a second or two.
`;

/** Reads the arguments after `keys rotate`. Throws UsageError. */
export function parseKeysRotate(args: readonly string[]): Command {
  const { values, positionals } = parseArguments(args, {
    "grace-hours": { type: "string" },
    json: { type: "boolean" },
  });
  const keyId = keyIdArgument("keys rotate", positionals);
  if (keyId === ANONYMOUS_KEY_ID)
    throw new UsageError("The anonymous key has no secret, so that there is nothing to rotate.");
  const graceMs = graceOption(values["grace-hours"]) * HOUR_MS;

  return async (parts) => {
    const keyStore = administeredKeys(parts);
    const known = await keyStore.find(keyId);
    if (known === undefined) throw noSuchKey(keyId);
    if (known.key.state.kind === "revoked") throw revokedForGood(keyId);
    const rotation = await keyStore.rotate(keyId, { graceMs }, CLI_ACTOR);
    if (rotation === undefined) throw noSuchKey(keyId);
    if (values.json === true) return { text: json(rotationFields(rotation)) };
    const { key, secret, oldKeyPrefix, oldValidUntilMs } = rotation;
    return {
      text: `Key "${printable(key.name)}" (${key.id}) has a new secret.

  Secret      ${secret}
  Old secret  ${oldKeyPrefix}... ${graceMs === 0 ? "is refused within a second or two" : `works until ${isoTime(oldValidUntilMs)}`}

Copy the secret now: it is shown this once and cannot be read back.
`,
    };
  };
}

function graceOption(text: string | undefined): number {
  if (text === undefined) return 0;
  if (/^\d{1,3}$/.test(text) && Number(text) <= MOST_GRACE_HOURS) return Number(text);
  throw new UsageError(`--grace-hours is "${printable(text)}"; give a whole number from 0 to ${MOST_GRACE_HOURS}.`);
}
