import { ProviderError, type ProviderFault } from "../providers/provider.ts";

/**
 * The one timer of an attempt. It runs from the sending of the request to its last byte and never ends at the headers; what
 * it waits for changes: the whole answer, or a stream's first output, then each further one. Only output winds it up again:
 * comments and other heartbeats do not. While the caller is the one who is waited for it stands still.
 */
export class AttemptTimer {
  readonly #provider: string;
  readonly #expire: (error: ProviderError) => void;
  #timer: NodeJS.Timeout;
  #waiting = true;
  #pausedAt = 0;

  constructor(provider: string, wait: TimedWait, expire: (error: ProviderError) => void) {
    this.#provider = provider;
    this.#expire = expire;
    this.#timer = this.#start(wait);
  }

  /** From now on something else is waited for. */
  restart(wait: TimedWait): void {
    clearTimeout(this.#timer);
    this.#timer = this.#start(wait);
  }

  /** What was waited for has come, and the next of its kind may take as long. */
  windUp(): void {
    this.#timer.refresh();
  }

  /** The provider need not send: who reads has not taken what came. */
  pause(): void {
    this.#waiting = false;
    this.#pausedAt = performance.now();
  }

  resume(): void {
    this.#waiting = true;
    // A reader who took long has used up time that is not the provider's.
    if (performance.now() - this.#pausedAt > PAUSE_MS) this.#timer.refresh();
  }

  stop(): void {
    clearTimeout(this.#timer);
  }

  #start({ fault, ms }: TimedWait): NodeJS.Timeout {
    const timer = setTimeout(() => {
      if (!this.#waiting) return void timer.refresh();
      this.#expire(new ProviderError(fault, WORDS[fault](ms), { provider: this.#provider }));
    }, ms);
    return timer;
  }
}

export interface TimedWait {
  readonly fault: keyof typeof WORDS;
  readonly ms: number;
}

const PAUSE_MS = 500;

const WORDS = {
  "first-token-timeout": (ms) => `No output came within ${ms} ms.`,
  "idle-timeout": (ms) => `The stream fell silent: no output came for ${ms} ms.`,
  "attempt-timeout": (ms) => `The answer was not complete within ${ms} ms.`,
} as const satisfies Partial<Record<ProviderFault, (ms: number) => string>>;
