import type { ApiKey } from "../access/api-key.ts";
import type { Admitted } from "../access/rate-limiter.ts";
import { chargingServices } from "../completion/charging-services.ts";
import type { CompletionRequest } from "../completion/completion-request.ts";
import { deadlineExceeded } from "../completion/deadline-exceeded.ts";
import type { Candidate, Route } from "../completion/model-router.ts";
import { type CompletionRecord, type CompletionServices, runCompletion } from "../completion/run-completion.ts";
import { type BrikkError, toBrikkError } from "../errors.ts";
import { inputTokens, totalTokens } from "../ledger/usage.ts";
import { ZERO_USD } from "../lib/money.ts";
import type { Turn, TurnResult } from "./conversation.ts";
import { shownFailure } from "./shown-failure.ts";
import { createTextSink, type TextSink } from "./text-sink.ts";

/** One turn, as it is to be spoken. */
export interface TurnCall {
  readonly key: ApiKey;
  readonly admission: Admitted;
  readonly requestId: string;
  readonly traceId: string;
  readonly request: CompletionRequest;
  readonly chooseRoute: () => Route;
  /** Who is meant to speak; another provider is a fallback, also where the router knew better than to ask this one. */
  readonly provider: string | undefined;
  readonly signal: AbortSignal;
  /** The turn was refused by nothing: this candidate is asked first. */
  readonly opened: (first: Candidate) => void;
  readonly said: (text: string) => void;
}

export interface SpokenTurn {
  readonly served: Pick<Turn, "provider" | "model">;
  readonly result: TurnResult;
  /** Of a turn that is not whole, unless its caller left. */
  readonly failure: BrikkError | undefined;
}

/**
 * One turn through the line that every request takes (completion/run-completion.ts), as a stream whose text goes to `said`.
 * Resolves when it is settled, whatever became of it; throws the coded error of one that was refused before anybody was asked.
 */
export async function speakTurn(
  services: CompletionServices,
  limits: { readonly requestTimeoutMs: number },
  call: TurnCall,
): Promise<SpokenTurn> {
  const { key, admission, requestId, traceId, request } = call;
  let route: Route | undefined;
  let record: CompletionRecord | undefined;
  const sink = createTextSink({ opened: () => call.opened(route!.candidates[0]), said: call.said });
  const late = new AbortController();
  const deadline = setTimeout(() => late.abort(deadlineExceeded(limits.requestTimeoutMs)), limits.requestTimeoutMs);
  let thrown: unknown;
  try {
    await runCompletion(
      chargingServices(
        recordingServices(services, (one) => (record = one)),
        admission,
      ),
      {
        key,
        requestId,
        traceId,
        request,
        chooseRoute: () => (route = call.chooseRoute()),
        // A turn that begins anew would have to take back what its readers have.
        rescue: key.rescue === "continue" ? "continue" : undefined,
        endsAtMs: services.clock.monotonicMs() + limits.requestTimeoutMs,
        signal: AbortSignal.any([call.signal, late.signal]),
        sink,
      },
    );
  } catch (error) {
    if (!sink.isOpened) throw error;
    thrown = error;
  } finally {
    clearTimeout(deadline);
    admission.release?.();
  }
  return spokenTurn(services, call, route!, sink, record, thrown);
}

const recordingServices = (
  services: CompletionServices,
  keep: (record: CompletionRecord) => void,
): CompletionServices => ({
  ...services,
  record: (record) => {
    keep(record);
    services.record(record);
  },
});

function spokenTurn(
  services: CompletionServices,
  call: TurnCall,
  route: Route,
  sink: TextSink,
  record: CompletionRecord | undefined,
  thrown: unknown,
): SpokenTurn {
  const [first] = route.candidates;
  const model = record?.served?.model ?? first.model;
  const usage = record?.usage;
  const input = usage ? inputTokens(usage) : 0;
  const failure = sink.failure ?? (thrown === undefined ? undefined : toBrikkError(thrown));
  const outcome = record?.outcome;
  return {
    served: { provider: model.provider, model: model.id },
    result: {
      outcome: outcome === undefined || outcome === "refused" ? "failed" : outcome,
      inputTokens: input,
      outputTokens: usage ? totalTokens(usage) - input : 0,
      cost: record?.receipt?.cost ?? ZERO_USD,
      latencyMs: Math.round(record?.durationMs ?? 0),
      timeToFirstTokenMs: record?.timeToFirstTokenMs,
      attempts: record?.attempts ?? 0,
      failedAttempts: (record?.history ?? []).flatMap(({ hedge: _hedge, fault, ...attempt }) =>
        fault === undefined ? [] : [{ ...attempt, fault }],
      ),
      routeReason: whyThatRoute(route, call.provider),
      fallback:
        record?.served !== undefined &&
        (record.fallback === true || (call.provider !== undefined && model.provider !== call.provider)),
      simulated: record?.served?.simulated ?? first.connected.provider.simulated,
      finishReason: sink.finishReason,
      clampedMaxTokens: sink.clampedMaxTokens,
      error: failure && shownFailure(services.redactor, failure, call.requestId),
    },
    failure,
  };
}

/** With why the one who is meant to speak may not, as by the key's rights. */
function whyThatRoute({ reason, excluded }: Route, provider: string | undefined): string {
  const own = excluded.find((one) => one.provider === provider);
  return own ? `${reason}; without ${own.provider}/${own.model}: ${own.reason}` : reason;
}
