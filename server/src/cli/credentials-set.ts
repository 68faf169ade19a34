import { createCredentialStore, type StoredCredential } from "../credentials/credential-store.ts";
import { checkCredential, type CredentialCheck } from "../providers/check-credential.ts";
import { CLI_ACTOR } from "./administered-keys.ts";
import { parseArguments } from "./arguments.ts";
import type { Command } from "./command.ts";
import { openVault } from "./open-vault.ts";
import { providerArgument } from "./provider-argument.ts";
import { CommandFailed } from "./usage-error.ts";

export const credentialsSetHelp = `Stores the key that the gateway shows a provider, in the environment's place.

  npm run -s brikk -- credentials set PROVIDER [--no-verify] < FILE

The key is read from standard input; on a terminal it is asked for and not
shown. The provider is asked for its models with it first, and a key that it
refuses is not stored.

  --no-verify   store it without asking the provider
`;

/** Reads the arguments after `credentials set`. Throws UsageError. */
export function parseCredentialsSet(args: readonly string[]): Command {
  const { values, positionals } = parseArguments(args, { "no-verify": { type: "boolean" } });
  const name = providerArgument("credentials set", positionals);
  return async ({ database, config, clock, audit, readSecret }) => {
    const provider = config.providers.find((each) => each.name === name);
    if (provider === undefined)
      throw new CommandFailed(
        `There is no provider ${name}; there are ${config.providers.map((each) => each.name).join(", ")}.`,
      );
    const vault = openVault({ config, clock });
    const credential = await readSecret(`Key of ${name} (it is not shown): `);
    if (!/^[\x21-\x7e]{1,4096}$/.test(credential))
      throw new CommandFailed("It has characters that no key has, such as spaces; paste it again.");
    const check =
      values["no-verify"] === true ? undefined : await checkCredential({ ...provider, apiKey: credential }, config);
    if (check !== undefined) refuseUnfit(name, check);
    const stored = await createCredentialStore({ database, clock, vault, audit }).save(
      name,
      credential,
      "whatever",
      CLI_ACTOR,
    );
    return { text: `${sentenceOf(stored, check)} A running server uses it within two seconds.\n` };
  };
}

function refuseUnfit(name: string, check: CredentialCheck): void {
  if (check.kind === "refused")
    throw new CommandFailed(
      `${name} does not accept this key. Nothing was changed; paste it again, or make a new one.`,
    );
  if (check.kind === "failed")
    throw new CommandFailed(
      `${name} could not be asked whether it accepts this key (${check.fault}). Nothing was changed; --no-verify stores it without asking.`,
    );
}

function sentenceOf({ provider, hint }: StoredCredential, check: CredentialCheck | undefined): string {
  const which = `The key of ${provider}${hint === undefined ? "" : `, which ends in ${hint},`} is stored`;
  if (check === undefined) return `${which}; ${provider} was not asked about it.`;
  return check.kind === "accepted"
    ? `${which}; ${provider} accepts it.`
    : `${which}; ${provider} has no list of models, so it is not known whether it accepts it.`;
}
