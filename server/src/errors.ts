/**
 * The one table of errors. A code fixes the status, OpenAI's `type` and whether trying again can help; the text a caller
 * reads and the cause an operator reads are separate fields from birth, so that the second can never reach the first.
 */
interface ErrorKind {
  readonly status: number;
  readonly type: string;
  readonly retryable: boolean;
  /** What an operator or a caller should know about it; shown in the documentation. */
  readonly meaning: string;
}

const CALLER = "invalid_request_error";
const AUTH = "authentication_error";
const UPSTREAM = "upstream_error";

export const errorTable = {
  missing_api_key: {
    status: 401,
    type: AUTH,
    retryable: false,
    meaning: "No key was sent and this server asks for one.",
  },
  invalid_api_key: { status: 401, type: AUTH, retryable: false, meaning: "The key is not one of this server's." },
  key_expired: { status: 401, type: AUTH, retryable: false, meaning: "The key's expiry has passed." },
  key_revoked: { status: 401, type: AUTH, retryable: false, meaning: "The key was revoked." },
  signature_invalid: {
    status: 401,
    type: AUTH,
    retryable: false,
    meaning: "The key asks for signed requests, and the signature is missing, wrong, too old or was used before.",
  },
  ip_not_allowed: {
    status: 403,
    type: "permission_error",
    retryable: false,
    meaning: "The key may not be used from the caller's address.",
  },
  host_not_allowed: {
    status: 403,
    type: "permission_error",
    retryable: false,
    meaning: "Callers without a key are not served under the name in the Host header; see BRIKK_ALLOWED_HOSTS.",
  },
  model_not_allowed: {
    status: 403,
    type: "permission_error",
    retryable: false,
    meaning: "The key may not use the model, or the providers that offer it.",
  },
  admin_token_invalid: {
    status: 401,
    type: AUTH,
    retryable: false,
    meaning: "The path is for administrators, and their token is missing or wrong.",
  },
  hard_cap_exceeded: {
    status: 402,
    type: "insufficient_quota",
    retryable: false,
    meaning: "The request does not fit in what is left of the key's budget.",
  },
  not_found: { status: 404, type: CALLER, retryable: false, meaning: "There is no such path." },
  method_not_allowed: {
    status: 405,
    type: CALLER,
    retryable: false,
    meaning: "The path exists, but not for this method.",
  },
  model_not_found: { status: 404, type: CALLER, retryable: false, meaning: "No configured provider offers the model." },
  invalid_request: {
    status: 400,
    type: CALLER,
    retryable: false,
    meaning: "The request cannot be understood; `param` names the part.",
  },
  model_price_unknown: {
    status: 400,
    type: CALLER,
    retryable: false,
    meaning: "The model has no price, so its cost could not be held to a budget.",
  },
  unsupported_media_type: { status: 415, type: CALLER, retryable: false, meaning: "The body is not application/json." },
  request_too_large: {
    status: 413,
    type: CALLER,
    retryable: false,
    meaning: "The body is larger than this server accepts.",
  },
  headers_too_large: {
    status: 431,
    type: CALLER,
    retryable: false,
    meaning: "The request's headers are larger than this server accepts.",
  },
  url_too_long: {
    status: 414,
    type: CALLER,
    retryable: false,
    meaning: "The request's path and query are longer than this server accepts.",
  },
  request_timeout: {
    status: 408,
    type: CALLER,
    retryable: true,
    meaning: "The request did not arrive in full in time.",
  },
  rate_limit_exceeded: {
    status: 429,
    type: "rate_limit_error",
    retryable: true,
    meaning: "A limit of the key, or of the caller's address, is reached; `details` names the rule.",
  },
  too_many_connections: {
    status: 429,
    type: "rate_limit_error",
    retryable: true,
    meaning: "The caller's address has too many connections open that have not shown a valid key.",
  },
  request_too_complex: {
    status: 400,
    type: CALLER,
    retryable: false,
    meaning: "The body nests too deep, or has more values or longer names than this server takes.",
  },
  precondition_required: {
    status: 428,
    type: CALLER,
    retryable: false,
    meaning: "The change must name the version it was made on, in If-Match.",
  },
  version_conflict: {
    status: 412,
    type: CALLER,
    retryable: false,
    meaning: "Somebody else changed it since the version that If-Match names.",
  },
  idempotency_key_reused: {
    status: 422,
    type: CALLER,
    retryable: false,
    meaning: "The Idempotency-Key was sent before, with another request.",
  },
  secret_replaced: {
    status: 409,
    type: CALLER,
    retryable: false,
    meaning: "A rotation has replaced this secret of the key already; only the newest can rotate it.",
  },
  idempotency_in_progress: {
    status: 409,
    type: CALLER,
    retryable: true,
    meaning: "A request with this Idempotency-Key is being answered right now.",
  },
  provider_credentials_invalid: {
    status: 422,
    type: CALLER,
    retryable: false,
    meaning: "The provider refused the credentials that were to be stored; nothing was changed.",
  },
  fire_drill_unavailable: {
    status: 409,
    type: CALLER,
    retryable: false,
    meaning: "Real providers serve here, and faults can only be put on simulated ones.",
  },
  client_closed_request: {
    status: 499,
    type: CALLER,
    retryable: false,
    meaning: "The caller left before the answer was complete.",
  },
  internal_error: { status: 500, type: "server_error", retryable: true, meaning: "A fault of the gateway's own." },
  provider_error: {
    status: 502,
    type: UPSTREAM,
    retryable: true,
    meaning: "The provider failed, and so did every fallback there was.",
  },
  provider_credentials_rejected: {
    status: 502,
    type: UPSTREAM,
    retryable: false,
    meaning: "The provider refused the gateway's own credentials.",
  },
  provider_rate_limited: {
    status: 429,
    type: UPSTREAM,
    retryable: true,
    meaning: "The provider limits the gateway's rate, and no fallback could serve.",
  },
  provider_quota_exceeded: {
    status: 502,
    type: UPSTREAM,
    retryable: false,
    meaning: "The gateway's account at the provider has no quota left.",
  },
  provider_timeout: { status: 504, type: UPSTREAM, retryable: true, meaning: "The provider did not answer in time." },
  deadline_exceeded: {
    status: 504,
    type: UPSTREAM,
    retryable: true,
    meaning: "The request, with all its attempts, was not answered within the time that this server allows.",
  },
  overloaded: {
    status: 503,
    type: "server_error",
    retryable: true,
    meaning: "This instance, or its share of the provider, has as much in hand as it may; nobody was asked.",
  },
  no_provider_available: {
    status: 503,
    type: "server_error",
    retryable: true,
    meaning: "No provider that may serve this request is available.",
  },
  storage_unavailable: {
    status: 503,
    type: "server_error",
    retryable: true,
    meaning: "The gateway's own storage cannot be reached.",
  },
  draining: {
    status: 503,
    type: "server_error",
    retryable: true,
    meaning: "This instance is stopping; another one or the next start will serve.",
  },
} as const satisfies Record<string, ErrorKind>;

export type ErrorCode = keyof typeof errorTable;

export interface ErrorExtras {
  /** The part of the request that is at fault, as OpenAI's `param`. */
  readonly param?: string;
  /** The rule and its numbers, for machines. */
  readonly details?: Readonly<Record<string, unknown>>;
  /** For the log only. */
  readonly cause?: unknown;
  /** Whose key was refused where the caller was not let in, for the audit trail only. */
  readonly keyId?: string;
  readonly retryAfterMs?: number;
  /** The provider's own status where it is passed on, as for a caller's mistake. */
  readonly status?: number;
  /** The provider's own code or type where they are passed on. */
  readonly vendorCode?: string;
  readonly vendorType?: string;
}

export interface ErrorBody {
  readonly error: {
    readonly message: string;
    readonly type: string;
    readonly code: string;
    readonly param: string | null;
    readonly request_id: string;
    readonly details: Readonly<Record<string, unknown>> | null;
  };
}

/** OpenAI's SDKs obey a wait of up to a minute. Of a longer one they make a guess of their own, and would ask again far too soon. */
const MAX_RETRY_WAIT_MS = 60_000;

/** The one error that is shown to callers; anything else that is thrown becomes `internal_error`. */
export class BrikkError extends Error {
  override readonly name = "BrikkError";
  readonly code: ErrorCode;
  readonly status: number;
  readonly retryable: boolean;
  readonly extras: ErrorExtras;

  constructor(code: ErrorCode, message: string, extras: ErrorExtras = {}) {
    super(message, extras.cause === undefined ? undefined : { cause: extras.cause });
    this.code = code;
    this.status = extras.status ?? errorTable[code].status;
    this.retryable = errorTable[code].retryable;
    this.extras = extras;
  }

  body(requestId: string): ErrorBody {
    return {
      error: {
        message: this.message,
        type: this.extras.vendorType ?? errorTable[this.code].type,
        code: this.extras.vendorCode ?? this.code,
        param: this.extras.param ?? null,
        request_id: requestId,
        details: this.extras.details ?? null,
      },
    };
  }

  /** What tells a client library whether and when to try again. */
  headers(): Record<string, string> {
    const headers: Record<string, string> = {};
    if (!this.retryable) headers["x-should-retry"] = "false";
    // Due on every 401 (RFC 9110 §15.5.2).
    if (this.status === 401) headers["www-authenticate"] = "Bearer";
    const waitMs = this.extras.retryAfterMs ?? (this.status === 503 ? 1_000 : undefined);
    if (waitMs !== undefined && this.retryable) headers["retry-after"] = String(Math.max(1, Math.ceil(waitMs / 1_000)));
    if (waitMs !== undefined && this.code === "rate_limit_exceeded") {
      headers["retry-after-ms"] = String(waitMs);
      headers["x-should-retry"] = String(waitMs <= MAX_RETRY_WAIT_MS);
    }
    return headers;
  }
}

/** Whatever was thrown, as an error that may be shown; the original stays behind as the cause. */
export function toBrikkError(thrown: unknown): BrikkError {
  if (thrown instanceof BrikkError) return thrown;
  return new BrikkError(
    "internal_error",
    "Something went wrong inside the gateway. It is on record under this request id; trying again may help.",
    { cause: thrown },
  );
}
