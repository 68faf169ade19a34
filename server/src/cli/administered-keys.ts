import { createKeyStore, type KeyStore } from "../access/key-store.ts";
import { createVault } from "../access/vault.ts";
import type { Actor } from "../audit/actor.ts";
import { openEncryptionKeys } from "../storage/encryption-keys.ts";
import { printable } from "./arguments.ts";
import type { Command } from "./command.ts";
import { CommandFailed } from "./usage-error.ts";

/** Who has the database at hand. */
export const CLI_ACTOR: Actor = { kind: "cli" };

/** The keys of the database that a command works on. */
export const administeredKeys = ({ database, config, clock, audit }: Parameters<Command>[0]): KeyStore =>
  createKeyStore({
    database,
    clock,
    audit,
    vault: createVault({ keys: openEncryptionKeys(config.encryptionKeys, config.databaseUrl), clock }),
  });

export const noSuchKey = (keyId: string): CommandFailed =>
  new CommandFailed(`There is no key ${printable(keyId)} in this database; keys list shows the ids.`);

export const revokedForGood = (keyId: string): CommandFailed =>
  new CommandFailed(`Key ${keyId} was revoked for good and cannot be changed; make a new one.`);
