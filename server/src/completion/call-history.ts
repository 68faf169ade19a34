import type { AttemptUsage, Reservation } from "../ledger/ledger.ts";
import type { TokenCounter } from "../ledger/token-count.ts";
import type { Clock } from "../lib/clock.ts";
import { ProviderError } from "../providers/provider.ts";
import type { CompletionRequest } from "./completion-request.ts";
import type { Answer } from "./attempt.ts";
import { type MeasuredUsage, mayHaveWorked, measureAnswer, measureFailure } from "./measure-usage.ts";
import type { Candidate } from "./model-router.ts";
import type { RescueMode } from "../access/api-key.ts";

/** One upstream call as logs, errors and explanations tell of it. */
export interface AttemptNote {
  readonly provider: string;
  readonly model: string;
  /** Asked beside another one that was slow to begin. */
  readonly hedge: boolean;
  /** Undefined: it answered, or is still on its way. */
  fault: string | undefined;
  /** The vendor's own status where it refused. */
  status: number | undefined;
  ms: number;
}

/**
 * The attempts of one request, and which of them still have to be accounted for. Before anybody else is asked, what the open
 * attempt may be billed must fit in the budgets beside the next one's worst case (`account`).
 */
export class CallHistory {
  readonly #most: number;
  readonly attempts: AttemptNote[] = [];
  /** What attempts before the last one may be billed. */
  readonly earlier: AttemptUsage[] = [];
  /** What is still being worked out of `earlier`; the settlement waits for it. */
  readonly later: Promise<void>[] = [];
  /** The attempt that the settlement is about: on its way, failed with an error, or begun to answer. */
  open: OpenAttempt | undefined;
  /** Whoever was asked last. */
  candidate: Candidate | undefined;
  timeToFirstTokenMs: number | undefined;
  /** Whose stream broke before it was given to another candidate, and its part of `earlier`. */
  cut: { readonly candidate: Candidate; readonly attempt: AttemptUsage; readonly measured: MeasuredUsage } | undefined;
  /** How a stream that broke was taken up by another candidate. */
  rescue: RescueMode | undefined;

  /** `most` attempts, over all candidates: one budget, so that no retry stands inside another. */
  constructor(most: number) {
    this.#most = most;
  }

  get exhausted(): boolean {
    return this.attempts.length >= this.#most;
  }

  begin(candidate: Candidate, clock: Clock, hedge = false): AttemptTrace {
    const note: AttemptNote = {
      provider: candidate.model.provider,
      model: candidate.model.id,
      hedge,
      fault: undefined,
      status: undefined,
      ms: 0,
    };
    this.attempts.push(note);
    const startedAt = clock.monotonicMs();
    return {
      answered: () => (note.ms = Math.round(clock.monotonicMs() - startedAt)),
      failed: (error) => {
        note.ms = Math.round(clock.monotonicMs() - startedAt);
        note.fault = error instanceof ProviderError ? error.fault : "ended";
        if (error instanceof ProviderError) note.status = error.info.status;
      },
    };
  }

  /** The attempt that the settlement is about from now on. */
  serve(candidate: Candidate, request: CompletionRequest): void {
    this.open = { candidate, request };
    this.candidate = candidate;
  }

  /** False when the budgets do not pay for another attempt; the open one then stays the last. */
  async account(tokenCounter: TokenCounter, reservation: Reservation): Promise<boolean> {
    const { open } = this;
    if (open === undefined || !(open.answer || mayHaveWorked(open.error))) {
      this.open = undefined;
      return true;
    }
    const measured = open.answer
      ? await measureAnswer(tokenCounter, open.request, open.answer)
      : await measureFailure(tokenCounter, open.request, open.error);
    if (!(await reservation.again())) return false;
    this.#measured = measured;
    return true;
  }

  /** The open attempt becomes an earlier one; whoever leaves before this is charged for it as the last. */
  close(): void {
    if (this.#measured && this.open) {
      const { candidate, answer } = this.open;
      const attempt = { model: candidate.model, usage: this.#measured.usage };
      this.earlier.push(attempt);
      if (answer) this.cut = { candidate, attempt, measured: this.#measured };
    }
    this.#measured = undefined;
    this.open = undefined;
  }

  #measured: MeasuredUsage | undefined;
}

export interface OpenAttempt {
  readonly candidate: Candidate;
  /** As this candidate was asked it. */
  readonly request: CompletionRequest;
  answer?: Answer;
  error?: ProviderError;
}

export interface AttemptTrace {
  answered(): number;
  failed(error: unknown): void;
}
