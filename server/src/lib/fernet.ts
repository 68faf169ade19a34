import { createCipheriv, createDecipheriv, createHmac, randomBytes, timingSafeEqual } from "node:crypto";

/**
 * Fernet tokens (github.com/fernet/spec): AES-128-CBC under HMAC-SHA256, with the time of their making in clear. They are read
 * and written by Python's `cryptography` as well. A token's age is not looked at here: what is at rest does not expire.
 */
export interface FernetKey {
  readonly signing: Buffer;
  readonly encryption: Buffer;
}

/** The newest comes first. */
export type FernetKeys = readonly [FernetKey, ...FernetKey[]];

const VERSION = 0x80;
const TIME_END = 9;
const IV_END = 25;
const MAC_LENGTH = 32;
const BLOCK = 16;

/** 32 bytes in base64url, with or without padding; undefined for anything else. */
export function parseFernetKey(text: string): FernetKey | undefined {
  if (!/^[A-Za-z0-9_-]{43}=?$/.test(text)) return undefined;
  const bytes = Buffer.from(text, "base64url");
  if (bytes.length !== 32 || bytes.toString("base64url") !== text.slice(0, 43)) return undefined;
  return { signing: bytes.subarray(0, 16), encryption: bytes.subarray(16) };
}

/** Keys separated by commas; undefined when there is none, or something else among them. */
export function parseFernetKeys(text: string): FernetKeys | undefined {
  const parts = text.split(",").map((part) => part.trim());
  const keys = parts.filter((part) => part !== "").map(parseFernetKey);
  const [first, ...others] = keys.filter((key) => key !== undefined);
  return first === undefined || keys.includes(undefined) ? undefined : [first, ...others];
}

export const newFernetKey = (): string => `${randomBytes(32).toString("base64url")}=`;

export function sealFernet(key: FernetKey, plain: Buffer, nowMs: number, iv: Buffer = randomBytes(16)): string {
  const head = Buffer.alloc(TIME_END);
  head[0] = VERSION;
  head.writeBigUInt64BE(BigInt(Math.floor(nowMs / 1_000)), 1);
  const cipher = createCipheriv("aes-128-cbc", key.encryption, iv);
  const signed = Buffer.concat([head, iv, cipher.update(plain), cipher.final()]);
  return padded(Buffer.concat([signed, macOf(key, signed)]).toString("base64url"));
}

/** What was sealed under the key; undefined when it was not, or was changed since. */
export function openFernet(key: FernetKey, token: string): Buffer | undefined {
  if (!/^[A-Za-z0-9_-]+={0,2}$/.test(token)) return undefined;
  const bytes = Buffer.from(token, "base64url");
  // The last letter has bits to spare, so there are several texts of the same bytes, of which one was given out.
  if (bytes.toString("base64url") !== token.replace(/=+$/, "")) return undefined;
  const ciphertextLength = bytes.length - IV_END - MAC_LENGTH;
  if (ciphertextLength < BLOCK || ciphertextLength % BLOCK !== 0 || bytes[0] !== VERSION) return undefined;
  const signed = bytes.subarray(0, -MAC_LENGTH);
  if (!timingSafeEqual(macOf(key, signed), bytes.subarray(-MAC_LENGTH))) return undefined;
  const decipher = createDecipheriv("aes-128-cbc", key.encryption, bytes.subarray(TIME_END, IV_END));
  try {
    return Buffer.concat([decipher.update(bytes.subarray(IV_END, -MAC_LENGTH)), decipher.final()]);
  } catch {
    return undefined;
  }
}

const macOf = (key: FernetKey, signed: Buffer): Buffer => createHmac("sha256", key.signing).update(signed).digest();

const padded = (text: string): string => text.padEnd(Math.ceil(text.length / 4) * 4, "=");
