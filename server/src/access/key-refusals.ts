import { BrikkError } from "../errors.ts";

/** Whose secret it is that is refused, as far as it may be shown. */
export interface RefusedSecret {
  readonly prefix: string;
  readonly keyId: string;
}

export const HOW_TO_GET =
  "Ask whoever runs this gateway for a new one (`npm run -s brikk -- keys create --name NAME` makes one).";

export const keyRevoked = ({ prefix, keyId }: RefusedSecret): BrikkError =>
  new BrikkError(
    "key_revoked",
    `The API key ${prefix}... (${keyId}) was revoked and is no longer accepted. ${HOW_TO_GET}`,
    { keyId },
  );

export const keyExpired = ({ prefix, keyId }: RefusedSecret, expiresAtMs: number | undefined): BrikkError =>
  new BrikkError(
    "key_expired",
    `The API key ${prefix}... (${keyId}) expired on ${isoTime(expiresAtMs)}. ${HOW_TO_GET}`,
    { keyId },
  );

/** The key goes on, this secret of it does not. */
export const secretEnded = ({ prefix, keyId }: RefusedSecret, endedAtMs: number | undefined): BrikkError =>
  new BrikkError(
    "key_expired",
    `The API key ${prefix}... (${keyId}) was replaced by a newer secret and ended on ${isoTime(endedAtMs)}. Use the new secret.`,
    { keyId },
  );

export const addressNotAllowed = (keyId: string, address: string): BrikkError =>
  new BrikkError(
    "ip_not_allowed",
    `The key ${keyId} may not be used from ${address}. Whoever runs this gateway can add the address to the key's list.`,
    { details: { scope: "key", rule: "allowed_ips", address } },
  );

const isoTime = (ms: number | undefined): string => (ms === undefined ? "an unknown day" : new Date(ms).toISOString());
