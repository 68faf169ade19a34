import type { Fault } from "@brikk/simulator/faults";
import type { RescueMode } from "../../src/access/api-key.ts";
import type { ErrorCode } from "../../src/errors.ts";
import type { ProviderFault } from "../../src/providers/provider.ts";

/**
 * What becomes of a request when its provider has a bad day: for each fault, plain and streamed, alone and with a healthy second
 * provider behind. fault-matrix.test.ts proves each line against a real server; docs/resilience.md shows it.
 */
export interface FaultRow {
  readonly name: string;
  readonly struck: Struck;
  readonly rescue?: RescueMode;
  /** None where the fault is one that only the other way of asking can show. */
  readonly plain?: Cases;
  readonly stream?: Cases;
}

/** Who is in trouble, and how. */
export type Struck =
  | {
      readonly vendor: "openai" | "mistral";
      readonly fault: Fault;
      /** How often it strikes; without end when left out. */
      readonly times?: number;
      /** When the caller leaves, if it does. */
      readonly leaves?: "while it waits" | "in the middle of the answer";
    }
  /** Nobody listens there, or whoever listens takes nobody in. */
  | { readonly provider: "refusing" | "deaf" };

export interface Cases {
  readonly alone: Expectation;
  /** With a healthy provider behind the one that is in trouble. */
  readonly second: Expectation;
}

export interface Expectation {
  readonly ending: Ending;
  /** Who was asked, in order, and what came of it. */
  readonly tries: readonly Try[];
  readonly charge: Charge;
  /** From the caller's request to the last byte; generous, as the limits in force are 0.3 s and 0.5 s. */
  readonly withinMs: number;
  readonly atLeastMs?: number;
  /** The stream was gone on with elsewhere. */
  readonly rescued?: true;
}

/** What the caller got. */
export type Ending =
  /** All of the answer, with its end. */
  | { readonly kind: "complete" }
  | {
      readonly kind: "refused";
      readonly status: number;
      /** As the caller reads it: the vendor's own where the mistake is the caller's. */
      readonly code: string;
      /** In the ledger's row. */
      readonly rowCode: ErrorCode;
      readonly retryAfterS?: number;
    }
  /** Output, and then an error event in the place of [DONE]. */
  | { readonly kind: "cut"; readonly code: ErrorCode }
  | { readonly kind: "left" };

/** A fault, or `answer` when there was none, or `left` when the caller went first. */
export type Try = readonly [who: "first" | "second", what: ProviderFault | "answer" | "left"];

export type Charge =
  /** No provider was at work: nothing. */
  | "nothing"
  /** To the nano-USD what the provider bills. */
  | "the bill"
  /** What was sent and received, counted here and marked so. */
  | "an estimate"
  /** Of the answer exactly what its provider bills; an estimate for who may have worked on it before. */
  | "the bill and an estimate";

const SOON_MS = 3_000;
const COMPLETE: Ending = { kind: "complete" };

const refused = (status: number, rowCode: ErrorCode, more: { code?: string; retryAfterS?: number } = {}): Ending => ({
  kind: "refused",
  status,
  code: rowCode,
  rowCode,
  ...more,
});

const inBothWays = (cases: Cases): Pick<FaultRow, "plain" | "stream"> => ({ plain: cases, stream: cases });

/** The fault may pass: whoever is alone is asked again, else the second serves at once. */
const mayPass = (fault: ProviderFault, ending: Ending, worked: "idle" | "maybe" = "idle"): Cases => ({
  alone: {
    ending,
    tries: [
      ["first", fault],
      ["first", fault],
    ],
    charge: worked === "idle" ? "nothing" : "an estimate",
    withinMs: SOON_MS,
  },
  second: servedBySecond(fault, worked),
});

/** Asking the same again is of no use; the second serves at once. */
const stays = (fault: ProviderFault, ending: Ending, worked: "idle" | "maybe"): Cases => ({
  alone: {
    ending,
    tries: [["first", fault]],
    charge: worked === "idle" ? "nothing" : "an estimate",
    withinMs: SOON_MS,
  },
  second: servedBySecond(fault, worked),
});

const servedBySecond = (fault: ProviderFault, worked: "idle" | "maybe"): Expectation => ({
  ending: COMPLETE,
  tries: [
    ["first", fault],
    ["second", "answer"],
  ],
  charge: worked === "idle" ? "the bill" : "the bill and an estimate",
  withinMs: SOON_MS,
});

/** Whoever else is there: one attempt. */
const either = (expectation: Omit<Expectation, "withinMs">): Cases => {
  const bounded = { withinMs: SOON_MS, ...expectation };
  return { alone: bounded, second: bounded };
};

/** The caller's own mistake is told to the caller with the vendor's status and code, and nobody else is asked. */
const callers = (status: number, code: string): Cases =>
  either({ ending: refused(status, "invalid_request", { code }), tries: [["first", "refused"]], charge: "nothing" });

/** Output had been shown, so nobody else is asked. */
const cutShort = (fault: "stream-broken" | "idle-timeout", charge: Charge = "an estimate"): Cases =>
  either({
    ending: { kind: "cut", code: fault === "idle-timeout" ? "provider_timeout" : "provider_error" },
    tries: [["first", fault]],
    charge,
  });

const harmless: Cases = either({ ending: COMPLETE, tries: [["first", "answer"]], charge: "the bill" });

const left = (what: "answer" | "left"): Cases =>
  either({ ending: { kind: "left" }, tries: [["first", what]], charge: "an estimate" });

const FAILED = refused(502, "provider_error");
const TOO_LATE = refused(504, "provider_timeout");
const NOT_OURS = refused(502, "provider_credentials_rejected");
const NO_QUOTA = refused(502, "provider_quota_exceeded");
const limited = (retryAfterS: number): Ending => refused(429, "provider_rate_limited", { retryAfterS });

/** Too late to be whole, or to begin. */
const tooLate: Pick<FaultRow, "plain" | "stream"> = {
  plain: stays("attempt-timeout", TOO_LATE, "maybe"),
  stream: stays("first-token-timeout", TOO_LATE, "maybe"),
};

const openai = (fault: Fault): Struck => ({ vendor: "openai", fault });
const status = (code: number, more: Partial<Extract<Fault, { kind: "status" }>> = {}): Struck =>
  openai({ kind: "status", status: code, ...more });
const vendorError = (code: string): { body: unknown } => ({
  body: { error: { message: "The vendor's own words.", type: "invalid_request_error", param: null, code } },
});

/** Says when to come back, and is well by then. */
const waitedFor = (fault: Fault, atLeastMs: number): Pick<FaultRow, "struck" | "plain" | "stream"> => ({
  struck: { vendor: "openai", fault, times: 1 },
  ...inBothWays({
    alone: {
      ending: COMPLETE,
      tries: [
        ["first", "rate-limited"],
        ["first", "answer"],
      ],
      charge: "the bill",
      atLeastMs,
      withinMs: atLeastMs + SOON_MS,
    },
    second: servedBySecond("rate-limited", "idle"),
  }),
});

/** Whoever broke off is well again, and takes over where there is nobody else. */
const rescued = (
  fault: Fault,
  what: "stream-broken" | "idle-timeout",
  rescue: RescueMode,
): Pick<FaultRow, "struck" | "rescue" | "stream"> => {
  const whole = (who: "first" | "second"): Expectation => ({
    ending: COMPLETE,
    tries: [
      ["first", what],
      [who, "answer"],
    ],
    charge: "the bill and an estimate",
    withinMs: SOON_MS,
    rescued: true,
  });
  return {
    struck: { vendor: "openai", fault, times: 1 },
    rescue,
    stream: { alone: whole("first"), second: whole("second") },
  };
};

export interface FaultGroup {
  readonly name: string;
  readonly rows: readonly FaultRow[];
}

export const faultMatrix: readonly FaultGroup[] = [
  {
    name: "No answer",
    rows: [
      {
        name: "connection refused",
        struck: { provider: "refusing" },
        ...inBothWays(mayPass("unreachable", FAILED)),
      },
      {
        name: "no connection comes about",
        struck: { provider: "deaf" },
        ...inBothWays(mayPass("connect-timeout", TOO_LATE)),
      },
      {
        name: "reset before the status line",
        struck: openai({ kind: "reset" }),
        ...inBothWays(mayPass("unreachable", FAILED)),
      },
      { name: "hang", struck: openai({ kind: "hang" }), ...tooLate },
      { name: "hang after the headers", struck: openai({ kind: "hang-after-headers" }), ...tooLate },
      { name: "heartbeats and nothing else", struck: openai({ kind: "heartbeat", everyMs: 50 }), ...tooLate },
      {
        name: "slow to begin, within the limit",
        struck: openai({ kind: "slow-first-token", ms: 100 }),
        ...inBothWays(harmless),
      },
      { name: "slow to begin, over the limit", struck: openai({ kind: "slow-first-token", ms: 2_000 }), ...tooLate },
      {
        name: "slow to begin, over the limit, with comments meanwhile",
        struck: openai({ kind: "slow-first-token", ms: 2_000, everyMs: 50 }),
        ...tooLate,
      },
      {
        name: "the answer drips, a byte at a time",
        struck: openai({ kind: "slow-body", everyMs: 20 }),
        ...tooLate,
      },
    ],
  },
  {
    name: "Refusals that may pass",
    rows: [
      ...[408, 409, 425, 500, 502, 503, 504, 529].map((code) => ({
        name: `${code}`,
        struck: status(code),
        ...inBothWays(mayPass("overloaded", FAILED)),
      })),
      { name: "429", struck: status(429), ...inBothWays(mayPass("rate-limited", limited(1))) },
      {
        name: "429 once, with Retry-After: 1",
        ...waitedFor({ kind: "status", status: 429, retryAfter: 1 }, 1_000),
      },
      {
        name: "429 once, with retry-after-ms: 400",
        ...waitedFor({ kind: "status", status: 429, headers: { "retry-after-ms": "400" } }, 400),
      },
      {
        name: "429 once, with Retry-After as a date 1 s ahead",
        ...waitedFor({ kind: "status", status: 429, retryAfterDate: 1 }, 800),
      },
      {
        name: "429 with Retry-After: 60, which is too long",
        struck: status(429, { retryAfter: 60 }),
        ...inBothWays(stays("rate-limited", limited(60), "idle")),
      },
    ],
  },
  {
    name: "Refusals that stay",
    rows: [
      {
        name: "429 insufficient_quota",
        struck: openai({ kind: "quota" }),
        ...inBothWays(stays("quota", NO_QUOTA, "idle")),
      },
      {
        name: "429 with a limit of 0 (Mistral)",
        struck: { vendor: "mistral", fault: { kind: "no-allowance" } },
        ...inBothWays(stays("quota", NO_QUOTA, "idle")),
      },
      { name: "402", struck: status(402), ...inBothWays(stays("quota", NO_QUOTA, "idle")) },
      {
        name: "401: our credentials",
        struck: status(401, vendorError("invalid_api_key")),
        ...inBothWays(stays("credentials", NOT_OURS, "idle")),
      },
      { name: "403: our credentials", struck: status(403), ...inBothWays(stays("credentials", NOT_OURS, "idle")) },
    ],
  },
  {
    name: "The caller's own mistakes",
    rows: [
      { name: "400", struck: status(400, vendorError("invalid_value")), ...inBothWays(callers(400, "invalid_value")) },
      {
        name: "404 of the model",
        struck: status(404, vendorError("model_not_found")),
        ...inBothWays(stays("model-missing", refused(404, "invalid_request", { code: "model_not_found" }), "idle")),
      },
      {
        name: "413",
        struck: status(413, vendorError("request_too_large")),
        ...inBothWays(callers(413, "request_too_large")),
      },
      {
        name: "422 whose message is an object (Mistral)",
        struck: {
          vendor: "mistral",
          fault: {
            kind: "status",
            status: 422,
            body: {
              object: "error",
              message: {
                detail: [{ type: "extra_forbidden", loc: ["body", "n"], msg: "Extra inputs are not permitted" }],
              },
              type: "invalid_request_error",
              param: null,
              code: null,
            },
          },
        },
        ...inBothWays(callers(422, "invalid_request")),
      },
      {
        name: "longer than the model's context",
        struck: openai({ kind: "context-length" }),
        ...inBothWays(callers(400, "context_length_exceeded")),
      },
      {
        name: "content refused",
        struck: openai({ kind: "refuse-content" }),
        ...inBothWays(callers(400, "content_policy_violation")),
      },
    ],
  },
  {
    name: "A 200 that is none",
    rows: [
      {
        name: "a body of null",
        struck: openai({ kind: "unusable-body", body: "null" }),
        ...inBothWays(stays("unusable", FAILED, "maybe")),
      },
      {
        name: "a body of HTML",
        struck: openai({ kind: "unusable-body", body: "html" }),
        ...inBothWays(stays("unusable", FAILED, "maybe")),
      },
      {
        name: "an error in the answer's place",
        struck: openai({ kind: "error-body" }),
        plain: stays("unusable", FAILED, "maybe"),
        stream: mayPass("stream-broken", FAILED, "maybe"),
      },
      { name: "an empty stream", struck: openai({ kind: "empty-stream" }), stream: stays("unusable", FAILED, "maybe") },
      {
        name: "a first chunk that is no JSON",
        struck: openai({ kind: "malformed-chunk", afterTokens: 0 }),
        plain: stays("unusable", FAILED, "maybe"),
        stream: stays("unusable", FAILED, "maybe"),
      },
      {
        name: "the vendor's error as the first event",
        struck: openai({ kind: "error-event", afterTokens: 0 }),
        stream: mayPass("stream-broken", FAILED, "maybe"),
      },
      {
        name: "cut before the first output",
        struck: openai({ kind: "cut", afterTokens: 0 }),
        plain: mayPass("stream-broken", FAILED, "maybe"),
        stream: mayPass("stream-broken", FAILED, "maybe"),
      },
    ],
  },
  {
    name: "In the middle of the answer",
    rows: [
      {
        name: "reset",
        struck: openai({ kind: "reset", afterTokens: 5 }),
        plain: mayPass("stream-broken", FAILED, "maybe"),
        stream: cutShort("stream-broken"),
      },
      {
        name: "cut",
        struck: openai({ kind: "cut", afterTokens: 5 }),
        plain: mayPass("stream-broken", FAILED, "maybe"),
        stream: cutShort("stream-broken"),
      },
      {
        name: "a proper end where the answer has none",
        struck: openai({ kind: "goodbye", afterTokens: 5 }),
        plain: stays("unusable", FAILED, "maybe"),
        stream: cutShort("stream-broken"),
      },
      {
        name: "silence",
        struck: openai({ kind: "stall", afterTokens: 5 }),
        plain: stays("attempt-timeout", TOO_LATE, "maybe"),
        stream: cutShort("idle-timeout"),
      },
      {
        name: "heartbeats and nothing else",
        struck: openai({ kind: "trickle", afterTokens: 5, everyMs: 50 }),
        plain: stays("attempt-timeout", TOO_LATE, "maybe"),
        stream: cutShort("idle-timeout"),
      },
      {
        name: "a chunk that is no JSON",
        struck: openai({ kind: "malformed-chunk", afterTokens: 5 }),
        plain: stays("unusable", FAILED, "maybe"),
        // The rest stands behind it, with the vendor's own count.
        stream: cutShort("stream-broken", "the bill"),
      },
      {
        name: "the vendor's error",
        struck: openai({ kind: "error-event", afterTokens: 5 }),
        stream: cutShort("stream-broken"),
      },
      { name: "no [DONE] behind a whole answer", struck: openai({ kind: "missing-done" }), stream: harmless },
      { name: "packets of 7 bytes", struck: openai({ kind: "split", bytes: 7 }), ...inBothWays(harmless) },
    ],
  },
  {
    name: "The caller leaves",
    rows: [
      {
        name: "while it waits",
        struck: { vendor: "openai", fault: { kind: "hang" }, leaves: "while it waits" },
        ...inBothWays(left("left")),
      },
      {
        name: "in the middle of the answer",
        struck: { vendor: "openai", fault: { kind: "stall", afterTokens: 5 }, leaves: "in the middle of the answer" },
        stream: left("answer"),
      },
    ],
  },
  {
    name: "Rescue, where the caller wants it",
    rows: (["continue", "restart"] as const).flatMap((rescue) => [
      { name: `cut, X-Brikk-Rescue: ${rescue}`, ...rescued({ kind: "cut", afterTokens: 5 }, "stream-broken", rescue) },
      {
        name: `silence, X-Brikk-Rescue: ${rescue}`,
        ...rescued({ kind: "stall", afterTokens: 5 }, "idle-timeout", rescue),
      },
      {
        name: `the vendor's error, X-Brikk-Rescue: ${rescue}`,
        ...rescued({ kind: "error-event", afterTokens: 5 }, "stream-broken", rescue),
      },
    ]),
  },
];

/** What the ledger's row says, which follows from how it ended. */
export function rowOf(expected: Expectation): {
  readonly outcome: "completed" | "failed" | "truncated" | "cancelled";
  readonly errorCode: ErrorCode | undefined;
  readonly fallback: "yes" | "no";
  readonly rescued: "yes" | "no";
} {
  const { ending } = expected;
  const rest = {
    // Whose answer, or failure, the row is about.
    fallback: expected.tries.at(-1)?.[0] === "second" ? "yes" : "no",
    rescued: expected.rescued ? "yes" : "no",
  } as const;
  switch (ending.kind) {
    case "complete":
      return { outcome: "completed", errorCode: undefined, ...rest };
    case "refused":
      return { outcome: "failed", errorCode: ending.rowCode, ...rest };
    case "cut":
      return { outcome: "truncated", errorCode: ending.code, ...rest };
    case "left":
      return { outcome: "cancelled", errorCode: undefined, ...rest };
    default:
      return ending satisfies never;
  }
}
