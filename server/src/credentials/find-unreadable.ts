import { type Vault, VaultError } from "../access/vault.ts";
import type { Database } from "../storage/database.ts";
import { lastingSecrets, type SealedEntry } from "./sealed-tables.ts";

const PAGE = 500;

/** The signing secrets and provider credentials that none of the encryption keys opens. Throws what the database throws. */
export async function findUnreadable(database: Database, vault: Vault): Promise<readonly SealedEntry[]> {
  const unreadable: SealedEntry[] = [];
  for (const table of lastingSecrets) {
    let after: SealedEntry["position"] | undefined;
    for (;;) {
      const entries = await table.page(database.query, after, PAGE);
      unreadable.push(...entries.filter(({ sealed, purpose }) => !opens(vault, sealed, purpose)));
      if (entries.length < PAGE) break;
      after = entries.at(-1)?.position;
    }
  }
  return unreadable;
}

function opens(vault: Vault, sealed: string, purpose: string): boolean {
  try {
    vault.open(sealed, purpose);
    return true;
  } catch (error) {
    if (error instanceof VaultError) return false;
    throw error;
  }
}
