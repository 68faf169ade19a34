import { BrikkError } from "../errors.ts";
import type { Reservation } from "../ledger/ledger.ts";
import { reach } from "../lib/fault-point.ts";
import { ProviderError, type ProviderFault } from "../providers/provider.ts";
import { backoffMs, wait } from "../resilience/backoff.ts";
import type { CallHistory } from "./call-history.ts";
import type { CompletionRequest } from "./completion-request.ts";
import { type Begun, engage, type Entry, leave } from "./engage.ts";
import { enter, mayBeAskedNow, type Obstacle, targetOf } from "./enter.ts";
import type { HedgePlan } from "./hedge.ts";
import { hedgedCall } from "./hedged-call.ts";
import type { Candidate } from "./model-router.ts";
import { noteFault } from "./note-fault.ts";
import type { ProviderHealth } from "./provider-health.ts";
import type { CallServices } from "./run-completion.ts";

/**
 * Asks candidates until one begins to answer. Who fails is followed by the next one at once; when all were asked, those whose
 * fault may pass are asked again, after a pause that grows. Bounds: attempts in all, retries as a share of each provider's traffic,
 * the time that is waited, and the request's own signal.
 *
 * Throws the last fault, what is the caller's own mistake at once, and a refusal when nobody could be asked at all.
 */
export async function callCandidates(services: CallServices, call: CandidateCall): Promise<Begun> {
  const { history, asked, signal } = call;
  let pool: readonly Candidate[] = call.candidates;
  let last: ProviderError | undefined;
  let waitedMs = 0;

  for (let round = 1; ; round += 1) {
    const again: Candidate[] = [];
    const obstacles: Obstacle[] = [];
    for (const [index, candidate] of pool.entries()) {
      if (history.exhausted) break;
      // Was asked beside another one already.
      if (round === 1 && asked.has(candidate)) {
        if (mayPass(asked.get(candidate))) again.push(candidate);
        continue;
      }
      const entry = await enter(services, candidate, {
        isRetry: asked.has(candidate) || call.askedBefore.includes(candidate),
        alone: !pool.some((other, place) => place > index && mayBeAskedNow(services.health, other)),
        signal,
      });
      if ("why" in entry) {
        obstacles.push(entry);
        if (entry.availableInMs !== undefined) again.push(candidate);
        continue;
      }
      try {
        await makeRoom(services, call);
        asked.set(candidate, undefined);
        history.serve(candidate, call.requestFor(candidate));
      } catch (error) {
        leave(entry, { kind: "nothing" });
        throw error;
      }
      try {
        const begun =
          call.hedge && round === 1
            ? await hedgedCall(services, call, call.hedge, entry)
            : await ask(services, call, entry);
        if (history.open) history.open.answer = begun.answer;
        reach("answer-begun");
        return begun;
      } catch (error) {
        // Also when the caller left just then: what it came to decides what it costs.
        if (history.open && error instanceof ProviderError) history.open.error = error;
        if (signal.aborted || !(error instanceof ProviderError) || error.isCallers) throw error;
        last = error;
        if (mayPass(asked.get(candidate))) again.push(candidate);
      }
    }

    if (again.length === 0 || history.exhausted) throw last ?? nobodyAvailable(obstacles);
    const soonestMs = Math.min(...again.map((candidate) => targetOf(services.health, candidate).availableInMs));
    // Who has not been asked yet has only to wait for its breaker; a step at a time where probes decide.
    const pauseMs = Math.max(soonestMs, last === undefined ? SHORTEST_PAUSE_MS : backoffMs(round, services.random));
    // What would come too late for this request is told while there is somebody to tell.
    const tooLong =
      waitedMs + pauseMs > (last === undefined ? PATIENCE_MS : LONGEST_WAIT_MS) ||
      (call.endsAtMs !== undefined && services.clock.monotonicMs() + pauseMs >= call.endsAtMs);
    if (tooLong) throw last ?? nobodyAvailable(obstacles);
    await wait(pauseMs, signal);
    waitedMs += pauseMs;
    pool = again;
  }
}

export interface CandidateCall {
  readonly candidates: readonly Candidate[];
  /** The request as the candidate is to be asked it. */
  readonly requestFor: (candidate: Candidate) => CompletionRequest;
  readonly reservation: Reservation;
  readonly history: CallHistory;
  /** Who was asked since this call began, and each one's last fault; empty at first. */
  readonly asked: Map<Candidate, ProviderError | undefined>;
  /** Who was asked by the same request before this call: asking them is a retry. */
  readonly askedBefore: readonly Candidate[];
  /** What the candidate's answer is shortened to: by the budget, or by what was said already. */
  readonly maxOutputTokensFor: (candidate: Candidate) => number | undefined;
  readonly hedge: HedgePlan | undefined;
  /** When the request's time is over, on the monotonic clock; the signal says when it is. */
  readonly endsAtMs: number | undefined;
  readonly signal: AbortSignal;
}

/** An outage is told at once; a breaker that has just opened is waited for where there is nobody else. */
const PATIENCE_MS = 2_000;
/** A vendor that asks for more time than that is not waited for. */
const LONGEST_WAIT_MS = 10_000;
const SHORTEST_PAUSE_MS = 20;

/** What may be another time: nobody heard the request, or whoever did was not able to serve just then. */
const mayPass = (error: ProviderError | undefined): boolean => error !== undefined && PASSING.has(error.fault);
const PASSING: ReadonlySet<ProviderFault> = new Set<ProviderFault>([
  "unreachable",
  "connect-timeout",
  "overloaded",
  "rate-limited",
  "stream-broken",
]);

const ask = (services: CallServices, call: CandidateCall, entry: Entry): Promise<Begun> =>
  engage(entry, call.requestFor(entry.candidate), {
    history: call.history,
    clock: services.clock,
    maxOutputTokens: call.maxOutputTokensFor(entry.candidate),
    signal: call.signal,
    onFault: noteFault(services, call),
  });

/** Before another attempt: what the one before may be billed is set aside beside the next one's worst case. Throws when it does not fit. */
async function makeRoom({ tokenCounter }: CallServices, call: CandidateCall): Promise<void> {
  const { history, reservation, signal } = call;
  if (history.open) {
    if (!(await history.account(tokenCounter, reservation)))
      throw history.open.error ?? new BrikkError("hard_cap_exceeded", "The budget does not pay for another attempt.");
    // Who left meanwhile is charged for that attempt as the last one, and for no other.
    if (signal.aborted) throw signal.reason;
    history.close();
  }
  if (signal.aborted) throw signal.reason;
}

/** What a request that came now would be refused with, as all its candidates are to be left alone for longer than it waits. */
export function nobodyReady(
  health: Pick<ProviderHealth, "standingOf">,
  candidates: readonly Candidate[],
): BrikkError | undefined {
  const obstacles = candidates.map((candidate): Obstacle => {
    const { state, availableInMs } = health.standingOf(candidate.model.provider, candidate.model.id);
    return { candidate, why: state === "closed" ? "rate limited" : "circuit open", availableInMs };
  });
  return obstacles.every(({ availableInMs }) => availableInMs! > PATIENCE_MS) ? nobodyAvailable(obstacles) : undefined;
}

function nobodyAvailable(obstacles: readonly Obstacle[]): BrikkError {
  const soonest = Math.min(...obstacles.map(({ availableInMs }) => availableInMs ?? 1_000));
  const details = {
    candidates: obstacles.map(({ candidate: { model }, why, availableInMs }) => ({
      provider: model.provider,
      model: model.id,
      why,
      available_in_ms: availableInMs === undefined ? null : Math.ceil(availableInMs),
    })),
  };
  const named = obstacles.map(({ candidate: { model }, why }) => `${model.provider}/${model.id}: ${why}`).join("; ");
  const extras = { details, retryAfterMs: soonest };
  if (obstacles.every(({ why }) => why === "rate limited"))
    return new BrikkError(
      "provider_rate_limited",
      `The provider asked this gateway to wait, and nobody else may serve the request (${named}). Try again after the time that Retry-After names.`,
      extras,
    );
  if (obstacles.every(({ why }) => why === "as much in hand as allowed"))
    return new BrikkError(
      "overloaded",
      `This gateway has as many requests with the provider as it may, and the queue did not move in time (${named}). Try again in a moment.`,
      extras,
    );
  return new BrikkError(
    "no_provider_available",
    `Nobody who may serve this request can be asked right now (${named}). Try again after the time that Retry-After names.`,
    extras,
  );
}
