import { randomBytes } from "node:crypto";

/**
 * What a key signs its requests with (RFC 9421, hmac-sha256): `brikk_sig_` and 43 characters of base64url, which are the 32
 * bytes of the HMAC key. Unlike a key's secret it is needed in the clear to verify, so it is stored sealed (vault.ts); and it
 * never travels with a request, so whoever reads one has nothing to sign the next one with.
 */
const MARK = "brikk_sig_";
const BYTES = 32;
const FORM = /^brikk_sig_([0-9A-Za-z_-]{43})$/;

export const newSigningSecret = (): string => `${MARK}${randomBytes(BYTES).toString("base64url")}`;

/** The HMAC key of a signing secret; undefined when the text is none. */
export function bytesOf(signingSecret: string): Buffer | undefined {
  const encoded = FORM.exec(signingSecret)?.[1];
  return encoded === undefined ? undefined : Buffer.from(encoded, "base64url");
}
