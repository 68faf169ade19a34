/**
 * Tokens of a text, three ways: boundTokens (never too few, instant), estimateTokens (about right, instant) and a
 * TokenCounter (the o200k_base tokenizer on its own thread).
 *
 * The counter sends its worker one job at a time and keeps the rest in a bounded queue. A job leaves it in one of two ways:
 * counted, or estimated (queue full, too much text, out of time, worker dead, counter closed). Byte-pair encoding takes time
 * that grows with the square of an unbroken run (100 kB of one letter: 8 s), so text is cut into pieces of bounded length
 * first; the worker looks at the clock between pieces and so always comes back by itself.
 */
import { Worker } from "node:worker_threads";
import type { CountJob, CountResult } from "./token-worker.ts";

/** Longest text the tokenizer is given at once, in UTF-16 units; at worst (unbroken Chinese) some 30 ms of work. */
export const LONGEST_PIECE = 2_000;

export interface TokenCounter {
  /** Tokens of all texts together, without what a chat template adds. Never rejects: falls back to {@link estimateTokens}. */
  count(texts: readonly string[]): Promise<number>;
  /** The same, but undefined where {@link count} would estimate. */
  countExactly(texts: readonly string[]): Promise<number | undefined>;
  /** Ends the worker; what is waiting, and whatever is asked later, is estimated. */
  close(): Promise<void>;
}

export interface TokenCounterLimits {
  /** From the call to the answer, the worker's start included. */
  readonly timeoutMs: number;
  /** Calls that may wait, the one at work included. */
  readonly waitingCalls: number;
  /** Characters one call may have counted. */
  readonly charactersPerCall: number;
}

const LIMITS: TokenCounterLimits = { timeoutMs: 2_000, waitingCalls: 64, charactersPerCall: 2_000_000 };
/** The vocabulary takes some 100 MB; a worker above this dies alone, and the next call starts another. */
const WORKER_MEMORY_MB = 512;

interface Waiting {
  readonly id: number;
  readonly texts: readonly string[];
  readonly deadlineMs: number;
  settle(tokens: number | undefined): void;
}

/** Starts nothing: the worker thread starts with the first call, and does not keep the process alive. */
export function createTokenCounter(limits: Partial<TokenCounterLimits> = {}): TokenCounter {
  const { timeoutMs, waitingCalls, charactersPerCall } = { ...LIMITS, ...limits };
  /** In the order of arrival. */
  const waiting = new Map<number, Waiting>();
  let worker: Worker | undefined;
  /** The job the worker has; its caller may have been answered already. */
  let atWork: number | undefined;
  let lastId = 0;
  let closed = false;

  const count = async (texts: readonly string[]): Promise<number> => (await countExactly(texts)) ?? estimateAll(texts);

  function countExactly(texts: readonly string[]): Promise<number | undefined> {
    const characters = texts.reduce((sum, text) => sum + text.length, 0);
    if (characters === 0) return Promise.resolve(0);
    if (closed || characters > charactersPerCall || waiting.size >= waitingCalls) return Promise.resolve(undefined);
    return new Promise((resolve) => {
      const id = ++lastId;
      const settle = (tokens: number | undefined): void => {
        clearTimeout(timer);
        waiting.delete(id);
        resolve(tokens);
      };
      const timer = setTimeout(settle, timeoutMs, undefined);
      waiting.set(id, { id, texts, deadlineMs: performance.now() + timeoutMs, settle });
      try {
        sendNext();
      } catch {
        // No thread can be had: whoever waits is answered by an estimate.
        atWork = undefined;
        for (const job of waiting.values()) job.settle(undefined);
      }
    });
  }

  function sendNext(): void {
    if (atWork !== undefined) return;
    const next = waiting.values().next().value;
    if (!next) return;
    worker ??= startWorker();
    atWork = next.id;
    worker.postMessage({
      id: next.id,
      pieces: next.texts.flatMap(cutIntoPieces),
      budgetMs: next.deadlineMs - performance.now(),
    } satisfies CountJob);
  }

  function startWorker(): Worker {
    const started = new Worker(new URL("./token-worker.ts", import.meta.url), {
      resourceLimits: { maxOldGenerationSizeMb: WORKER_MEMORY_MB },
    });
    started.on("message", ({ id, tokens }: CountResult) => {
      waiting.get(id)?.settle(tokens);
      atWork = undefined;
      sendNext();
    });
    // "exit" follows every "error"; without this listener the error would end the process.
    started.on("error", () => {});
    started.on("exit", () => {
      if (worker === started) worker = undefined;
      atWork = undefined;
      for (const job of waiting.values()) job.settle(undefined);
    });
    // Last, because a listener for messages takes hold of the process again.
    started.unref();
    return started;
  }

  async function close(): Promise<void> {
    closed = true;
    for (const job of waiting.values()) job.settle(undefined);
    await worker?.terminate();
  }

  return { count, countExactly, close };
}

/**
 * Cuts a text into pieces of at most {@link LONGEST_PIECE}, where possible before a space (a word's token begins with it, so
 * the sum of the pieces' tokens stays that of the text) and never inside a surrogate pair.
 */
export function cutIntoPieces(text: string): string[] {
  const pieces: string[] = [];
  let start = 0;
  while (text.length - start > LONGEST_PIECE) {
    // Looks for the space in a slice: a search from the text's end back would pass over all earlier pieces again.
    const space = text.slice(start, start + LONGEST_PIECE + 1).lastIndexOf(" ");
    let end = start + (space > 0 ? space : LONGEST_PIECE);
    if (isHighSurrogate(text.charCodeAt(end - 1)) && isLowSurrogate(text.charCodeAt(end))) end -= 1;
    pieces.push(text.slice(start, end));
    start = end;
  }
  pieces.push(text.slice(start));
  return pieces;
}

const isHighSurrogate = (unit: number): boolean => unit >= 0xd800 && unit <= 0xdbff;
const isLowSurrogate = (unit: number): boolean => unit >= 0xdc00 && unit <= 0xdfff;

/**
 * A guess without a tokenizer, for the request path and for answers that were cut: counts UTF-16 units by script and weighs
 * them by how many tokens o200k_base makes of such text. For prose and code it is mostly within a fifth of the count; it is
 * never above {@link boundTokens} and 0 only for an empty text.
 */
export function estimateTokens(text: string): number {
  let hundredths = 0;
  for (let index = 0; index < text.length; index += 1) hundredths += weight(text.charCodeAt(index));
  return Math.min(Math.ceil(hundredths / 100), boundTokens(text));
}

/** Hundredths of a token per UTF-16 unit. */
function weight(unit: number): number {
  if (unit === 0x20) return 3;
  if (unit < 0x80) return isAsciiLetter(unit) ? 23 : 60;
  if (unit < 0x0250) return 45;
  if (unit < 0x2e80) return 32;
  if (unit >= 0xac00 && unit < 0xd7b0) return 65;
  if (unit >= 0xd800 && unit < 0xe000) return 90;
  return 75;
}

const isAsciiLetter = (unit: number): boolean => (unit >= 0x41 && unit <= 0x5a) || (unit >= 0x61 && unit <= 0x7a);

/**
 * The most tokens any byte-level tokenizer makes of a text: its UTF-8 bytes. Byte-pair encoding starts from one token per
 * byte and only ever merges. What a chat template adds around a message is not in the text and must be added.
 */
export function boundTokens(text: string): number {
  return Buffer.byteLength(text, "utf8");
}

function estimateAll(texts: readonly string[]): number {
  return texts.reduce((sum, text) => sum + estimateTokens(text), 0);
}
