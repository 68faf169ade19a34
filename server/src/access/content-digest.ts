import { hash } from "node:crypto";
import { signatureRefusal } from "./signature-refusal.ts";
import { parseStrictDictionary } from "./strict-dictionary.ts";

/** What a body has to hash to, as Content-Digest says (RFC 9530 §2). */
export type ContentDigest = readonly { readonly algorithm: string; readonly expected: Buffer }[];

/** The two that RFC 9530 §5 calls fit to use against an adversary, and node:crypto's names of them. */
const ALGORITHMS: ReadonlyMap<string, { readonly name: string; readonly bytes: number }> = new Map([
  ["sha-256", { name: "sha256", bytes: 32 }],
  ["sha-512", { name: "sha512", bytes: 64 }],
]);

/** Throws signature_invalid: a digest that cannot be checked would pass for one that was. */
export function parseContentDigest(text: string): ContentDigest {
  const dictionary = parseStrictDictionary(text);
  if (dictionary === undefined || dictionary.size === 0) throw malformed();
  return [...dictionary].map(([name, [value, parameters]]) => {
    const algorithm = ALGORITHMS.get(name);
    if (algorithm === undefined)
      throw signatureRefusal(
        "digest_unsupported",
        `Content-Digest has a digest by ${name}; use sha-256 or sha-512, and no other beside them.`,
      );
    if (!(value instanceof ArrayBuffer) || value.byteLength !== algorithm.bytes || parameters.size > 0)
      throw malformed();
    return { algorithm: algorithm.name, expected: Buffer.from(value) };
  });
}

const malformed = (): Error =>
  signatureRefusal(
    "digest_malformed",
    "Content-Digest cannot be read; it is of the form sha-256=:BASE64: with the digest of the body's bytes.",
  );

/** Throws signature_invalid when the bytes are not what was signed. */
export function assertContent(digest: ContentDigest, content: Buffer): void {
  for (const { algorithm, expected } of digest) {
    if (hash(algorithm, content, "buffer").equals(expected)) continue;
    throw signatureRefusal(
      "digest_mismatch",
      "The body is not the one that Content-Digest names. Take the digest of the very bytes that are sent, after the last change to them, and encode the JSON only once.",
    );
  }
}
