import { costOf } from "../ledger/cost.ts";
import { NO_USAGE } from "../ledger/usage.ts";
import { usdNumber } from "../lib/money.ts";
import { ProviderError } from "../providers/provider.ts";
import type { StreamedAnswer } from "./attempt.ts";
import { type Fate, fateOf } from "./engage.ts";
import type { Candidate } from "./model-router.ts";
import type { StreamEnding } from "./relay-stream.ts";
import type { WireChunk } from "./stream-meter.ts";

/** The usage chunk with what the answer costs. */
export const describeUsage = (chunk: WireChunk, { meter }: StreamedAnswer, { model }: Candidate): WireChunk => ({
  ...chunk,
  usage: { ...(chunk.usage as object), cost_usd: usdNumber(costOf(meter.usage ?? NO_USAGE, model.rates)) },
});

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
