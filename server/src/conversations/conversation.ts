import type { Outcome } from "../ledger/ledger.ts";
import type { ErrorBody } from "../errors.ts";
import { nanoUsd, type NanoUsd, ZERO_USD } from "../lib/money.ts";

/** Agents that speak in turn. Immutable: what happens makes a new one. */
export interface Conversation {
  readonly id: string;
  readonly kind: "bridge" | "panel";
  /** Of the request that began it; those of the turns are made from it. */
  readonly requestId: string;
  /** What the person said. */
  readonly opening: string;
  readonly agents: readonly Agent[];
  readonly plannedTurns: number;
  readonly startedAtMs: number;
  /** In the order in which they were spoken; only the last one may be under way. */
  readonly turns: readonly Turn[];
  readonly end: ConversationEnd | undefined;
}

export interface Agent {
  readonly name: string;
  /** BCP 47. Undefined: the conversation's own. */
  readonly language: string | undefined;
  /** Who is asked first; undefined where none is wished for. */
  readonly provider: string | undefined;
  readonly model: string | undefined;
}

export interface Turn {
  /** From 1 on. */
  readonly index: number;
  readonly round: number;
  readonly agent: string;
  readonly language: string | undefined;
  readonly requestId: string;
  /** Who served; while the turn is under way, who is asked first. */
  readonly provider: string;
  readonly model: string;
  readonly message: string;
  /** Undefined: it is under way. */
  readonly result: TurnResult | undefined;
}

/** What a turn came to. */
export interface TurnResult {
  readonly outcome: Exclude<Outcome, "refused">;
  readonly inputTokens: number;
  readonly outputTokens: number;
  readonly cost: NanoUsd;
  readonly latencyMs: number;
  readonly timeToFirstTokenMs: number | undefined;
  readonly attempts: number;
  /** Those that came to nothing, in their order: why somebody else had to be asked. */
  readonly failedAttempts: readonly FailedAttempt[];
  /** Why who was asked first was; a turn without a failed attempt has in it why its own provider was passed over. */
  readonly routeReason: string;
  /** Somebody else than the one who was to be asked first served it. */
  readonly fallback: boolean;
  readonly simulated: boolean;
  /** As the model said it; undefined when it did not come to that. */
  readonly finishReason: string | undefined;
  /** What the answer was limited to, where the budget paid for no more. */
  readonly clampedMaxTokens: number | undefined;
  /** Of a turn that is not whole. */
  readonly error: ErrorBody["error"] | undefined;
}

export interface FailedAttempt {
  readonly provider: string;
  readonly model: string;
  readonly fault: string;
  /** The vendor's own, where it refused. */
  readonly status: number | undefined;
  readonly ms: number;
}

/** Why there is no next turn. */
export const ENDINGS = [
  "max_turns",
  "budget",
  "rate_limit",
  "stopped",
  "draining",
  "refused",
  "failed",
  "interrupted",
] as const;
export type Ending = (typeof ENDINGS)[number];

export interface ConversationEnd {
  readonly ended: Ending;
  /** Undefined only of an instance that died. */
  readonly atMs: number | undefined;
  /** Undefined when all turns were spoken. */
  readonly error: ErrorBody["error"] | undefined;
}

export interface ConversationTotals {
  readonly turns: number;
  readonly inputTokens: number;
  readonly outputTokens: number;
  readonly cost: NanoUsd;
  readonly latencyMs: number;
  readonly fallbacks: number;
}

/** Sums over the turns that are over, whatever became of them. */
export function totalsOf({ turns }: Pick<Conversation, "turns">): ConversationTotals {
  let totals: ConversationTotals = {
    turns: 0,
    inputTokens: 0,
    outputTokens: 0,
    cost: ZERO_USD,
    latencyMs: 0,
    fallbacks: 0,
  };
  for (const { result } of turns) {
    if (!result) continue;
    totals = {
      turns: totals.turns + 1,
      inputTokens: totals.inputTokens + result.inputTokens,
      outputTokens: totals.outputTokens + result.outputTokens,
      cost: nanoUsd(totals.cost + result.cost),
      latencyMs: totals.latencyMs + result.latencyMs,
      fallbacks: totals.fallbacks + (result.fallback ? 1 : 0),
    };
  }
  return totals;
}
