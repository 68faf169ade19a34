import { hash } from "node:crypto";
import { crc32 } from "node:zlib";
import { randomBase62, toBase62 } from "../lib/ids.ts";

/**
 * A key's secret: `brikk_`, 40 random base62 characters (238 bits), and 6 characters of checksum: the CRC-32 of those 40 in
 * base 62. The checksum is no protection; it tells a mistyped or cut-off secret from an unknown one without asking the
 * database, and lets scanners find leaked secrets with few false alarms.
 */
const MARK = "brikk_";
const RANDOM_LENGTH = 40;
const CHECKSUM_LENGTH = 6;
const SHOWN_LENGTH = 12;
const FORM = /^brikk_[0-9A-Za-z]{46}$/;

/** A secret that is well formed; whether it is anybody's is the key ring's to say. */
export type Secret = string & { readonly form: "brikk secret" };

export function newSecret(): Secret {
  const random = randomBase62(RANDOM_LENGTH);
  return `${MARK}${random}${checksumOf(random)}` as Secret;
}

/** The text as a secret if it has the form and its checksum holds. */
export function parseSecret(text: string): Secret | undefined {
  if (!FORM.test(text)) return undefined;
  const random = text.slice(MARK.length, MARK.length + RANDOM_LENGTH);
  return text.endsWith(checksumOf(random)) ? (text as Secret) : undefined;
}

function checksumOf(random: string): string {
  return toBase62(crc32(random), CHECKSUM_LENGTH);
}

/** Whether the text was meant as a secret of Brikk's, mistyped or not. */
export const looksLikeSecret = (text: string): boolean => text.startsWith(MARK);

/** SHA-256 in lower-case hex: all that is ever stored of a secret. One round is enough for 238 random bits. */
export const hashSecret = (secret: Secret): string => hash("sha256", secret, "hex");

/** The first characters, by which people recognise a secret without knowing it. */
export const secretPrefix = (secret: Secret): string => secret.slice(0, SHOWN_LENGTH);
