import type { ApiKey } from "../access/api-key.ts";
import { type BrikkError, toBrikkError } from "../errors.ts";
import type { AttemptUsage, Ledger, Outcome, Receipt, Reservation, Settlement } from "../ledger/ledger.ts";
import type { TokenCounter } from "../ledger/token-count.ts";
import type { Usage } from "../ledger/usage.ts";
import type { Clock } from "../lib/clock.ts";
import { reach } from "../lib/fault-point.ts";
import { ProviderError } from "../providers/provider.ts";
import { callerLeft } from "./abort-reason.ts";
import { type Answer, attempt, type AttemptTimeouts, type WholeAnswer } from "./attempt.ts";
import type { CompletionRequest } from "./completion-request.ts";
import { mayHaveWorked, measureAnswer, measureFailure, NOTHING_USED } from "./measure-usage.ts";
import type { Candidate, Route } from "./model-router.ts";
import { callersError } from "./provider-fault.ts";
import { relayStream, type StreamEnding } from "./relay-stream.ts";
import { spendingOf } from "./request-bound.ts";

/**
 * The way of a request, behind the door where its key and its rate were checked (http/hooks) and its body was parsed:
 *
 *   route -> reserve -> call -> stream -> settle -> record
 *
 * Every public way in goes through here, so that none can skip the budget or the ledger. Whatever becomes of the call is
 * a value (`Ending`), so that there is one settlement for all of them; nothing is called done before it is durable.
 */
export async function runCompletion(services: CompletionServices, call: CompletionCall): Promise<Completed> {
  const { ledger, clock } = services;
  const entry = ledgerEntry(call, clock);
  const startedMs = clock.monotonicMs();

  let route: Route;
  let reservation: Reservation;
  try {
    route = call.chooseRoute();
    const reserved = ledger.reserve({
      ...entry,
      routeReason: route.reason,
      ...spendingOf(services.tokenCounter, call.request, route),
    });
    reservation = reserved instanceof Promise ? await reserved : reserved;
    reach("reserved");
  } catch (error) {
    const refusal = await recorded(ledger, entry, toBrikkError(error));
    services.record({
      ...recordBase(call, undefined, clock.monotonicMs() - startedMs),
      outcome: "refused",
      status: refusal.status,
      errorCode: refusal.code,
      error: refusal,
    });
    throw refusal;
  }

  const { maxOutputTokens } = reservation;
  const progress: Progress = {
    attempts: 0,
    fallback: false,
    timeToFirstTokenMs: undefined,
    candidate: undefined,
    earlier: [],
    maxOutputTokens,
  };
  let ending: Ending;
  try {
    const answer = await callCandidates(services, call, route, reservation, progress, startedMs);
    ending =
      answer.kind === "whole"
        ? { outcome: "completed", answer }
        : await relayStream(call, answer, headOf(progress, route, progress.candidate!));
  } catch (error) {
    ending = callerLeft(call.signal)
      ? { outcome: "cancelled" }
      : { outcome: "failed", error: call.signal.aborted ? call.signal.reason : error };
  }

  reach("answer-received");
  const settlement = await settlementOf(services, call.request, ending, progress);
  let receipt: Receipt;
  try {
    receipt = await reservation.settle(settlement);
  } catch (error) {
    // Not durable, so not done. A stream that has begun must neither stay open nor look finished.
    const failure = toBrikkError(error);
    if ("answer" in ending && ending.answer?.kind === "stream") call.sink.fail(failure);
    services.record({
      ...recordBase(call, route, clock.monotonicMs() - startedMs),
      ...settlement,
      outcome: "failed",
      status: failure.status,
      errorCode: failure.code,
      error,
    });
    throw failure;
  }
  const durationMs = clock.monotonicMs() - startedMs;
  const failure = "error" in ending ? callersError(ending.error) : undefined;
  services.record({
    ...recordBase(call, route, durationMs),
    ...settlement,
    receipt,
    error: "error" in ending ? ending.error : undefined,
  });
  return finish(call, ending, failure, {
    candidate: progress.candidate,
    route,
    fallback: progress.fallback,
    attempts: progress.attempts,
    timeToFirstTokenMs: progress.timeToFirstTokenMs,
    clampedMaxTokens: maxOutputTokens,
    usage: settlement.usage,
    receipt,
    durationMs,
  });
}

export interface CompletionServices {
  readonly ledger: Ledger;
  readonly tokenCounter: TokenCounter;
  readonly timeouts: AttemptTimeouts;
  readonly clock: Clock;
  readonly record: (record: CompletionRecord) => void;
}

export interface CompletionCall {
  readonly key: ApiKey;
  readonly requestId: string;
  readonly traceId: string;
  readonly request: CompletionRequest;
  readonly chooseRoute: () => Route;
  /** Where a stream goes; not used for whole answers. */
  readonly sink: CompletionSink;
  /** Aborted when the caller leaves or the server stops. */
  readonly signal: AbortSignal;
}

/** The caller's end of a stream. */
export interface CompletionSink {
  /** The commit point: status and headers go out. */
  start(head: AnswerHead): void;
  /** Returns a promise when the caller must catch up first. */
  write(bytes: Buffer): Promise<void> | undefined;
  /** The answer is whole and durable. */
  end(): void;
  /** The answer is not whole, and must not look so. */
  fail(error: BrikkError): void;
}

export interface AnswerHead {
  readonly candidate: Candidate;
  readonly route: Route;
  readonly fallback: boolean;
  readonly clampedMaxTokens: number | undefined;
  readonly timeToFirstTokenMs: number;
}

/** What a finished call gives to the one who answers for it. */
export interface Completed {
  /** Undefined for a stream, which has gone out already, and when the caller left. */
  readonly answer: WholeAnswer | undefined;
  readonly report: CompletionReport;
}

export interface CompletionReport {
  readonly candidate: Candidate | undefined;
  readonly route: Route;
  readonly fallback: boolean;
  readonly attempts: number;
  readonly timeToFirstTokenMs: number | undefined;
  /** What the answer was limited to, where the budget paid for no more. */
  readonly clampedMaxTokens: number | undefined;
  readonly usage: Usage;
  readonly receipt: Receipt;
  readonly durationMs: number;
}

/** One request for logs and metrics; holds no content and no secret. */
export interface CompletionRecord extends Partial<Settlement> {
  readonly outcome: Outcome;
  readonly status: number;
  readonly errorCode: string | undefined;
  readonly requestId: string;
  readonly traceId: string;
  readonly keyId: string;
  readonly operation: string;
  readonly requestedModel: string;
  readonly stream: boolean;
  readonly routeReason: string | undefined;
  readonly durationMs: number;
  readonly receipt?: Receipt;
  readonly error: unknown;
}

interface Progress {
  attempts: number;
  fallback: boolean;
  timeToFirstTokenMs: number | undefined;
  /** Whoever was asked last. */
  candidate: Candidate | undefined;
  /** What those asked before may bill. */
  readonly earlier: AttemptUsage[];
  readonly maxOutputTokens: number | undefined;
}

type Ending =
  | StreamEnding
  | { readonly outcome: "completed"; readonly answer: WholeAnswer }
  | { readonly outcome: "cancelled"; readonly answer?: undefined }
  | { readonly outcome: "failed"; readonly error: unknown };

/** Asks the candidates in order until one begins to answer. Throws the last one's error, or at once what is the caller's own mistake. */
async function callCandidates(
  services: CompletionServices,
  call: CompletionCall,
  route: Route,
  reservation: Reservation,
  progress: Progress,
  startedMs: number,
): Promise<Answer> {
  let last: unknown;
  // Who left while a lease was waited for.
  if (call.signal.aborted) throw call.signal.reason;
  for (const candidate of route.candidates) {
    progress.attempts += 1;
    progress.fallback = candidate !== route.candidates[0];
    progress.candidate = candidate;
    try {
      const answer = await attempt(
        candidate,
        { ...call.request, maxOutputTokens: limitOf(candidate, progress.maxOutputTokens) },
        services.timeouts,
        call.signal,
      );
      reach("answer-begun");
      progress.timeToFirstTokenMs = Math.round(services.clock.monotonicMs() - startedMs);
      return answer;
    } catch (error) {
      if (call.signal.aborted || !(error instanceof ProviderError) || error.isCallers) throw error;
      last = error;
      if (candidate === route.candidates.at(-1) || !mayHaveWorked(error)) continue;
      // Its provider may bill it, and the next one will bill its own: both must fit, or nobody else is asked.
      const { usage } = await measureFailure(services.tokenCounter, call.request, error);
      if (!(await reservation.again())) throw error;
      // Who left meanwhile is charged for this attempt as the last one, and for no other.
      if (call.signal.aborted) throw call.signal.reason;
      progress.earlier.push({ model: candidate.model, usage });
    }
  }
  throw last;
}

/** The budget may pay for more than this candidate can write, who would refuse to be asked for it. */
const limitOf = ({ model }: Candidate, maxOutputTokens: number | undefined): number | undefined =>
  maxOutputTokens === undefined || model.maxOutputTokens === undefined
    ? maxOutputTokens
    : Math.min(maxOutputTokens, model.maxOutputTokens);

/** The refusal to answer with, once it is durable; another one when it cannot be written down. */
async function recorded(
  ledger: Ledger,
  entry: Parameters<Ledger["recordRefusal"]>[0],
  refusal: BrikkError,
): Promise<BrikkError> {
  if (refusal.code === "storage_unavailable") return refusal;
  try {
    await ledger.recordRefusal(entry, { status: refusal.status, errorCode: refusal.code });
    return refusal;
  } catch (error) {
    return toBrikkError(error);
  }
}

async function settlementOf(
  { tokenCounter }: CompletionServices,
  request: CompletionRequest,
  ending: Ending,
  progress: Progress,
): Promise<Settlement> {
  const failure = "error" in ending ? callersError(ending.error) : undefined;
  const measured =
    progress.attempts === 0
      ? NOTHING_USED
      : ending.outcome === "failed"
        ? await measureFailure(tokenCounter, request, ending.error)
        : await measureAnswer(tokenCounter, request, ending.answer);
  const { candidate } = progress;
  return {
    served: candidate && { model: candidate.model, simulated: candidate.connected.provider.simulated },
    ...measured,
    earlier: progress.earlier,
    outcome: ending.outcome,
    status: ending.outcome === "cancelled" ? 499 : ending.outcome === "failed" ? failure!.status : 200,
    errorCode: failure?.code,
    attempts: progress.attempts,
    fallback: progress.fallback,
    timeToFirstTokenMs: progress.timeToFirstTokenMs,
  };
}

function finish(
  call: CompletionCall,
  ending: Ending,
  failure: BrikkError | undefined,
  report: CompletionReport,
): Completed {
  switch (ending.outcome) {
    case "completed":
      if (ending.answer.kind === "whole") return { answer: ending.answer, report };
      call.sink.end();
      return { answer: undefined, report };
    case "truncated":
      call.sink.fail(failure!);
      return { answer: undefined, report };
    case "cancelled":
      return { answer: undefined, report };
    case "failed":
      throw failure!;
    default:
      return ending satisfies never;
  }
}

const headOf = (progress: Progress, route: Route, candidate: Candidate): AnswerHead => ({
  candidate,
  route,
  fallback: progress.fallback,
  clampedMaxTokens: progress.maxOutputTokens,
  timeToFirstTokenMs: progress.timeToFirstTokenMs ?? 0,
});

const ledgerEntry = (call: CompletionCall, clock: Clock): Parameters<Ledger["recordRefusal"]>[0] => ({
  key: call.key,
  requestId: call.requestId,
  traceId: call.traceId,
  operation: call.request.operation,
  requestedModel: call.request.model.slice(0, 200),
  stream: call.request.stream,
  occurredAtMs: clock.now(),
});

const recordBase = (
  call: CompletionCall,
  route: Route | undefined,
  durationMs: number,
): Omit<CompletionRecord, "outcome" | "status" | "errorCode" | "error"> => ({
  requestId: call.requestId,
  traceId: call.traceId,
  keyId: call.key.id,
  operation: call.request.operation,
  requestedModel: call.request.model.slice(0, 200),
  stream: call.request.stream,
  routeReason: route?.reason,
  durationMs,
});
