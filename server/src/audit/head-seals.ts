import { createHmac, hkdfSync, timingSafeEqual } from "node:crypto";
import type { FernetKey, FernetKeys } from "../lib/fernet.ts";
import type { ChainPlace } from "./entry-hash.ts";

/**
 * Seals of the chain's head: HMAC-SHA256 under a key that is derived from an encryption key, so that whoever can write the
 * database, and compute the chain's hashes anew, cannot make the head look as if the gateway had written it. A seal names its key
 * by a fingerprint, which tells nothing of it. The head's hash stands for all entries before it: one seal under a key of today
 * vouches for entries of any age, whichever keys were retired since.
 */
export interface HeadSeals {
  /** Under the newest key. */
  seal(head: ChainPlace): string;
  check(head: ChainPlace, seal: string | null): SealStanding;
}

export type SealStanding = "holds" | "broken" | "unknown-key";

interface SealKey {
  readonly fingerprint: string;
  readonly bytes: Buffer;
}

/** The newest key comes first. They are asked for when the first seal is made or read. */
export function createHeadSeals(encryptionKeys: () => FernetKeys): HeadSeals {
  let known: readonly SealKey[] | undefined;
  const keys = (): readonly SealKey[] => (known ??= encryptionKeys().map(sealKeyOf));
  return {
    seal(head) {
      const { fingerprint, bytes } = keys()[0]!;
      return `${fingerprint}.${macOf(bytes, head).toString("hex")}`;
    },
    check(head, seal) {
      // Nothing was ever written.
      if (seal === null) return head.sequence === 0 ? "holds" : "broken";
      const [fingerprint, mac = ""] = seal.split(".", 2);
      const key = keys().find((one) => one.fingerprint === fingerprint);
      if (key === undefined) return /^[0-9a-f]{16}\.[0-9a-f]{64}$/.test(seal) ? "unknown-key" : "broken";
      const given = Buffer.from(mac, "hex");
      const expected = macOf(key.bytes, head);
      return given.length === expected.length && timingSafeEqual(given, expected) ? "holds" : "broken";
    },
  };
}

function sealKeyOf({ signing, encryption }: FernetKey): SealKey {
  const derived = (info: string, length: number): Buffer =>
    Buffer.from(hkdfSync("sha256", Buffer.concat([signing, encryption]), "", info, length));
  return {
    fingerprint: derived("brikk audit head, name of the key", 8).toString("hex"),
    bytes: derived("brikk audit head, seal", 32),
  };
}

const macOf = (key: Buffer, { sequence, hash }: ChainPlace): Buffer =>
  createHmac("sha256", key).update(`brikk-audit-head-1\n${sequence}\n${hash}`).digest();
