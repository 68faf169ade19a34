import { sseEvent } from "../lib/sse-events.ts";
import { ProviderError } from "../providers/provider.ts";
import { callerLeft } from "./abort-reason.ts";
import type { MeteredBytes, StreamedAnswer } from "./attempt.ts";
import type { Candidate } from "./model-router.ts";
import type { CompletionSink } from "./run-completion.ts";
import type { MeteredEvent, WireChunk } from "./stream-meter.ts";

/** What became of a stream that had begun. */
export type StreamEnding =
  | { readonly outcome: "completed"; readonly answer: StreamedAnswer }
  | { readonly outcome: "truncated"; readonly answer: StreamedAnswer; readonly error: unknown }
  | { readonly outcome: "cancelled"; readonly answer: StreamedAnswer };

export interface StreamRelay {
  readonly candidate: Candidate;
  readonly answer: StreamedAnswer;
  readonly sink: Pick<CompletionSink, "write">;
  readonly signal: AbortSignal;
  readonly wantsUsage: boolean;
  /** The usage chunk as its reader gets it. */
  readonly describeUsage: (chunk: WireChunk) => WireChunk;
  /** For a stream that goes on where another broke: its events are made to fit. Undefined: they are the provider's own bytes. */
  readonly refit: ((bytes: Buffer) => Buffer | undefined) | undefined;
}

/** Passes the stream on, all but its end: `[DONE]` waits for the settlement. Never throws. */
export async function relayStream(relay: StreamRelay): Promise<StreamEnding> {
  const { answer, sink, signal } = relay;
  const { provider } = relay.candidate.model;
  const { meter } = answer;
  let done = false;

  /** Collects the bytes of these events that are the caller's, up to the one that says that the stream went wrong. */
  const collect = (pieces: readonly MeteredBytes[], bytes: Buffer[]): ProviderError | undefined => {
    for (const { bytes: own, event } of pieces) {
      switch (event.kind) {
        case "quiet":
        case "output":
        case "usage": {
          const passed = passedBytes(relay, own, event);
          if (passed) bytes.push(passed);
          break;
        }
        case "done":
          done = true;
          return undefined;
        case "vendor-error":
          return new ProviderError("stream-broken", "The provider reported an error inside its stream.", {
            provider,
            vendorMessage: event.message,
          });
        case "malformed":
          return new ProviderError("stream-broken", "The provider's stream had something in it that is not JSON.", {
            provider,
          });
        default:
          event satisfies never;
      }
    }
    return undefined;
  };

  /** Resolves with the fault that ends the stream, if these events hold one; what came before it is the caller's all the same. */
  const pass = async (pieces: readonly MeteredBytes[]): Promise<ProviderError | undefined> => {
    const bytes: Buffer[] = [];
    const fault = collect(pieces, bytes);
    const waiting = bytes.length > 0 && sink.write(bytes.length === 1 ? bytes[0]! : Buffer.concat(bytes));
    if (waiting) await waiting;
    return fault;
  };

  try {
    let fault = await pass(answer.held);
    if (!done && !fault) {
      for await (const pieces of answer.rest) {
        fault = await pass(pieces);
        if (done || fault || signal.aborted) break;
      }
    }
    // The meter has read the whole packet, also what stands behind the fault and was not passed on.
    if (fault && !signal.aborted) return { outcome: "truncated", answer, error: fault };
  } catch (error) {
    // Every choice was finished and counted: only the closing words are missing.
    if (!signal.aborted && !(meter.finished && meter.usage)) return { outcome: "truncated", answer, error };
  } finally {
    await answer.rest.return();
  }
  if (signal.aborted && !done)
    return callerLeft(signal)
      ? { outcome: "cancelled", answer }
      : { outcome: "truncated", answer, error: signal.reason };
  // Something between may well close what was cut with [DONE]; only the model says that it has finished.
  if (meter.finished && (done || meter.usage)) return { outcome: "completed", answer };
  return {
    outcome: "truncated",
    answer,
    error: new ProviderError("stream-broken", "The provider's stream ended before the answer did.", { provider }),
  };
}

/** What the caller gets of an event; undefined: nothing. */
function passedBytes(
  { wantsUsage, describeUsage, refit }: StreamRelay,
  bytes: Buffer,
  event: Extract<MeteredEvent, { kind: "quiet" | "output" | "usage" }>,
): Buffer | undefined {
  let passed = bytes;
  if (event.kind === "usage") {
    if (wantsUsage) passed = sseEvent(describeUsage(event.chunk));
    else if (event.alone) return undefined;
  }
  return refit ? refit(passed) : passed;
}
