import { createCredentialStore } from "../credentials/credential-store.ts";
import { CLI_ACTOR } from "./administered-keys.ts";
import { parseArguments } from "./arguments.ts";
import type { Command } from "./command.ts";
import { openVault } from "./open-vault.ts";
import { providerArgument } from "./provider-argument.ts";
import { CommandFailed } from "./usage-error.ts";

export const credentialsRemoveHelp = `Removes a provider's stored key; the environment's holds again, where there is one.

  npm run -s brikk -- credentials remove PROVIDER
`;

/** Reads the arguments after `credentials remove`. Throws UsageError. */
export function parseCredentialsRemove(args: readonly string[]): Command {
  const { positionals } = parseArguments(args, {});
  const name = providerArgument("credentials remove", positionals);
  return async ({ database, config, clock, audit }) => {
    const store = createCredentialStore({ database, clock, vault: openVault({ config, clock }), audit });
    const removed = await store.remove(name, "whatever", CLI_ACTOR);
    if (removed === undefined)
      throw new CommandFailed(`No key of ${name} is stored; credentials list shows which are.`);
    const inEnvironment = config.providers.find((each) => each.name === name)?.apiKey !== undefined;
    return {
      text: `The stored key of ${name} is removed; ${inEnvironment ? "the environment's holds again" : "there is none in this environment"}. A running server sees it within two seconds.\n`,
    };
  };
}
