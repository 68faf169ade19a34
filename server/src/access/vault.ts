import { type FernetKeys, openFernet, sealFernet } from "../lib/fernet.ts";
import type { Clock } from "../lib/clock.ts";

/**
 * Secrets at rest: sealed under the newest encryption key, opened under any of them. A sealed text names what it is for, so
 * that one cannot be put in another's place in the database.
 */
export interface Vault {
  seal(text: string, purpose: string): string;
  /** Throws VaultError when none of the keys opens it, or when it was sealed for something else. */
  open(sealed: string, purpose: string): string;
  /** Whether the newest key sealed it. */
  isCurrent(sealed: string): boolean;
}

/** A sealed secret cannot be read; the message is fit for an operator and holds nothing of it. */
export class VaultError extends Error {
  override readonly name = "VaultError";
}

/** The newest key comes first. */
export function createVault(options: { readonly keys: FernetKeys; readonly clock: Clock }): Vault {
  const { keys, clock } = options;
  return {
    seal: (text, purpose) => sealFernet(keys[0], Buffer.from(`${purpose}\n${text}`), clock.now()),
    open(sealed, purpose) {
      for (const key of keys) {
        const plain = openFernet(key, sealed)?.toString();
        if (plain === undefined) continue;
        if (plain.startsWith(`${purpose}\n`)) return plain.slice(purpose.length + 1);
        throw new VaultError(
          `What is stored as ${purpose} was sealed for something else; the database was tampered with.`,
        );
      }
      throw new VaultError(
        `What is stored as ${purpose} was sealed under a key that BRIKK_ENCRYPTION_KEY does not hold, or was changed since.`,
      );
    },
    isCurrent: (sealed) => openFernet(keys[0], sealed) !== undefined,
  };
}
