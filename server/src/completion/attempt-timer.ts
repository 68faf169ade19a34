import { ProviderError, type ProviderFault } from "../providers/provider.ts";

/**
 * The one timer of an attempt. It runs from the sending of the request to its last byte and never ends at the headers; what
 * it waits for changes: the whole answer, or a stream's first output, then each further one. Only output winds it up again:
 * comments and other heartbeats do not. While the caller is the one who is waited for it stands still.
 */
export class AttemptTimer {
  readonly #provider: string;
  readonly #expire: (error: ProviderError) => void;
  #wait: TimedWait;
  #timer: NodeJS.Timeout;
  /** Since when nothing that counts has come; monotonic. The timer itself is not touched for every word. */
  #silentSince: number;
  #pausedAt: number | undefined;

  constructor(provider: string, wait: TimedWait, expire: (error: ProviderError) => void) {
    this.#provider = provider;
    this.#expire = expire;
    this.#wait = wait;
    this.#silentSince = performance.now();
    this.#timer = setTimeout(this.#ring, wait.ms);
  }

  /** From now on something else is waited for. */
  restart(wait: TimedWait): void {
    clearTimeout(this.#timer);
    this.#wait = wait;
    this.#silentSince = performance.now();
    this.#timer = setTimeout(this.#ring, wait.ms);
  }

  /** The provider need not send, as who reads has not taken what came; with `spoken`, that was something that counts. */
  pause(spoken: "spoken" | "quiet"): void {
    this.#pausedAt = performance.now();
    if (spoken === "spoken") this.#silentSince = this.#pausedAt;
  }

  resume(): void {
    if (this.#pausedAt === undefined) return;
    // The time that the reader took is not the provider's.
    this.#silentSince += performance.now() - this.#pausedAt;
    this.#pausedAt = undefined;
  }

  stop(): void {
    clearTimeout(this.#timer);
  }

  readonly #ring = (): void => {
    const { fault, ms } = this.#wait;
    // While the reader is waited for, silence does not grow.
    const silentMs = (this.#pausedAt ?? performance.now()) - this.#silentSince;
    if (silentMs < ms) {
      this.#timer = setTimeout(this.#ring, Math.max(MOMENT_MS, ms - silentMs));
      return;
    }
    this.#expire(new ProviderError(fault, WORDS[fault](ms), { provider: this.#provider }));
  };
}

export interface TimedWait {
  readonly fault: keyof typeof WORDS;
  readonly ms: number;
}

/** Timers ring a little early now and then. */
const MOMENT_MS = 1;

const WORDS = {
  "first-token-timeout": (ms) => `No output came within ${ms} ms.`,
  "idle-timeout": (ms) => `The stream fell silent: no output came for ${ms} ms.`,
  "attempt-timeout": (ms) => `The answer was not complete within ${ms} ms.`,
} as const satisfies Partial<Record<ProviderFault, (ms: number) => string>>;
