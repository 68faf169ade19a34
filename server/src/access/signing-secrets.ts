import { BrikkError } from "../errors.ts";
import { bytesOf } from "./signing-secret.ts";
import { type Vault, VaultError } from "./vault.ts";
import { signingSecretPurpose } from "./vault-purposes.ts";

const MOST_OPENED = 10_000;

/**
 * The HMAC keys of sealed signing secrets. One for each key is remembered, so that not every request opens it. Throws the coded
 * error storage_unavailable when it cannot be opened: that is the operator's to mend, and no reason to let anybody in.
 */
export type OpenSigningSecret = (keyId: string, sealed: string) => Buffer;

export function createSigningSecrets({ vault }: { readonly vault: Vault }): OpenSigningSecret {
  const opened = new Map<string, { readonly sealed: string; readonly bytes: Buffer }>();

  function open(keyId: string, sealed: string): Buffer {
    try {
      const bytes = bytesOf(vault.open(sealed, signingSecretPurpose(keyId)));
      if (bytes !== undefined) return bytes;
      throw new VaultError(`What is stored as ${signingSecretPurpose(keyId)} is not a signing secret.`);
    } catch (cause) {
      throw new BrikkError(
        "storage_unavailable",
        "The signature could not be checked because the key's signing secret cannot be read here. It may well be right; whoever runs this gateway finds the reason in its log.",
        { cause, retryAfterMs: 30_000 },
      );
    }
  }

  return (keyId, sealed) => {
    const known = opened.get(keyId);
    if (known?.sealed === sealed) return known.bytes;
    const bytes = open(keyId, sealed);
    opened.delete(keyId);
    if (opened.size >= MOST_OPENED) opened.delete(opened.keys().next().value!);
    opened.set(keyId, { sealed, bytes });
    return bytes;
  };
}
