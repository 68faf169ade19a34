import { keyFields } from "../access/key-fields.ts";
import type { Config } from "../config.ts";
import { administeredKeys, CLI_ACTOR } from "./administered-keys.ts";
import { parseArguments, printable } from "./arguments.ts";
import type { Command } from "./command.ts";
import { keyDefaultsHelp, keyOptions, keyOptionsHelp, readKeyChanges, revisedKey } from "./key-options.ts";
import { json, keyLines } from "./key-view.ts";
import { UsageError } from "./usage-error.ts";

export const keysCreateHelp = `Makes a key and shows its secret, this once.

  npm run -s brikk -- keys create --name NAME [options]

  --name NAME               who or what it is for
${keyOptionsHelp}  --json                    print JSON

${keyDefaultsHelp}`;

/** Reads the arguments after `keys create`. Throws UsageError. */
export function parseKeysCreate(args: readonly string[]): Command {
  const { values, positionals } = parseArguments(args, { ...keyOptions, json: { type: "boolean" } });
  if (positionals[0] !== undefined)
    throw new UsageError(`"${printable(positionals[0])}" is not understood; give the name as --name NAME.`);
  const changes = readKeyChanges(values);
  const { name } = changes;
  if (name === undefined) throw new UsageError("A key needs a name: add --name NAME.");

  return async (parts) => {
    const { config, clock } = parts;
    const wanted = revisedKey({ name }, changes, config, clock.now());
    const { key, secret, signingSecret } = await administeredKeys(parts).create(wanted, CLI_ACTOR);
    if (values.json === true)
      return {
        text: json({
          id: key.id,
          key_id: key.id,
          key: secret,
          ...(signingSecret !== undefined && { signing_secret: signingSecret }),
          ...keyFields(key, config),
        }),
      };
    if (signingSecret !== undefined)
      return {
        text: `Key "${key.name}" is ready.

  Secret      ${secret}
  Signing     ${signingSecret}
  Key id      ${key.id}
${keyLines(key, config)}
Copy both secrets now: they are shown this once and cannot be read back.
Requests must be signed with the second one; docs/signing.md shows how.
`,
      };
    return {
      text: `Key "${key.name}" is ready.

  Secret      ${secret}
  Key id      ${key.id}
${keyLines(key, config)}
Copy the secret now: it is shown this once and cannot be read back.

Try it:

  curl ${serverUrl(config)}/v1/chat/completions \\
    -H "Authorization: Bearer ${secret}" \\
    -H "Content-Type: application/json" \\
    -d '{"model": "${key.allowedModels?.[0] ?? "brikk/auto"}", "messages": [{"role": "user", "content": "Hello!"}]}'
`,
    };
  };
}

/** Where a caller on this machine reaches the server that has these settings. */
function serverUrl(config: Config): string {
  const host = config.host === "0.0.0.0" || config.host === "::" ? "127.0.0.1" : config.host;
  return `http://${host.includes(":") ? `[${host}]` : host}:${config.port}`;
}
