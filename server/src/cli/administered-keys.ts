import { createKeyStore, type KeyStore } from "../access/key-store.ts";
import type { Actor } from "../audit/actor.ts";
import { printable } from "./arguments.ts";
import type { Command } from "./command.ts";
import { CommandFailed } from "./usage-error.ts";
import { openVault } from "./open-vault.ts";

/** Who has the database at hand. */
export const CLI_ACTOR: Actor = { kind: "cli" };

/** The keys of the database that a command works on. */
export const administeredKeys = ({ database, config, clock, audit }: Parameters<Command>[0]): KeyStore =>
  createKeyStore({
    database,
    clock,
    audit,
    vault: openVault({ config, clock }),
  });

export const noSuchKey = (keyId: string): CommandFailed =>
  new CommandFailed(`There is no key ${printable(keyId)} in this database; keys list shows the ids.`);

export const revokedForGood = (keyId: string): CommandFailed =>
  new CommandFailed(`Key ${keyId} was revoked for good and cannot be changed; make a new one.`);
