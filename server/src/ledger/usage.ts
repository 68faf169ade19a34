/**
 * Tokens of one request in disjoint kinds: each token is counted in exactly one of them, so each can be priced by itself.
 * The one exception says so in its name: `reasoningTokens` is the part of `outputTokens` that was thought, not said.
 */
export interface Usage {
  readonly freshInputTokens: number;
  readonly cachedInputTokens: number;
  readonly cacheWriteTokens: number;
  readonly audioInputTokens: number;
  /** Text written, with reasoning inside and audio outside. */
  readonly outputTokens: number;
  /** Of which reasoning; never more than `outputTokens`. */
  readonly reasoningTokens: number;
  readonly audioOutputTokens: number;
}

export const NO_USAGE: Usage = Object.freeze({
  freshInputTokens: 0,
  cachedInputTokens: 0,
  cacheWriteTokens: 0,
  audioInputTokens: 0,
  outputTokens: 0,
  reasoningTokens: 0,
  audioOutputTokens: 0,
});

/** Far above any context window; a larger figure is a fault of the sender, not a bill. */
const MOST_TOKENS = 1_000_000_000;

/**
 * Reads the `usage` object of the inner wire form (chat completions, embeddings), which vendors send with small
 * differences. On the wire kinds overlap: `prompt_tokens` holds cached, cache-write and audio tokens, `completion_tokens`
 * holds reasoning and audio (the API reference of the chat completion object).
 *
 * - undefined when there is nothing to bill by: not an object, `prompt_tokens` missing, or one of the two main figures
 *   negative, fractional or above 1e9. The caller then estimates. Never throws; unknown fields are ignored.
 * - A detail that is not a sane count is taken as 0, and details that together exceed their whole are cut down, the kinds
 *   that usually cost most (audio, then cache write) keeping theirs: the sum of the kinds is the wire's sum.
 * - `total_tokens` above prompt + completion is believed only as far as the answer itself explains it: by reasoning that
 *   the vendor counts outside the completion, or by audio input that it reports in seconds outside the prompt.
 */
export function readWireUsage(wire: unknown): Usage | undefined {
  if (!isRecord(wire)) return undefined;
  const prompt = count(wire["prompt_tokens"]);
  if (prompt === undefined) return undefined;
  const total = count(wire["total_tokens"]);
  const completion = wire["completion_tokens"] ?? Math.max(0, (total ?? prompt) - prompt);
  const written = count(completion);
  if (written === undefined) return undefined;

  const promptDetails = firstRecord(wire["prompt_tokens_details"], wire["prompt_token_details"]);
  const completionDetails = firstRecord(wire["completion_tokens_details"], wire["completion_token_details"]);
  const reasoning = count(completionDetails["reasoning_tokens"]) ?? 0;

  const unexplained = Math.max(0, (total ?? 0) - prompt - written);
  const reasoningOutside = Math.min(unexplained, reasoning);
  const audioOutside = (count(wire["prompt_audio_seconds"]) ?? 0) > 0 ? unexplained - reasoningOutside : 0;

  const input = prompt + audioOutside;
  const audioInputTokens = Math.min(input, audioOutside + (count(promptDetails["audio_tokens"]) ?? 0));
  const cacheWriteTokens = Math.min(input - audioInputTokens, count(promptDetails["cache_write_tokens"]) ?? 0);
  const cachedInputTokens = Math.min(
    input - audioInputTokens - cacheWriteTokens,
    count(promptDetails["cached_tokens"]) ?? count(wire["num_cached_tokens"]) ?? 0,
  );

  const output = written + reasoningOutside;
  const audioOutputTokens = Math.min(output, count(completionDetails["audio_tokens"]) ?? 0);
  const outputTokens = output - audioOutputTokens;
  return {
    freshInputTokens: input - audioInputTokens - cacheWriteTokens - cachedInputTokens,
    cachedInputTokens,
    cacheWriteTokens,
    audioInputTokens,
    outputTokens,
    reasoningTokens: Math.min(outputTokens, reasoning),
    audioOutputTokens,
  };
}

/** All tokens that went in, whatever their kind; what a vendor's long-context step looks at. */
export function inputTokens(usage: Usage): number {
  return usage.freshInputTokens + usage.cachedInputTokens + usage.cacheWriteTokens + usage.audioInputTokens;
}

/** All tokens of the request; reasoning counts once, inside the output. */
export function totalTokens(usage: Usage): number {
  return inputTokens(usage) + usage.outputTokens + usage.audioOutputTokens;
}

export function addUsage(a: Usage, b: Usage): Usage {
  return {
    freshInputTokens: a.freshInputTokens + b.freshInputTokens,
    cachedInputTokens: a.cachedInputTokens + b.cachedInputTokens,
    cacheWriteTokens: a.cacheWriteTokens + b.cacheWriteTokens,
    audioInputTokens: a.audioInputTokens + b.audioInputTokens,
    outputTokens: a.outputTokens + b.outputTokens,
    reasoningTokens: a.reasoningTokens + b.reasoningTokens,
    audioOutputTokens: a.audioOutputTokens + b.audioOutputTokens,
  };
}

function count(value: unknown): number | undefined {
  return typeof value === "number" && Number.isInteger(value) && value >= 0 && value <= MOST_TOKENS ? value : undefined;
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

function firstRecord(...values: readonly unknown[]): Record<string, unknown> {
  return values.find(isRecord) ?? {};
}
