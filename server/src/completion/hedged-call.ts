import { costOf } from "../ledger/cost.ts";
import { NO_USAGE } from "../ledger/usage.ts";
import type { NanoUsd } from "../lib/money.ts";
import { ProviderError } from "../providers/provider.ts";
import type { CandidateCall } from "./call-candidates.ts";
import { type Begun, engage, type Entry, leave } from "./engage.ts";
import { enter, mayBeAskedNow } from "./enter.ts";
import type { HedgePlan } from "./hedge.ts";
import { type MeasuredUsage, mayHaveWorked, measureAnswer, measureFailure, mostUsed } from "./measure-usage.ts";
import type { Candidate } from "./model-router.ts";
import { noteFault } from "./note-fault.ts";
import type { CallServices } from "./run-completion.ts";

/**
 * One attempt, and a second one beside it when the first is slower to begin than it nearly always is. Whoever begins first
 * serves; the other is cancelled, and what it may be billed is charged beside the answer. Both worst cases are set aside before the
 * second is asked, and it is not asked when losers have had their share of the spending already.
 */
export async function hedgedCall(
  services: CallServices,
  call: CandidateCall,
  plan: HedgePlan,
  entry: Entry,
): Promise<Begun> {
  const { history, signal } = call;
  const first = startRunner(services, call, entry);
  const afterMs = plan.afterMs ?? latencyOf(call, entry).quantile(0.95);
  if (afterMs === undefined || !(await isSlow(first, afterMs))) return take(await first.result);

  // Whatever keeps the second from being asked, the first is on its way and has a place that only its end gives back.
  const hedge = await openHedge(services, call, plan, entry).catch((error: unknown) => {
    if (!signal.aborted) services.events.broke(error);
    return undefined;
  });
  if (!hedge) return take(await first.result);
  const { entry: other, giveBack } = hedge;
  if (signal.aborted || first.done) {
    leave(other, { kind: "nothing" });
    giveBack();
    return take(await first.result);
  }
  call.asked.set(other.candidate, undefined);
  const second = startRunner(services, call, other, true);
  const [early, late] = await earlier(first, second);
  const outcome = await early.result;
  const isHedge = early === second;
  // What the second does not like about a request is no reason to give the first one up.
  const decides =
    outcome.kind === "begun" ||
    signal.aborted ||
    !(outcome.error instanceof ProviderError) ||
    (outcome.error.isCallers && !isHedge);

  if (decides) {
    history.serve(early.entry.candidate, call.requestFor(early.entry.candidate));
    if (outcome.kind === "begun") services.events.hedged(other.candidate, isHedge ? "won" : "lost");
    late.cancel();
    history.later.push(
      chargeLoser(services, call, plan, late)
        .catch((error: unknown) => services.events.broke(error))
        .finally(giveBack),
    );
    return take(outcome);
  }
  giveBack();
  // The room for both is set aside already.
  if (mayHaveWorked(outcome.error)) {
    const { candidate } = early.entry;
    const request = call.requestFor(candidate);
    const { usage } = await measureFailure(services.tokenCounter, request, outcome.error).catch(() =>
      mostUsed(request),
    );
    history.earlier.push({ model: candidate.model, usage });
    plan.spending.addLost(costOf(usage, candidate.model.rates));
  }
  history.serve(late.entry.candidate, call.requestFor(late.entry.candidate));
  const result = await late.result;
  services.events.hedged(other.candidate, result.kind === "begun" && !isHedge ? "won" : "lost");
  return take(result);
}

type RunnerResult =
  | { readonly kind: "begun"; readonly begun: Begun }
  | { readonly kind: "failed"; readonly error: unknown };

interface Runner {
  readonly entry: Entry;
  readonly result: Promise<RunnerResult>;
  readonly done: boolean;
  /** Whoever waits for it has an answer from elsewhere. */
  cancel(): void;
}

function startRunner(services: CallServices, call: CandidateCall, entry: Entry, hedge?: true): Runner {
  const controller = new AbortController();
  const follow = (): void => controller.abort(call.signal.reason);
  if (call.signal.aborted) follow();
  call.signal.addEventListener("abort", follow);
  const startedAt = services.clock.monotonicMs();
  let done = false;
  const result = engage(entry, call.requestFor(entry.candidate), {
    history: call.history,
    clock: services.clock,
    maxOutputTokens: call.maxOutputTokensFor(entry.candidate),
    signal: controller.signal,
    onFault: noteFault(services, call),
    ...(hedge && { hedge }),
  }).then(
    (begun): RunnerResult => ({
      kind: "begun",
      begun: {
        ...begun,
        ended: (fate) => {
          call.signal.removeEventListener("abort", follow);
          begun.ended(fate);
        },
      },
    }),
    (error: unknown): RunnerResult => {
      call.signal.removeEventListener("abort", follow);
      return { kind: "failed", error };
    },
  );
  void result.then(() => (done = true));
  return {
    entry,
    result,
    get done() {
      return done;
    },
    cancel() {
      // It would have taken at least so long; to forget that would make the quantile believe that all are fast.
      if (!done) latencyOf(call, entry).add(services.clock.monotonicMs() - startedAt);
      controller.abort(new Error("another candidate began to answer first"));
    },
  };
}

const latencyOf = ({ requestFor }: CandidateCall, { candidate, target }: Entry) =>
  requestFor(candidate).stream ? target.firstToken : target.whole;

function take(result: RunnerResult): Begun {
  if (result.kind === "failed") throw result.error;
  return result.begun;
}

async function isSlow(runner: Runner, afterMs: number): Promise<boolean> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<true>((resolve) => {
    timer = setTimeout(() => resolve(true), afterMs);
  });
  const slow = await Promise.race([runner.result.then(() => false), late]);
  clearTimeout(timer);
  return slow;
}

async function earlier(first: Runner, second: Runner): Promise<readonly [Runner, Runner]> {
  const early = await Promise.race([first.result.then(() => first), second.result.then(() => second)]);
  return early === first ? [first, second] : [second, first];
}

/**
 * The next candidate that was not asked yet, when there is one who can be asked at once and the budgets and the policy pay for it;
 * what is set aside of the policy's share is given back when it is known what the loser costs.
 */
async function openHedge(
  services: CallServices,
  call: CandidateCall,
  plan: HedgePlan,
  first: Entry,
): Promise<{ readonly entry: Entry; readonly giveBack: () => void } | undefined> {
  const { asked, candidates, history, reservation, signal } = call;
  const candidate = candidates.find((other) => !asked.has(other) && mayBeAskedNow(services.health, other));
  if (!candidate || history.exhausted) return undefined;
  const loss = lossOf(call, first.candidate, candidate);
  if (!plan.spending.setAside(loss, plan.maxExtraSpend)) {
    services.events.hedged(candidate, "skipped");
    return undefined;
  }
  const giveBack = (): void => plan.spending.giveBack(loss);
  let entry: Entry | undefined;
  try {
    if ((await reservation.again()) && !signal.aborted) {
      const entered = await enter(services, candidate, { isRetry: false, alone: false, signal });
      if ("permit" in entered) entry = entered;
    }
  } finally {
    if (!entry) {
      giveBack();
      services.events.hedged(candidate, "skipped");
    }
  }
  return entry && { entry, giveBack };
}

/** About what the dearer of the two is billed for the input alone. */
function lossOf({ requestFor }: CandidateCall, ...candidates: readonly Candidate[]): NanoUsd {
  const losses = candidates.map((candidate) => {
    const freshInputTokens = Math.ceil(requestFor(candidate).document.bytes.length / BYTES_PER_TOKEN);
    return costOf({ ...NO_USAGE, freshInputTokens }, candidate.model.rates);
  });
  return losses.reduce((most, loss) => (loss > most ? loss : most));
}

const BYTES_PER_TOKEN = 4;

async function chargeLoser(
  { tokenCounter }: CallServices,
  call: CandidateCall,
  plan: HedgePlan,
  loser: Runner,
): Promise<void> {
  const result = await loser.result;
  const { candidate } = loser.entry;
  const request = call.requestFor(candidate);
  let measuring: Promise<MeasuredUsage>;
  if (result.kind === "begun") {
    // Both began at the same moment.
    const { answer, ended } = result.begun;
    if (answer.kind === "stream") await answer.rest.return();
    ended({ kind: "nothing" });
    measuring = measureAnswer(tokenCounter, request, answer);
  } else if (result.error instanceof ProviderError) {
    measuring = measureFailure(tokenCounter, request, result.error);
  } else measuring = measureAnswer(tokenCounter, request, undefined);
  const measured = await measuring.catch(() => mostUsed(request));
  if (measured.usageSource === "none") return;
  call.history.earlier.push({ model: candidate.model, usage: measured.usage });
  plan.spending.addLost(costOf(measured.usage, candidate.model.rates));
}
