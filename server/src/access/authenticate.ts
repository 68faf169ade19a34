import { BrikkError } from "../errors.ts";
import type { Clock } from "../lib/clock.ts";
import { type ApiKey, keyStatusAt } from "./api-key.ts";
import type { FoundKey, KeyRing } from "./key-ring.ts";
import { HOW_TO_GET, keyExpired, keyRevoked, secretEnded } from "./key-refusals.ts";
import { createLimitCounts } from "./limit-counts.ts";
import type { RateLimits } from "./rate-limits.ts";
import { REPEATABLE_FOR_MS } from "./rotate-key.ts";
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
 *
 * What a state of a key or secret is answered with is in docs/keys.md, and its table is checked against this.
 */
export type Authenticate = (headers: CredentialHeaders, use?: SecretUse, reach?: KeyReach) => ApiKey | Promise<ApiKey>;

/**
 * `repeat-of-rotation` lets in a secret that a rotation ended a short while ago as well. Whoever asks for it does nothing for its
 * holder but give that rotation's answer again, to who knows its Idempotency-Key (see rotate-key.ts).
 */
export type SecretUse = "call" | "repeat-of-rotation";

/** Else whoever has a key's ended secret could use up what the key may ask for in a minute, or look for the Idempotency-Key. */
const REPEATS_PER_MIN = 10;

/** Where a key is looked for: in memory and, when it is not there, in storage; or in memory alone. */
export type KeyReach = "storage" | "memory";

type Credential =
  | { readonly kind: "none" }
  /** Came with a header, but is not of this server's form; SDKs send such when they are given no key. */
  | { readonly kind: "foreign" }
  | { readonly kind: "malformed"; readonly problem: string }
  | { readonly kind: "secret"; readonly secret: Secret };

const HOW_TO_SEND = "Send your key as `X-Brikk-API-Key: brikk_...` or `Authorization: Bearer brikk_...`.";

export function createAuthenticator(options: {
  readonly keyRing: KeyRing;
  readonly requireAuth: boolean;
  /** Whom callers without a key are taken for; its newest state in the key ring counts. */
  readonly anonymousKey: ApiKey;
  readonly clock: Clock;
}): Authenticate {
  const { keyRing, requireAuth, anonymousKey, clock } = options;
  const repeats = createLimitCounts({ clock });

  function admitAnonymous(refusal: () => BrikkError): ApiKey {
    if (requireAuth) throw refusal();
    const key = keyRing.get(anonymousKey.id) ?? anonymousKey;
    if (keyStatusAt(key, clock.now()) !== "active") {
      throw new BrikkError("key_revoked", `This gateway no longer serves callers without a key. ${HOW_TO_SEND}`);
    }
    return key;
  }

  /** Whether an ended secret may still ask for its rotation's answer; counts that it does. */
  const mayRepeat = (keyId: string, endedAtMs: number, nowMs: number): boolean =>
    nowMs < endedAtMs + REPEATABLE_FOR_MS && repeats.admit(repeatLimits(keyId)).allowed;

  function admit(found: FoundKey | undefined, secret: Secret, use: SecretUse): ApiKey {
    const prefix = secretPrefix(secret);
    if (found === undefined) {
      throw new BrikkError(
        "invalid_api_key",
        `The API key ${prefix}... is well formed but is not one of this gateway's. Check that it was made on this server. ${HOW_TO_GET}`,
      );
    }
    const { key, secretNotAfterMs, secretReplaced } = found;
    const nowMs = clock.now();
    const status = keyStatusAt(key, nowMs);
    switch (status) {
      case "revoked":
        throw keyRevoked({ prefix, keyId: key.id });
      case "expired":
        throw keyExpired({ prefix, keyId: key.id }, key.expiresAtMs);
      case "active":
        if (secretNotAfterMs === undefined || (!secretReplaced && secretNotAfterMs > nowMs)) return key;
        if (use !== "repeat-of-rotation" || !mayRepeat(key.id, secretNotAfterMs, nowMs))
          throw secretEnded({ prefix, keyId: key.id }, secretNotAfterMs);
        return key;
      default:
        return status satisfies never;
    }
  }

  return (headers, use = "call", reach = "storage") => {
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
        return found instanceof Promise ? found.then((late) => admit(late, secret, use)) : admit(found, secret, use);
      }
      default:
        return credential satisfies never;
    }
  };
}

/** The secret that a request came with, if it is well formed. */
export function presentedSecret(headers: CredentialHeaders): Secret | undefined {
  const credential = credentialOf(headers);
  return credential.kind === "secret" ? credential.secret : undefined;
}

const repeatLimits = (keyId: string): RateLimits => ({
  keyId,
  requestsPerMin: REPEATS_PER_MIN,
  tokensPerMin: undefined,
  concurrentRequests: undefined,
  address: undefined,
});

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
