import { BrikkError } from "../errors.ts";
import type { Clock } from "../lib/clock.ts";
import { type ApiKey, keyStatusAt } from "./api-key.ts";
import type { FoundKey, KeyRing } from "./key-ring.ts";
import { hashSecret, looksLikeSecret, parseSecret, type Secret, secretPrefix } from "./secret.ts";

/** The two headers that may carry a secret, as node:http gives them. */
export interface CredentialHeaders {
  readonly authorization?: string | undefined;
  readonly "x-brikk-api-key"?: string | string[] | undefined;
}

/**
 * Who is calling. Synchronous when memory can answer, so that the common case costs no promise. Throws or rejects with the
 * coded errors missing_api_key, invalid_api_key, key_expired, key_revoked and storage_unavailable; no message ever holds more
 * of a secret than its first 12 characters.
 */
export type Authenticate = (headers: CredentialHeaders, reach?: KeyReach) => ApiKey | Promise<ApiKey>;

/** Where a key is looked for: in memory and, when it is not there, in storage; or in memory alone. */
export type KeyReach = "storage" | "memory";

type Credential =
  | { readonly kind: "none" }
  /** Came with a header, but is not of this server's form; SDKs send such when they are given no key. */
  | { readonly kind: "foreign" }
  | { readonly kind: "malformed"; readonly problem: string }
  | { readonly kind: "secret"; readonly secret: Secret };

const HOW_TO_SEND = "Send your key as `X-Brikk-API-Key: brikk_...` or `Authorization: Bearer brikk_...`.";
const HOW_TO_GET =
  "Ask whoever runs this gateway for a new one (`npm run -s brikk -- keys create --name NAME` makes one).";

export function createAuthenticator(options: {
  readonly keyRing: KeyRing;
  readonly requireAuth: boolean;
  /** Whom callers without a key are taken for; its newest state in the key ring counts. */
  readonly anonymousKey: ApiKey;
  readonly clock: Clock;
}): Authenticate {
  const { keyRing, requireAuth, anonymousKey, clock } = options;

  function admitAnonymous(refusal: () => BrikkError): ApiKey {
    if (requireAuth) throw refusal();
    const key = keyRing.get(anonymousKey.id) ?? anonymousKey;
    if (keyStatusAt(key, clock.now()) !== "active") {
      throw new BrikkError("key_revoked", `This gateway no longer serves callers without a key. ${HOW_TO_SEND}`);
    }
    return key;
  }

  function admit(found: FoundKey | undefined, secret: Secret): ApiKey {
    const shown = `${secretPrefix(secret)}...`;
    if (found === undefined) {
      throw new BrikkError(
        "invalid_api_key",
        `The API key ${shown} is well formed but is not one of this gateway's. Check that it was made on this server. ${HOW_TO_GET}`,
      );
    }
    const { key, secretNotAfterMs } = found;
    const nowMs = clock.now();
    const status = keyStatusAt(key, nowMs);
    switch (status) {
      case "revoked":
        throw new BrikkError(
          "key_revoked",
          `The API key ${shown} (${key.id}) was revoked and is no longer accepted. ${HOW_TO_GET}`,
        );
      case "expired":
        throw new BrikkError(
          "key_expired",
          `The API key ${shown} (${key.id}) expired on ${isoTime(key.expiresAtMs)}. ${HOW_TO_GET}`,
        );
      case "active":
        if (secretNotAfterMs !== undefined && secretNotAfterMs <= nowMs) {
          throw new BrikkError(
            "key_expired",
            `The API key ${shown} (${key.id}) was replaced by a newer secret and ended on ${isoTime(secretNotAfterMs)}. Use the new secret.`,
          );
        }
        return key;
      default:
        return status satisfies never;
    }
  }

  return (headers, reach = "storage") => {
    const credential = credentialOf(headers);
    switch (credential.kind) {
      case "none":
        return admitAnonymous(
          () => new BrikkError("missing_api_key", `No API key was sent, and this gateway asks for one. ${HOW_TO_SEND}`),
        );
      case "foreign":
        return admitAnonymous(
          () =>
            new BrikkError(
              "invalid_api_key",
              `What was sent in the Authorization header is not a key of this gateway. ${HOW_TO_SEND}`,
            ),
        );
      case "malformed":
        throw new BrikkError("invalid_api_key", `${credential.problem} ${HOW_TO_SEND}`);
      case "secret": {
        const { secret } = credential;
        const hash = hashSecret(secret);
        const found = reach === "memory" ? keyRing.recall(hash) : keyRing.find(hash);
        return found instanceof Promise ? found.then((late) => admit(late, secret)) : admit(found, secret);
      }
      default:
        return credential satisfies never;
    }
  };
}

/** The header of our own wins over Authorization, which SDKs fill in whether they are asked to or not. */
function credentialOf(headers: CredentialHeaders): Credential {
  const own = headers["x-brikk-api-key"];
  if (typeof own === "string") {
    const text = own.trim();
    if (text !== "") return ownCredential(text);
  } else if (own !== undefined && own.length > 0) {
    const [first = "", ...others] = own.map((text) => text.trim());
    if (others.some((text) => text !== first)) {
      return { kind: "malformed", problem: "The X-Brikk-API-Key header came more than once, with different keys." };
    }
    if (first !== "") return ownCredential(first);
  }
  const authorization = headers.authorization?.trim();
  if (authorization === undefined || authorization === "") return { kind: "none" };
  const token = /^bearer(?:[ \t]+(.*))?$/i.exec(authorization);
  if (token === null) return { kind: "foreign" };
  const text = token[1] ?? "";
  if (text === "") return { kind: "none" };
  return looksLikeSecret(text) || looksLikeKeyId(text) ? ownCredential(text) : { kind: "foreign" };
}

/** What was certainly meant for this gateway, so that a mistake in it is said and never passed over. */
function ownCredential(text: string): Credential {
  const secret = parseSecret(text);
  if (secret !== undefined) return { kind: "secret", secret };
  if (looksLikeKeyId(text)) {
    return {
      kind: "malformed",
      problem: `${text} is the public id of a key, not its secret. The secret begins with brikk_.`,
    };
  }
  if (looksLikeSecret(text)) {
    return {
      kind: "malformed",
      problem: "The API key is mistyped or cut off: its checksum does not hold. Copy it again in full.",
    };
  }
  return { kind: "malformed", problem: "What was sent as the API key is not a key of this gateway." };
}

const looksLikeKeyId = (text: string): boolean => /^bk_[0-9A-Za-z]{12}$/.test(text);

const isoTime = (ms: number | undefined): string => (ms === undefined ? "an unknown day" : new Date(ms).toISOString());
