import { Readable, type Writable } from "node:stream";
import { pipeline } from "node:stream/promises";
import { createActRecorder } from "./audit/act-recorder.ts";
import { type AuditTrail, NO_AUDIT_TRAIL } from "./audit/audit-trail.ts";
import { createChainWriter } from "./audit/chain-writer.ts";
import { createHeadSeals } from "./audit/head-seals.ts";
import { auditListHelp, parseAuditList } from "./cli/audit-list.ts";
import { auditVerifyHelp, parseAuditVerify } from "./cli/audit-verify.ts";
import type { Command, Printout } from "./cli/command.ts";
import { credentialsListHelp, parseCredentialsList } from "./cli/credentials-list.ts";
import { credentialsRemoveHelp, parseCredentialsRemove } from "./cli/credentials-remove.ts";
import { credentialsSetHelp, parseCredentialsSet } from "./cli/credentials-set.ts";
import { keysCreateHelp, parseKeysCreate } from "./cli/keys-create.ts";
import { keysListHelp, parseKeysList } from "./cli/keys-list.ts";
import { keysReencryptHelp, parseKeysReencrypt } from "./cli/keys-reencrypt.ts";
import { keysNewSigningSecretHelp, parseKeysNewSigningSecret } from "./cli/keys-new-signing-secret.ts";
import { keysRevokeHelp, parseKeysRevoke } from "./cli/keys-revoke.ts";
import { keysRotateHelp, parseKeysRotate } from "./cli/keys-rotate.ts";
import { keysShowHelp, parseKeysShow } from "./cli/keys-show.ts";
import { keysUpdateHelp, parseKeysUpdate } from "./cli/keys-update.ts";
import { ledgerExportHelp, parseLedgerExport } from "./cli/ledger-export.ts";
import { ledgerVerifyHelp, parseLedgerVerify } from "./cli/ledger-verify.ts";
import { readSecret, type SecretSource } from "./cli/read-secret.ts";
import { parseUsageSummary, usageSummaryHelp } from "./cli/usage-summary.ts";
import { CommandFailed, UsageError } from "./cli/usage-error.ts";
import { type Config, ConfigError, loadConfigFromProcess } from "./config.ts";
import { systemClock } from "./lib/clock.ts";
import { type Database, StorageOpenError, StorageUnavailable } from "./storage/database.ts";
import { openEncryptionKeys } from "./storage/encryption-keys.ts";
import { openDatabase } from "./storage/open-database.ts";

export interface CliIo {
  readonly stdin: SecretSource;
  readonly stdout: Writable;
  readonly stderr: Writable;
}

const help = `Brikk's command line.

  npm run -s brikk -- keys create --name NAME    make a key
  npm run -s brikk -- keys list                  show all keys
  npm run -s brikk -- keys show KEY_ID           show one key
  npm run -s brikk -- keys update KEY_ID         change its caps, limits and rules
  npm run -s brikk -- keys rotate KEY_ID         give it a new secret
  npm run -s brikk -- keys new-signing-secret KEY_ID
  npm run -s brikk -- keys revoke KEY_ID         end a key for good
  npm run -s brikk -- keys reencrypt             seal stored secrets under the newest encryption key
  npm run -s brikk -- credentials set PROVIDER   store a provider's key, read from standard input
  npm run -s brikk -- credentials list           show whose keys are stored
  npm run -s brikk -- credentials remove PROVIDER
  npm run -s brikk -- usage summary              show what all keys used
  npm run -s brikk -- ledger verify              prove that the sums are right
  npm run -s brikk -- ledger export              write usage events out
  npm run -s brikk -- audit list                 who did what
  npm run -s brikk -- audit verify               prove that nobody changed that

It reads the same settings as the server (DATABASE_URL and the others in
.env.example) and works while the server runs. Add --help to a command to
read about it.
`;

const keysHelp = `Makes, lists, changes and revokes the keys that callers present, and renews their secrets.

  npm run -s brikk -- keys create --name NAME [options]
  npm run -s brikk -- keys list [--json]
  npm run -s brikk -- keys show KEY_ID [--json]
  npm run -s brikk -- keys update KEY_ID [options]
  npm run -s brikk -- keys rotate KEY_ID [--grace-hours N] [--json]
  npm run -s brikk -- keys new-signing-secret KEY_ID [--json]
  npm run -s brikk -- keys revoke KEY_ID [--json]
  npm run -s brikk -- keys reencrypt [--json]

It works while the server runs; changes take effect there within a second.
Add --help to a command to read about it.
`;

const credentialsHelp = `Stores, lists and removes the keys that the gateway shows its providers.

  npm run -s brikk -- credentials set PROVIDER [--no-verify]
  npm run -s brikk -- credentials list [--json]
  npm run -s brikk -- credentials remove PROVIDER

They are sealed with BRIKK_ENCRYPTION_KEY and win over the environment's. It
works while the server runs; changes take effect there within two seconds.
Add --help to a command to read about it.
`;

const usageHelp = `Shows what was used, by whom and for what.

  npm run -s brikk -- usage summary [--by key|provider|model|day] [--from TIME] [--to TIME] [--json]

It works while the server runs. Add --help to the command to read about it.
`;

const ledgerHelp = `Reads the ledger: what every request cost, and what every budget has spent.

  npm run -s brikk -- ledger verify [--json]
  npm run -s brikk -- ledger export --from TIME --to TIME --format csv|jsonl [--key KEY_ID]

It works while the server runs, changes nothing and holds nothing up.
Add --help to a command to read about it.
`;

const auditHelp = `Reads the audit trail: every request of a known caller and every act of an administrator.

  npm run -s brikk -- audit list [options]
  npm run -s brikk -- audit verify [--expect-head SEQUENCE:HASH] [--json]

It works while the server runs, changes nothing and holds nothing up.
Add --help to a command to read about it.
`;

interface Topic {
  readonly help: string;
  readonly commands: ReadonlyMap<
    string,
    { readonly help: string; readonly parse: (args: readonly string[]) => Command }
  >;
}

const topics: ReadonlyMap<string, Topic> = new Map([
  [
    "keys",
    {
      help: keysHelp,
      commands: new Map([
        ["create", { help: keysCreateHelp, parse: parseKeysCreate }],
        ["list", { help: keysListHelp, parse: parseKeysList }],
        ["show", { help: keysShowHelp, parse: parseKeysShow }],
        ["update", { help: keysUpdateHelp, parse: parseKeysUpdate }],
        ["rotate", { help: keysRotateHelp, parse: parseKeysRotate }],
        ["new-signing-secret", { help: keysNewSigningSecretHelp, parse: parseKeysNewSigningSecret }],
        ["revoke", { help: keysRevokeHelp, parse: parseKeysRevoke }],
        ["reencrypt", { help: keysReencryptHelp, parse: parseKeysReencrypt }],
      ]),
    },
  ],
  [
    "credentials",
    {
      help: credentialsHelp,
      commands: new Map([
        ["set", { help: credentialsSetHelp, parse: parseCredentialsSet }],
        ["list", { help: credentialsListHelp, parse: parseCredentialsList }],
        ["remove", { help: credentialsRemoveHelp, parse: parseCredentialsRemove }],
      ]),
    },
  ],
  [
    "usage",
    { help: usageHelp, commands: new Map([["summary", { help: usageSummaryHelp, parse: parseUsageSummary }]]) },
  ],
  [
    "ledger",
    {
      help: ledgerHelp,
      commands: new Map([
        ["verify", { help: ledgerVerifyHelp, parse: parseLedgerVerify }],
        ["export", { help: ledgerExportHelp, parse: parseLedgerExport }],
      ]),
    },
  ],
  [
    "audit",
    {
      help: auditHelp,
      commands: new Map([
        ["list", { help: auditListHelp, parse: parseAuditList }],
        ["verify", { help: auditVerifyHelp, parse: parseAuditVerify }],
      ]),
    },
  ],
]);

type Choice = { readonly kind: "help"; readonly text: string } | { readonly kind: "command"; readonly run: Command };

/**
 * Runs one command. 0: done. 1: it could not be done (no such key, storage, settings), or what was verified does not hold.
 * 2: it was not understood. What is wrong goes to standard error in a sentence. Does not take the server's lock.
 */
export async function runCli(
  argv: readonly string[],
  io: CliIo,
  readConfig: () => Config = loadConfigFromProcess,
): Promise<number> {
  try {
    const choice = choose(argv);
    if (choice.kind === "command") return await runOnDatabase(choice.run, io, readConfig());
    io.stdout.write(choice.text);
    return 0;
  } catch (error) {
    io.stderr.write(`${sentenceOf(error)}\n`);
    return error instanceof UsageError ? 2 : 1;
  }
}

function choose(argv: readonly string[]): Choice {
  const wantsHelp = argv.includes("--help") || argv.includes("-h") || argv[0] === "help";
  const [name, command, ...args] = argv.filter(
    (argument) => !wantsHelp || !["--help", "-h", "help"].includes(argument),
  );
  if (name === undefined) {
    if (wantsHelp) return { kind: "help", text: help };
    throw new UsageError(`Which command?\n\n${help}`);
  }
  const topic = topics.get(name);
  if (topic === undefined) throw new UsageError(`There is no command "${name}". Add --help to see what there is.`);
  const known = command === undefined ? undefined : topic.commands.get(command);
  if (wantsHelp) return { kind: "help", text: known?.help ?? topic.help };
  if (known !== undefined) return { kind: "command", run: known.parse(args) };
  const names = [...topic.commands.keys()].map((each) => `${name} ${each}`);
  const say = names.length === 1 ? names[0] : `${names.slice(0, -1).join(", ")} or ${names.at(-1)}`;
  if (command === undefined) throw new UsageError(`What about ${name}? Say ${say}; add --help to read more.`);
  throw new UsageError(`There is no command "${name} ${command}". Say ${say}.`);
}

async function runOnDatabase(run: Command, io: CliIo, config: Config): Promise<number> {
  const database = await openDatabase({ url: config.databaseUrl });
  try {
    const printout = await run({
      database,
      config,
      clock: systemClock,
      readSecret: (prompt) => readSecret(io.stdin, io.stderr, prompt),
      audit: auditOf(config, database),
      tell: (line) => void io.stderr.write(`${line}\n`),
    });
    if (printout.note !== undefined) io.stderr.write(`${printout.note}\n`);
    await print(printout.text, io.stdout);
    return printout.exitCode ?? 0;
  } finally {
    await database.close();
  }
}

/** The encryption key is made, where there is none, by a command that changes something and by no other. */
function auditOf(config: Config, database: Database): AuditTrail {
  if (!config.auditLogging) return NO_AUDIT_TRAIL;
  const seals = createHeadSeals(() => openEncryptionKeys(config.encryptionKeys, config.databaseUrl));
  return createActRecorder(createChainWriter({ database, clock: systemClock, seals }), systemClock);
}

/** As fast as it is read. A reader who has seen enough, such as `head`, ends it without a complaint. */
async function print(text: Printout["text"], stdout: Writable): Promise<void> {
  try {
    await pipeline(typeof text === "string" ? Readable.from([text]) : Readable.from(text), stdout, { end: false });
  } catch (error) {
    if (!(error instanceof Error && "code" in error && error.code === "EPIPE")) throw error;
  }
}

function sentenceOf(error: unknown): string {
  if (error instanceof UsageError || error instanceof CommandFailed || error instanceof StorageOpenError)
    return error.message;
  if (error instanceof ConfigError) return error.message.replace("Brikk cannot start", "The settings are wrong");
  if (error instanceof StorageUnavailable)
    return `${error.message} If something was to be changed, it was changed as a whole or not at all; keys list tells.`;
  return `This should not have happened: ${error instanceof Error ? error.message : String(error)}`;
}

if (import.meta.main)
  process.exitCode = await runCli(process.argv.slice(2), {
    stdin: process.stdin,
    stdout: process.stdout,
    stderr: process.stderr,
  });
