import { parentPort } from "node:worker_threads";
import { countTokens, setMergeCacheSize } from "gpt-tokenizer/encoding/o200k_base";

/** One job of token-count.ts: count these pieces, but give up after so many milliseconds. */
export interface CountJob {
  readonly id: number;
  readonly pieces: readonly string[];
  readonly budgetMs: number;
}

/** undefined: given up. */
export interface CountResult {
  readonly id: number;
  readonly tokens: number | undefined;
}

// Each entry may hold a whole piece of a caller's text, so the tokenizer's default of 100,000 entries is far too much memory.
setMergeCacheSize(2_000);
// Text such as "<|endoftext|>" is what a caller wrote, not a control token.
const AS_PLAIN_TEXT = { disallowedSpecial: new Set<string>() };

parentPort?.on("message", (job: CountJob) => {
  parentPort?.postMessage({ id: job.id, tokens: countPieces(job) } satisfies CountResult);
});

function countPieces({ pieces, budgetMs }: CountJob): number | undefined {
  const end = performance.now() + budgetMs;
  let tokens = 0;
  for (const piece of pieces) {
    if (performance.now() > end) return undefined;
    tokens += countTokens(piece, AS_PLAIN_TEXT);
  }
  return tokens;
}
