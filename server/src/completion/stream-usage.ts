import { costOf } from "../ledger/cost.ts";
import type { AttemptUsage } from "../ledger/ledger.ts";
import { NO_USAGE } from "../ledger/usage.ts";
import { nanoUsd, usdNumber } from "../lib/money.ts";
import { ProviderError } from "../providers/provider.ts";
import type { StreamedAnswer } from "./attempt.ts";
import { type Fate, fateOf } from "./engage.ts";
import type { Candidate } from "./model-router.ts";
import type { StreamEnding } from "./relay-stream.ts";
import type { WireChunk } from "./stream-meter.ts";

/** The usage chunk with what the request costs: the answer, and what attempts before it may be billed. */
export function describeUsage(
  chunk: WireChunk,
  { meter }: StreamedAnswer,
  { model }: Candidate,
  earlier: readonly AttemptUsage[],
): WireChunk {
  let cost: bigint = costOf(meter.usage ?? NO_USAGE, model.rates);
  for (const attempt of earlier) cost += costOf(attempt.usage, attempt.model.rates);
  return { ...chunk, usage: { ...(chunk.usage as object), cost_usd: usdNumber(nanoUsd(cost)) } };
}

/** What a stream's ending says of its provider. */
export function fateOfStream(ending: StreamEnding, signal: AbortSignal): Fate {
  switch (ending.outcome) {
    case "completed":
      return { kind: "well" };
    case "truncated":
      return ending.error instanceof ProviderError ? fateOf(ending.error, signal) : { kind: "nothing" };
    case "cancelled":
      return { kind: "nothing" };
    default:
      return ending satisfies never;
  }
}
