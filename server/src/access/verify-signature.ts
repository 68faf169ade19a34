import { createHmac, hash, timingSafeEqual } from "node:crypto";
import { BrikkError } from "../errors.ts";
import type { Clock } from "../lib/clock.ts";
import type { ApiKey } from "./api-key.ts";
import { type ContentDigest, parseContentDigest } from "./content-digest.ts";
import { AHEAD_S, type NonceMemory, type NonceVerdict, WINDOW_S } from "./nonce-memory.ts";
import { fieldValue, signatureBase, type WireRequest } from "./signature-base.ts";
import { readSignature, type SignatureInput } from "./signature-input.ts";
import { signatureRefusal } from "./signature-refusal.ts";
import type { OpenSigningSecret } from "./signing-secrets.ts";

/**
 * Whether a request was signed by its key, as HTTP Message Signatures are (RFC 9421, hmac-sha256):
 *
 *   read one signature by this key -> does it cover enough? -> created within the window? -> does it match? -> is its nonce new?
 *
 * The nonce is taken last, when all else is proven, so nobody but the signer can use one up. The body is not there yet: what it
 * has to hash to is returned, and whoever reads the body compares (http/hooks/signed-body.ts).
 *
 * A key that asks for signatures gets none past without one. A key that does not ask, but has a signing secret, may send them,
 * and a wrong one is refused and not passed over. Of a key without a signing secret they say nothing.
 */
export type VerifySignature = (request: WireRequest, key: ApiKey) => Verified | Promise<Verified>;

export interface Verified {
  /** What the body has to hash to; undefined when nothing was signed, or a request without a body. */
  readonly contentDigest: ContentDigest | undefined;
}

const NOTHING_SIGNED: Verified = { contentDigest: undefined };

const HOW_TO_SIGN = "docs/signing.md shows how to sign, with helpers for TypeScript and Python.";

export function createSignatureVerifier(options: {
  /** Sealed; undefined: the key has none. */
  readonly signingSecretOf: (keyId: string) => string | undefined;
  readonly openSigningSecret: OpenSigningSecret;
  readonly nonces: NonceMemory;
  readonly clock: Clock;
}): VerifySignature {
  const { signingSecretOf, openSigningSecret, nonces, clock } = options;

  return (request, key) => {
    const { signature, "signature-input": signatureInput } = request.headers;
    const isSigned = signature !== undefined || signatureInput !== undefined;
    if (key.signingRequired !== true && !isSigned) return NOTHING_SIGNED;
    const sealed = signingSecretOf(key.id);
    if (sealed === undefined) {
      if (key.signingRequired !== true) return NOTHING_SIGNED;
      throw signatureRefusal(
        "no_signing_secret",
        `The key ${key.id} asks for signed requests and has no signing secret to sign them with; whoever runs this gateway can make one.`,
      );
    }
    if (!isSigned)
      throw signatureRefusal(
        "missing",
        `The key ${key.id} asks for signed requests, and this one carries no Signature and Signature-Input. ${HOW_TO_SIGN}`,
      );
    const input = readSignature(request, key.id);
    assertCoverage(request, input.covered);
    assertTimes(input, clock.now());
    assertMatch(request, input, openSigningSecret(key.id, sealed));
    const digest = fieldValue(request, "content-digest");
    const verified: Verified = {
      contentDigest: input.covered.includes("content-digest") ? parseContentDigest(digest!) : undefined,
    };
    return takeNonce(key.id, input, verified);
  };

  function takeNonce(
    keyId: string,
    { nonce, createdS }: SignatureInput,
    verified: Verified,
  ): Verified | Promise<Verified> {
    const verdict = nonces.take({ keyId, nonce, createdS });
    if (!(verdict instanceof Promise)) return afterNonce(verdict, createdS, verified);
    return verdict.then(
      (late) => afterNonce(late, createdS, verified),
      (cause: unknown) => {
        throw new BrikkError(
          "storage_unavailable",
          "The signature is right, but whether its nonce was used before cannot be told right now, and so it is not taken. Sign anew and try again shortly.",
          { cause, retryAfterMs: 1_000 },
        );
      },
    );
  }

  function afterNonce(verdict: NonceVerdict, createdS: number, verified: Verified): Verified {
    switch (verdict.kind) {
      case "new":
        return verified;
      case "used":
        throw signatureRefusal(
          "nonce_used",
          "The signature's nonce was used before. Make a new one at random for each request, and sign every retry anew.",
        );
      case "not-known": {
        const nowMs = clock.now();
        throw new BrikkError(
          "storage_unavailable",
          `The signature was created at ${isoTime(createdS)}, and this server knows only since ${isoTime(verdict.knownFromS)} which nonces were used. Sign anew and try again. If this goes on, your clock is behind: the server's time is ${isoTime(nowMs / 1_000)}.`,
          { retryAfterMs: Math.max(1_000, verdict.knownFromS * 1_000 - nowMs) },
        );
      }
      case "full":
        throw new BrikkError(
          "storage_unavailable",
          `The key has signed more requests in the last ${WINDOW_S / 60} minutes than this server can remember; sign anew and try again in a while.`,
          { retryAfterMs: 30_000 },
        );
      default:
        return verdict satisfies never;
    }
  }
}

/** What may be changed on the way must be signed: whoever left it out of a signature could change it. */
function assertCoverage(request: WireRequest, covered: readonly string[]): void {
  const due = ["@method", "@path"];
  if (request.url?.includes("?") === true) due.push("@query");
  if (hasBody(request)) due.push("content-digest");
  const absent = due.filter((name) => !covered.includes(name));
  if (absent.length === 0) return;
  throw signatureRefusal(
    "component_missing",
    `The signature does not cover ${absent.map((name) => `"${name}"`).join(", ")}. What has to be signed of this request: ${due.map((name) => `"${name}"`).join(" ")}.`,
    { missing: absent },
  );
}

/** As HTTP/1.1 frames it (RFC 9112 §6). */
const hasBody = ({ headers }: WireRequest): boolean =>
  headers["transfer-encoding"] !== undefined || (headers["content-length"] ?? "0") !== "0";

function assertTimes({ createdS, expiresS }: SignatureInput, nowMs: number): void {
  const nowS = nowMs / 1_000;
  const refuse = (reason: "too_old" | "in_future" | "expired", message: string): BrikkError =>
    signatureRefusal(
      reason,
      `The signature was created at ${isoTime(createdS)}, and the server's time is ${isoTime(nowS)}: ${message}`,
      {
        created: createdS,
        ...(expiresS !== undefined && { expires: expiresS }),
        server_time: Math.floor(nowS),
        window_seconds: WINDOW_S,
      },
    );
  if (nowS - createdS > WINDOW_S)
    throw refuse(
      "too_old",
      `more than ${WINDOW_S} s later. Sign each request when it is sent, and each retry anew; if you do, set your machine's clock.`,
    );
  if (createdS - nowS > AHEAD_S)
    throw refuse(
      "in_future",
      `more than ${AHEAD_S} s earlier. Set your machine's clock, or take the time that the server tells.`,
    );
  if (expiresS !== undefined && nowS > expiresS)
    throw refuse("expired", `the signature itself ends before that, at ${isoTime(expiresS)}.`);
}

function assertMatch(request: WireRequest, input: SignatureInput, hmacKey: Buffer): void {
  const base = signatureBase(request, input.signed);
  if (base.kind === "absent")
    throw signatureRefusal(
      "component_missing",
      `The signature covers "${base.component}", which this request does not have.`,
      { missing: [base.component] },
    );
  const expected = createHmac("sha256", hmacKey).update(base.bytes).digest();
  if (input.signature.length === expected.length && timingSafeEqual(input.signature, expected)) return;
  throw signatureRefusal(
    "mismatch",
    "The signature is not the one of this request as it arrived. Compare the SHA-256 of the signature base that was signed with the one in details: when they are the same, another signing secret was used; when not, something was changed or encoded otherwise on the way.",
    { signature_base_sha256: hash("sha256", base.bytes, "hex") },
  );
}

const isoTime = (seconds: number): string => new Date(seconds * 1_000).toISOString();
