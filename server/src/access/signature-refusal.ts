import { BrikkError } from "../errors.ts";

/** Why a signature was not taken; stands in the refusal's `details.reason` and in a metric. docs/signing.md has the table. */
export type SignatureFault =
  | "missing"
  | "no_signing_secret"
  | "malformed"
  | "wrong_key"
  | "parameter_missing"
  | "parameter_unsupported"
  | "algorithm_unsupported"
  | "component_missing"
  | "component_unsupported"
  | "too_old"
  | "in_future"
  | "expired"
  | "mismatch"
  | "nonce_used"
  | "digest_malformed"
  | "digest_unsupported"
  | "digest_mismatch";

/** `message` says what to do about it, and nothing by which a signature could be made. */
export const signatureRefusal = (
  reason: SignatureFault,
  message: string,
  details: Readonly<Record<string, unknown>> = {},
): BrikkError => new BrikkError("signature_invalid", message, { details: { reason, ...details } });
