import { createCredentialStore, credentialFields } from "../credentials/credential-store.ts";
import { findUnreadable } from "../credentials/find-unreadable.ts";
import { parseArguments, printable } from "./arguments.ts";
import type { Command } from "./command.ts";
import { json } from "./key-view.ts";
import { openVault } from "./open-vault.ts";
import { UsageError } from "./usage-error.ts";

export const credentialsListHelp = `Lists the providers and where the key of each comes from. No key is shown, but
the last characters of a stored one that is long enough.

  npm run -s brikk -- credentials list [--json]
`;

/** Reads the arguments after `credentials list`. Throws UsageError. */
export function parseCredentialsList(args: readonly string[]): Command {
  const { values, positionals } = parseArguments(args, { json: { type: "boolean" } });
  if (positionals[0] !== undefined)
    throw new UsageError(`"${printable(positionals[0])}" is not understood; credentials list takes only --json.`);
  return async ({ database, config, clock }) => {
    const vault = openVault({ config, clock });
    const stored = new Map(
      (await createCredentialStore({ database, clock, vault }).list()).map((each) => [each.provider, each]),
    );
    const closed = (await findUnreadable(database, vault)).filter(({ kind }) => kind === "provider credential");
    const names = new Set([...config.providers.map(({ name }) => name), ...stored.keys()]);
    const rows = [...names].map((name) => {
      const own = stored.get(name);
      const inEnvironment = config.providers.find((each) => each.name === name)?.apiKey !== undefined;
      return {
        provider: name,
        source: own ? "stored" : inEnvironment ? "environment" : "none",
        readable: !closed.some((entry) => entry.of === name),
        ...(own ? credentialFields(own) : { hint: null, revision: null, created_at: null, updated_at: null }),
      };
    });
    if (values.json === true) return { text: json(rows) };
    const width = Math.max(...rows.map(({ provider }) => provider.length));
    return {
      text: rows
        .map(({ provider, source, readable, hint, updated_at: updatedAt }) => {
          const facts = [
            ...(hint === null ? [] : [`ends in ${hint}`]),
            ...(updatedAt === null ? [] : [`since ${updatedAt}`]),
            ...(readable ? [] : ["CANNOT BE OPENED: none of the encryption keys sealed it"]),
          ];
          return `${provider.padEnd(width)}  ${source.padEnd(11)}  ${facts.join(", ")}`.trimEnd();
        })
        .join("\n")
        .concat("\n"),
    };
  };
}
