import { createKeyStore } from "./access/key-store.ts";
import {
  type KeysCommand,
  keysCreateHelp,
  keysHelp,
  keysListHelp,
  keysRevokeHelp,
  parseKeysCreate,
  parseKeysList,
  parseKeysRevoke,
} from "./cli/keys.ts";
import { CommandFailed, UsageError } from "./cli/usage-error.ts";
import { ConfigError, loadConfigFromProcess } from "./config.ts";
import { systemClock } from "./lib/clock.ts";
import { StorageOpenError, StorageUnavailable } from "./storage/database.ts";
import { openDatabase } from "./storage/open-database.ts";

export interface CliIo {
  readonly stdout: { write(text: string): unknown };
  readonly stderr: { write(text: string): unknown };
}

const help = `Brikk's command line.

  npm run -s brikk -- keys create --name NAME    make a key
  npm run -s brikk -- keys list                  show all keys
  npm run -s brikk -- keys revoke KEY_ID         end a key for good

It reads the same settings as the server (DATABASE_URL and the others in
.env.example) and works while the server runs. Add --help to a command to
read about it.
`;

type Choice = { readonly kind: "help"; readonly text: string } | { readonly kind: "keys"; readonly run: KeysCommand };

/**
 * Runs one command. 0: done. 1: it could not be done (no such key, storage, settings). 2: it was not understood. What is
 * wrong goes to standard error in a sentence. Does not take the server's lock.
 */
export async function runCli(argv: readonly string[], io: CliIo): Promise<number> {
  try {
    const choice = choose(argv);
    io.stdout.write(choice.kind === "help" ? choice.text : await runOnKeys(choice.run));
    return 0;
  } catch (error) {
    io.stderr.write(`${sentenceOf(error)}\n`);
    return error instanceof UsageError ? 2 : 1;
  }
}

function choose(argv: readonly string[]): Choice {
  const wantsHelp = argv.includes("--help") || argv.includes("-h") || argv[0] === "help";
  const [topic, command, ...args] = argv.filter(
    (argument) => !wantsHelp || !["--help", "-h", "help"].includes(argument),
  );
  if (topic === undefined) {
    if (wantsHelp) return { kind: "help", text: help };
    throw new UsageError(`Which command?\n\n${help}`);
  }
  if (topic !== "keys") throw new UsageError(`There is no command "${topic}". Add --help to see what there is.`);
  switch (command) {
    case "create":
      return wantsHelp ? { kind: "help", text: keysCreateHelp } : { kind: "keys", run: parseKeysCreate(args) };
    case "list":
      return wantsHelp ? { kind: "help", text: keysListHelp } : { kind: "keys", run: parseKeysList(args) };
    case "revoke":
      return wantsHelp ? { kind: "help", text: keysRevokeHelp } : { kind: "keys", run: parseKeysRevoke(args) };
    case undefined:
      if (wantsHelp) return { kind: "help", text: keysHelp };
      throw new UsageError("What about keys? Say keys create, keys list or keys revoke; add --help to read more.");
    default:
      if (wantsHelp) return { kind: "help", text: keysHelp };
      throw new UsageError(`There is no command "keys ${command}". Say keys create, keys list or keys revoke.`);
  }
}

async function runOnKeys(run: KeysCommand): Promise<string> {
  const config = loadConfigFromProcess();
  const database = await openDatabase({ url: config.databaseUrl });
  try {
    return await run({ keyStore: createKeyStore({ database, clock: systemClock }), config, clock: systemClock });
  } finally {
    await database.close();
  }
}

function sentenceOf(error: unknown): string {
  if (error instanceof UsageError || error instanceof CommandFailed || error instanceof StorageOpenError)
    return error.message;
  if (error instanceof ConfigError) return error.message.replace("Brikk cannot start", "The settings are wrong");
  if (error instanceof StorageUnavailable)
    return `${error.message} Nothing was changed, or it was changed as a whole; keys list tells.`;
  return `This should not have happened: ${error instanceof Error ? error.message : String(error)}`;
}

if (import.meta.main)
  process.exitCode = await runCli(process.argv.slice(2), { stdout: process.stdout, stderr: process.stderr });
