import { BrikkError, toBrikkError } from "../errors.ts";
import { HOUR_MS } from "../lib/clock.ts";
import { ProviderError } from "../providers/provider.ts";
import type { AttemptNote } from "./call-history.ts";

/**
 * What a provider's fault is to the caller. Only the caller's own mistake keeps the vendor's words and status; of the rest
 * the caller learns who failed and how, and the vendor's words stay in the log.
 */
export function callersError(thrown: unknown, attempts: readonly AttemptNote[] = []): BrikkError {
  if (!(thrown instanceof ProviderError)) return toBrikkError(thrown);
  const { fault, info } = thrown;
  const details = {
    provider: info.provider,
    fault,
    ...(info.status === undefined ? {} : { provider_status: info.status }),
    ...(attempts.length > 1 && {
      attempts: attempts.map((attempt) => ({
        provider: attempt.provider,
        model: attempt.model,
        fault: attempt.fault ?? "cut",
        ...(attempt.status !== undefined && { status: attempt.status }),
        ms: attempt.ms,
      })),
    }),
  };
  switch (fault) {
    case "refused":
    case "model-missing":
      return new BrikkError(
        "invalid_request",
        info.vendorMessage ?? `${info.provider} refused the request with status ${info.status}.`,
        {
          cause: thrown,
          details,
          ...(info.status === undefined ? {} : { status: info.status }),
          ...(info.param === undefined ? {} : { param: info.param }),
          ...(info.vendorCode === undefined ? {} : { vendorCode: info.vendorCode }),
          ...(info.vendorType === undefined ? {} : { vendorType: info.vendorType }),
        },
      );
    case "credentials":
      return new BrikkError(
        "provider_credentials_rejected",
        `${info.provider} does not accept this gateway's own credentials. Your key is fine; the operator must renew the provider's.`,
        { cause: thrown, details },
      );
    case "quota":
      return new BrikkError(
        "provider_quota_exceeded",
        `This gateway's account at ${info.provider} has no quota left. Trying again does not help; the operator must top it up.`,
        { cause: thrown, details },
      );
    case "rate-limited":
      return new BrikkError(
        "provider_rate_limited",
        `${info.provider} limits this gateway's rate and no other candidate could serve. Try again after the time that Retry-After names.`,
        {
          cause: thrown,
          details,
          // A vendor may say anything; after an hour it is worth another try.
          retryAfterMs: Math.min(info.retryAfterMs ?? 1_000, HOUR_MS),
        },
      );
    case "connect-timeout":
    case "first-token-timeout":
    case "idle-timeout":
    case "attempt-timeout":
      return new BrikkError("provider_timeout", `${info.provider} did not answer in time: ${thrown.message}`, {
        cause: thrown,
        details,
      });
    case "overloaded":
    case "unreachable":
    case "stream-broken":
    case "unusable":
      return new BrikkError("provider_error", `${info.provider} failed: ${thrown.message}`, {
        cause: thrown,
        details,
        ...(info.retryAfterMs !== undefined && { retryAfterMs: Math.min(info.retryAfterMs, HOUR_MS) }),
      });
    default:
      return fault satisfies never;
  }
}
