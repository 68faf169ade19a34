import type { ApiKey, RescueMode } from "../access/api-key.ts";
import type { PolicyConfig } from "../config.ts";
import { type BrikkError, toBrikkError } from "../errors.ts";
import type { AttemptUsage, Ledger, Outcome, Receipt, Reservation, Settlement } from "../ledger/ledger.ts";
import type { TokenCounter } from "../ledger/token-count.ts";
import type { Usage } from "../ledger/usage.ts";
import type { Clock } from "../lib/clock.ts";
import { reach } from "../lib/fault-point.ts";
import type { ProviderError } from "../providers/provider.ts";
import type { Redactor } from "../telemetry/redactor.ts";
import { callerLeft } from "./abort-reason.ts";
import type { WholeAnswer } from "./attempt.ts";
import { callCandidates } from "./call-candidates.ts";
import { type AttemptNote, CallHistory, type OpenAttempt } from "./call-history.ts";
import type { CompletionRequest } from "./completion-request.ts";
import type { Begun } from "./engage.ts";
import type { HedgePlan } from "./hedge.ts";
import { type MeasuredUsage, measureAnswer, measureFailure, mostUsed, NOTHING_USED } from "./measure-usage.ts";
import type { Candidate, Route } from "./model-router.ts";
import { callersError } from "./provider-fault.ts";
import type { ProviderHealth } from "./provider-health.ts";
import { relayStream } from "./relay-stream.ts";
import { spendingOf } from "./request-bound.ts";
import { type RescuedEnding, rescueStream } from "./rescue-stream.ts";
import { describeUsage, fateOfStream } from "./stream-usage.ts";

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
  /** As it is kept: what the caller named may be anything, a secret that strayed there as well. */
  const requestedModel = services.redactor.towardsCallers.text(call.request.model).slice(0, 200);
  const entry = ledgerEntry(call, requestedModel, clock);
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
      ...recordBase(call, requestedModel, undefined, clock.monotonicMs() - startedMs),
      outcome: "refused",
      status: refusal.status,
      errorCode: refusal.code,
      error: refusal,
    });
    throw refusal;
  }

  const hedge = services.hedgeOf(route.policy);
  const history = new CallHistory(route.candidates.length + services.maxRetries);
  let ending: Ending;
  try {
    call.sink.opened();
    // Who left while a lease was waited for.
    if (call.signal.aborted) throw call.signal.reason;
    const begun = await callCandidates(services, {
      candidates: route.candidates,
      requestFor: () => call.request,
      reservation,
      history,
      asked: new Map(),
      askedBefore: [],
      maxOutputTokensFor: () => reservation.maxOutputTokens,
      hedge,
      endsAtMs: call.endsAtMs,
      signal: call.signal,
    });
    history.timeToFirstTokenMs = Math.round(clock.monotonicMs() - startedMs);
    ending = await receive(services, call, { route, reservation, history }, begun);
  } catch (error) {
    ending = callerLeft(call.signal)
      ? { outcome: "cancelled" }
      : { outcome: "failed", error: call.signal.aborted ? call.signal.reason : error };
  }

  reach("answer-received");
  call.sink.hold();
  /** What the caller is told. */
  const failure = "error" in ending ? callersError(ending.error, history.attempts) : undefined;
  const settlement = await settlementOf(services, call, { ending, failure }, route, history);
  let receipt: Receipt;
  try {
    receipt = await reservation.settle(settlement);
  } catch (error) {
    // Not durable, so not done. A stream that has begun must neither stay open nor look finished.
    const fault = toBrikkError(error);
    services.record({
      ...recordBase(call, requestedModel, route, clock.monotonicMs() - startedMs),
      ...settlement,
      history: history.attempts,
      outcome: "failed",
      status: call.sink.started ? 200 : fault.status,
      errorCode: fault.code,
      error,
    });
    if (!call.sink.started) throw fault;
    call.sink.fail(fault);
    return { answer: undefined, report: undefined };
  }
  const durationMs = clock.monotonicMs() - startedMs;
  hedge?.spending.add(receipt.cost);
  services.record({
    ...recordBase(call, requestedModel, route, durationMs),
    ...settlement,
    history: history.attempts,
    receipt,
    error: "error" in ending ? ending.error : undefined,
  });
  return finish(call, ending, failure, {
    candidate: history.candidate,
    route,
    fallback: settlement.fallback,
    attempts: history.attempts.length,
    timeToFirstTokenMs: history.timeToFirstTokenMs,
    clampedMaxTokens: reservation.maxOutputTokens,
    usage: settlement.usage,
    receipt,
    durationMs,
  });
}

export interface CompletionServices extends CallServices {
  readonly ledger: Ledger;
  readonly hedgeOf: (policy: PolicyConfig | undefined) => HedgePlan | undefined;
  readonly record: (record: CompletionRecord) => void;
  readonly redactor: Redactor;
}

/** What it takes to ask candidates. */
export interface CallServices {
  readonly tokenCounter: TokenCounter;
  readonly health: ProviderHealth;
  /** How often one request may ask candidates again, over all of them; each is asked once without that. */
  readonly maxRetries: number;
  /** 0 to 1, for jitter. */
  readonly random: () => number;
  readonly events: CompletionEvents;
  readonly clock: Clock;
}

/** What happens on the way, for metrics and logs. */
export interface CompletionEvents {
  readonly attemptFailed: (candidate: Candidate, error: ProviderError) => void;
  readonly retried: (candidate: Candidate) => void;
  readonly hedged: (candidate: Candidate, outcome: "won" | "lost" | "skipped") => void;
  /** A fault of ours beside an answer that goes on all the same. */
  readonly broke: (error: unknown) => void;
  readonly rescued: (mode: RescueMode, outcome: "completed" | "broken") => void;
}

export interface CompletionCall {
  readonly key: ApiKey;
  readonly requestId: string;
  readonly traceId: string;
  readonly request: CompletionRequest;
  readonly chooseRoute: () => Route;
  /** Where a stream goes; not used for whole answers. */
  readonly sink: CompletionSink;
  /** What is to be done with a stream that breaks after its output began; undefined: it ends as what it is. */
  readonly rescue: RescueMode | undefined;
  /** The request's deadline, on the monotonic clock. */
  readonly endsAtMs?: number;
  /** Aborted when the caller leaves, the request's deadline is over or the server stops. */
  readonly signal: AbortSignal;
}

/** The caller's end of a stream. */
export interface CompletionSink {
  /** A stream is on its way: its reader may be told so while nothing comes. */
  opened(): void;
  /** Status and headers have gone out; what goes wrong now must be said in the stream. */
  readonly started: boolean;
  /** The commit point: status and headers go out, unless they had to before. */
  start(head: AnswerHead): void;
  /** What the answer was is being written down: a status that has not gone out by now is the one of the row. */
  hold(): void;
  /** Returns a promise when the caller must catch up first; it does not outlast the call's signal. */
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
export type Completed =
  | { readonly answer: WholeAnswer; readonly report: CompletionReport }
  /** A stream, which has gone out already, or a caller who left. Without a report the ledger could not write down the stream's end. */
  | { readonly answer: undefined; readonly report: CompletionReport | undefined };

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
  readonly history?: readonly AttemptNote[];
  readonly error: unknown;
}

type Ending =
  | RescuedEnding
  | { readonly outcome: "completed"; readonly answer: WholeAnswer }
  | { readonly outcome: "failed"; readonly error: unknown };

/** A whole answer is there already; a stream goes out, and is rescued where the caller wants that. */
async function receive(
  services: CompletionServices,
  call: CompletionCall,
  { route, reservation, history }: { route: Route; reservation: Reservation; history: CallHistory },
  begun: Begun,
): Promise<Ending> {
  const { answer, candidate } = begun;
  if (answer.kind === "whole") {
    begun.ended({ kind: "well" });
    return { outcome: "completed", answer };
  }
  try {
    call.sink.start({
      candidate,
      route,
      fallback: candidate !== route.candidates[0],
      clampedMaxTokens: reservation.maxOutputTokens,
      timeToFirstTokenMs: history.timeToFirstTokenMs ?? 0,
    });
  } catch (error) {
    await answer.rest.return();
    begun.ended({ kind: "nothing" });
    throw error;
  }
  // The usage chunk names the whole cost, that of a hedge's loser included.
  if (call.request.wantsUsage) await Promise.all(history.later);
  const ending = await relayStream({
    candidate,
    answer,
    sink: call.sink,
    signal: call.signal,
    wantsUsage: call.request.wantsUsage,
    describeUsage: (chunk) => describeUsage(chunk, answer, candidate, history.earlier),
    refit: undefined,
  });
  begun.ended(fateOfStream(ending, call.signal));
  if (call.rescue === undefined || ending.outcome !== "truncated") return ending;
  return rescueStream({ services, call, mode: call.rescue, route, reservation, history }, begun, ending);
}

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
  { sink }: CompletionCall,
  { ending, failure }: { ending: Ending; failure: BrikkError | undefined },
  route: Route,
  history: CallHistory,
): Promise<Settlement> {
  await Promise.all(history.later);
  const { open } = history;
  // Whatever goes wrong in the counting, what was set aside is settled.
  let measured = open
    ? await measureOpen(tokenCounter, open, ending).catch(() => mostUsed(open.request))
    : NOTHING_USED;
  let { candidate, earlier }: { candidate: Candidate | undefined; earlier: readonly AttemptUsage[] } = history;
  if (history.cut && !open?.answer) {
    // Nobody took over: the row is about the one who spoke.
    const { attempt, measured: spoken } = history.cut;
    earlier = [
      ...earlier.filter((other) => other !== attempt),
      ...(open && measured.usageSource !== "none" ? [{ model: open.candidate.model, usage: measured.usage }] : []),
    ];
    measured = spoken;
    candidate = history.cut.candidate;
  }
  return {
    served: candidate && { model: candidate.model, simulated: candidate.connected.provider.simulated },
    ...measured,
    earlier,
    outcome: ending.outcome,
    status: ending.outcome === "cancelled" ? 499 : ending.outcome === "failed" && !sink.started ? failure!.status : 200,
    errorCode: failure?.code,
    attempts: history.attempts.length,
    fallback: candidate !== undefined && candidate !== route.candidates[0],
    timeToFirstTokenMs: history.timeToFirstTokenMs,
    rescue: history.rescue,
  };
}

async function measureOpen(tokenCounter: TokenCounter, open: OpenAttempt, ending: Ending): Promise<MeasuredUsage> {
  if (open.answer) return measureAnswer(tokenCounter, open.request, open.answer);
  if (open.error !== undefined) return measureFailure(tokenCounter, open.request, open.error);
  if (ending.outcome === "failed") return measureFailure(tokenCounter, open.request, ending.error);
  // Whoever was asked last was still at it.
  return measureAnswer(tokenCounter, open.request, undefined);
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
      if (!call.sink.started) throw failure!;
      call.sink.fail(failure!);
      return { answer: undefined, report };
    default:
      return ending satisfies never;
  }
}

const ledgerEntry = (
  call: CompletionCall,
  requestedModel: string,
  clock: Clock,
): Parameters<Ledger["recordRefusal"]>[0] => ({
  key: call.key,
  requestId: call.requestId,
  traceId: call.traceId,
  operation: call.request.operation,
  requestedModel,
  stream: call.request.stream,
  occurredAtMs: clock.now(),
});

const recordBase = (
  call: CompletionCall,
  requestedModel: string,
  route: Route | undefined,
  durationMs: number,
): Omit<CompletionRecord, "outcome" | "status" | "errorCode" | "error"> => ({
  requestId: call.requestId,
  traceId: call.traceId,
  keyId: call.key.id,
  operation: call.request.operation,
  requestedModel,
  stream: call.request.stream,
  routeReason: route?.reason,
  durationMs,
});
