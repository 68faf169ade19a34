import type { Operation, Vendor } from "./vendor.ts";
import type { Fault } from "./faults.ts";

/** What the vendor would bill. */
export interface ServedUsage {
  readonly promptTokens: number;
  readonly cachedTokens: number;
  /** Includes reasoningTokens; for a broken or abandoned answer the tokens produced until then. */
  readonly completionTokens: number;
  readonly reasoningTokens: number;
}

export const NO_USAGE: ServedUsage = { promptTokens: 0, cachedTokens: 0, completionTokens: 0, reasoningTokens: 0 };

export interface ServedEntry {
  readonly id: string;
  readonly vendor: Vendor;
  readonly operation: Operation;
  readonly model: string;
  readonly stream: boolean;
  /** 0 when no status line was sent. */
  readonly status: number;
  readonly usage: ServedUsage;
  /** The answer, or the refusal, was sent to its end. */
  readonly finished: boolean;
  /** The client left before the end. */
  readonly aborted: boolean;
  /** Milliseconds from the request's arrival to the client's leaving. */
  readonly abortedAtMs?: number;
  readonly fault?: Fault["kind"];
}

export interface ServedTotals extends ServedUsage {
  readonly requests: number;
}

const KEPT_ENTRIES = 10_000;

type Waiting = { matches: (entry: ServedEntry) => boolean; resolve: (entry: ServedEntry) => void };

/** What the simulator has answered: the last 10,000 requests, and running totals of all. */
export class ServedLog {
  #entries: ServedEntry[] = [];
  #totals = emptyTotals();
  #waiting: Waiting[] = [];
  readonly #followers: ((entry: ServedEntry) => void)[] = [];

  record(entry: ServedEntry): void {
    for (const tell of this.#followers) tell(entry);
    this.#entries.push(entry);
    if (this.#entries.length > KEPT_ENTRIES) this.#entries.shift();
    this.#totals[entry.vendor] = addUsage(this.#totals[entry.vendor], entry.usage);
    for (const waiting of this.#waiting.filter(({ matches }) => matches(entry))) {
      this.#waiting = this.#waiting.filter((other) => other !== waiting);
      waiting.resolve(entry);
    }
  }

  /** Oldest first; with a limit, the latest of them. */
  list(limit = KEPT_ENTRIES): readonly ServedEntry[] {
    return limit === 0 ? [] : this.#entries.slice(-limit);
  }

  totals(): Readonly<Record<Vendor, ServedTotals>> {
    return { ...this.#totals };
  }

  /** Tells of every entry from now on, also of those that the log will not keep. */
  follow(tell: (entry: ServedEntry) => void): void {
    this.#followers.push(tell);
  }

  /** Forgets entries and totals. */
  clear(): void {
    this.#entries = [];
    this.#totals = emptyTotals();
  }

  /** The first matching entry, already recorded or yet to come: how a test waits for an abort without sleeping. */
  whenRecorded(matches: (entry: ServedEntry) => boolean): Promise<ServedEntry> {
    const known = this.#entries.find(matches);
    if (known !== undefined) return Promise.resolve(known);
    return new Promise((resolve) => this.#waiting.push({ matches, resolve }));
  }
}

function emptyTotals(): Record<Vendor, ServedTotals> {
  return { openai: { requests: 0, ...NO_USAGE }, mistral: { requests: 0, ...NO_USAGE } };
}

function addUsage(totals: ServedTotals, usage: ServedUsage): ServedTotals {
  return {
    requests: totals.requests + 1,
    promptTokens: totals.promptTokens + usage.promptTokens,
    cachedTokens: totals.cachedTokens + usage.cachedTokens,
    completionTokens: totals.completionTokens + usage.completionTokens,
    reasoningTokens: totals.reasoningTokens + usage.reasoningTokens,
  };
}
