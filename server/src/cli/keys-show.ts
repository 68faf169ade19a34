import { keyStatusAt } from "../access/api-key.ts";
import { listedKeyFields } from "../access/key-fields.ts";
import { administeredKeys, noSuchKey } from "./administered-keys.ts";
import { keyIdArgument, parseArguments, printable } from "./arguments.ts";
import type { Command } from "./command.ts";
import { isoTime, json, keyLines, linesOf } from "./key-view.ts";

export const keysShowHelp = `Shows one key: its caps, limits and rules, and the beginnings of its secrets.

  npm run -s brikk -- keys show KEY_ID [--json]

KEY_ID is the public id that begins with bk_, as shown by keys list.
`;

/** Reads the arguments after `keys show`. Throws UsageError. */
export function parseKeysShow(args: readonly string[]): Command {
  const { values, positionals } = parseArguments(args, { json: { type: "boolean" } });
  const keyId = keyIdArgument("keys show", positionals);
  return async (parts) => {
    const { config, clock } = parts;
    const listed = await administeredKeys(parts).find(keyId);
    if (listed === undefined) throw noSuchKey(keyId);
    const nowMs = clock.now();
    if (values.json === true) return { text: json(listedKeyFields(listed, config, nowMs)) };
    const { key, secrets, hasSigningSecret } = listed;
    const status = keyStatusAt(key, nowMs);
    return {
      text:
        `Key "${printable(key.name)}" (${key.id})\n\n` +
        linesOf([
          ["Status", key.state.kind === "revoked" ? `revoked on ${isoTime(key.state.revokedAtMs)}` : status],
          ["Made", `${isoTime(key.createdAtMs)}${key.selfService === true ? " by self-service" : ""}`],
          ...secrets.map(({ prefix, notAfterMs }) => [
            "Secret",
            `${prefix}...${notAfterMs === undefined ? "" : ` (replaced; ${notAfterMs <= nowMs ? "ended" : "ends"} ${isoTime(notAfterMs)})`}`,
          ]),
          ...(hasSigningSecret ? [["Signing", "it has a signing secret"]] : []),
        ]) +
        keyLines(key, config),
    };
  };
}
