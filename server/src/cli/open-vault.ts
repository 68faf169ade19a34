import { createVault, type Vault } from "../access/vault.ts";
import type { Config } from "../config.ts";
import type { Clock } from "../lib/clock.ts";
import { openEncryptionKeys } from "../storage/encryption-keys.ts";

/** With the encryption keys that a server with the same settings has. Throws StorageOpenError. */
export const openVault = ({ config, clock }: { readonly config: Config; readonly clock: Clock }): Vault =>
  createVault({ keys: openEncryptionKeys(config.encryptionKeys, config.databaseUrl), clock });
