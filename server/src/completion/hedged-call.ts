import { costOf } from "../ledger/cost.ts";
import { NO_USAGE } from "../ledger/usage.ts";
import { nanoUsd } from "../lib/money.ts";
import { ProviderError } from "../providers/provider.ts";
import type { CandidateCall } from "./call-candidates.ts";
import { type Begun, engage, type Entry, leave } from "./engage.ts";
import { enter, mayBeAskedNow } from "./enter.ts";
import type { HedgePlan } from "./hedge.ts";
import { mayHaveWorked, measureAnswer, measureFailure } from "./measure-usage.ts";
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

  const other = await secondEntry(services, call, plan, entry);
  if (!other) return take(await first.result);
  if (signal.aborted || first.done) {
    leave(other, { kind: "nothing" });
    // Was not asked after all, so it is the first one's fallback.
    call.asked.delete(other.candidate);
    return take(await first.result);
  }
  const second = startRunner(services, call, other, true);
  const [early, late] = await earlier(first, second);
  const outcome = await early.result;
  const isHedge = early === second;

  if (outcome.kind === "begun") {
    history.serve(early.entry.candidate);
    services.events.hedged(other.candidate, isHedge ? "won" : "lost");
    late.cancel();
    history.later.push(chargeLoser(services, call, plan, late));
    return outcome.begun;
  }
  if (signal.aborted || !(outcome.error instanceof ProviderError) || outcome.error.isCallers) {
    late.cancel();
    history.later.push(chargeLoser(services, call, plan, late));
    throw outcome.error;
  }
  // The room for both is set aside already.
  if (mayHaveWorked(outcome.error)) {
    const { usage } = await measureFailure(services.tokenCounter, call.request, outcome.error);
    history.earlier.push({ model: early.entry.candidate.model, usage });
  }
  history.serve(late.entry.candidate);
  services.events.hedged(other.candidate, isHedge ? "lost" : "won");
  return take(await late.result);
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
  const result = engage(entry, call.request, {
    history: call.history,
    clock: services.clock,
    maxOutputTokens: call.maxOutputTokens,
    signal: controller.signal,
    onFault: services.events.attemptFailed,
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

const latencyOf = ({ request }: CandidateCall, { target }: Entry) =>
  request.stream ? target.firstToken : target.whole;

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

/** The next candidate, when there is one who can be asked at once and the budgets and the policy pay for it. */
async function secondEntry(
  services: CallServices,
  call: CandidateCall,
  plan: HedgePlan,
  first: Entry,
): Promise<Entry | undefined> {
  const candidate = call.candidates.find((other) => other !== first.candidate && mayBeAskedNow(services.health, other));
  if (!candidate || call.history.exhausted) return undefined;
  const inputTokens = Math.ceil(call.request.document.bytes.length / BYTES_PER_TOKEN);
  const lost = [first.candidate, candidate].map(({ model }) =>
    costOf({ ...NO_USAGE, freshInputTokens: inputTokens }, model.rates),
  );
  const dearest = nanoUsd(lost[0]! > lost[1]! ? lost[0]! : lost[1]!);
  const skipped = (): undefined => {
    services.events.hedged(candidate, "skipped");
    return undefined;
  };
  if (!plan.spending.allows(dearest, plan.maxExtraSpend)) return skipped();
  if (!(await call.reservation.again())) return skipped();
  const entry = await enter(services, candidate, { isRetry: false, alone: false, signal: call.signal });
  if ("why" in entry) return skipped();
  call.asked.add(candidate);
  return entry;
}

const BYTES_PER_TOKEN = 4;

async function chargeLoser(
  { tokenCounter }: CallServices,
  call: CandidateCall,
  plan: HedgePlan,
  loser: Runner,
): Promise<void> {
  const result = await loser.result;
  const { model } = loser.entry.candidate;
  if (result.kind === "begun") {
    // Both began at the same moment.
    const { answer, ended } = result.begun;
    if (answer.kind === "stream") await answer.rest.return();
    ended({ kind: "nothing" });
  } else if (result.error instanceof ProviderError && !mayHaveWorked(result.error)) return;
  const { usage } = await measureAnswer(
    tokenCounter,
    call.request,
    result.kind === "begun" ? result.begun.answer : undefined,
  );
  call.history.earlier.push({ model, usage });
  plan.spending.addLost(costOf(usage, model.rates));
}
