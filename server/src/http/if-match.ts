import type { ApiKey } from "../access/api-key.ts";
import { versionOf } from "../access/key-fields.ts";
import { BrikkError } from "../errors.ts";

/** What a change was made on (RFC 9110 §13.1.1): one version, or whatever there is. */
export type Precondition = { readonly kind: "any" } | { readonly kind: "version"; readonly version: string };

export const etagOf = (key: ApiKey): string => `"${versionOf(key)}"`;

/** Reads If-Match. Throws precondition_required without it, and invalid_request when it names no single version. */
export function readIfMatch(header: string | undefined): Precondition {
  const text = header?.trim();
  if (text === undefined || text === "")
    throw new BrikkError(
      "precondition_required",
      "Say which version the change was made on, so that nobody's change is lost: send the key's ETag as If-Match, or `If-Match: *` to overwrite whatever there is.",
      { param: "If-Match" },
    );
  if (text === "*") return { kind: "any" };
  // A weak one never matches here, and a list is no version that a change was made on.
  const version = /^"([\x21\x23-\x7e]{1,64})"$/.exec(text)?.[1];
  if (version === undefined)
    throw new BrikkError("invalid_request", 'If-Match takes one ETag in quotes, such as "17", or *.', {
      param: "If-Match",
    });
  return { kind: "version", version };
}

/** The revision that a store is to find; undefined: any. Throws version_conflict when the key is at another one already. */
export function expectedRevision(precondition: Precondition, key: ApiKey): number | undefined {
  if (precondition.kind === "any") return undefined;
  if (precondition.version === versionOf(key)) return key.revision;
  throw new BrikkError(
    "version_conflict",
    `The key ${key.id} is at version ${versionOf(key)} and was changed since the one that If-Match names. Read it again and repeat the change on what it is now.`,
    { param: "If-Match", details: { current: versionOf(key) } },
  );
}
