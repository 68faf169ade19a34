/**
 * So many at a time, and so many who wait for a place, first come first served; the rest is turned away at once. One that waits
 * leaves when its time is over or its signal is aborted.
 */
export class Slots {
  readonly #most: () => number;
  readonly #mostWaiting: () => number;
  #taken = 0;
  readonly #waiting = new Set<Waiting>();

  constructor({ most, mostWaiting }: { readonly most: () => number; readonly mostWaiting: () => number }) {
    this.#most = most;
    this.#mostWaiting = mostWaiting;
  }

  get taken(): number {
    return this.#taken;
  }

  get waiting(): number {
    return this.#waiting.size;
  }

  /** True when a place was free; who took one gives it back. */
  takeNow(): boolean {
    this.#letIn();
    if (this.#taken >= this.#most() || this.#waiting.size > 0) return false;
    this.#taken += 1;
    return true;
  }

  /** Resolves with whether a place became free in time. Rejects with the signal's reason. */
  take(waitMs: number, signal: AbortSignal): Promise<boolean> {
    if (this.takeNow()) return Promise.resolve(true);
    if (this.#waiting.size >= this.#mostWaiting()) return Promise.resolve(false);
    return new Promise((resolve, reject) => {
      if (signal.aborted) return reject(signal.reason as Error);
      const leave = (): void => {
        clearTimeout(timer);
        signal.removeEventListener("abort", stop);
        this.#waiting.delete(waiting);
      };
      const stop = (): void => {
        leave();
        reject(signal.reason as Error);
      };
      const timer = setTimeout(() => {
        leave();
        resolve(false);
      }, waitMs);
      const waiting: Waiting = {
        go: () => {
          leave();
          resolve(true);
        },
      };
      this.#waiting.add(waiting);
      signal.addEventListener("abort", stop, { once: true });
    });
  }

  giveBack(): void {
    this.#taken -= 1;
    this.#letIn();
  }

  /** More than one where the limit was raised meanwhile. */
  #letIn(): void {
    for (const next of this.#waiting) {
      if (this.#taken >= this.#most()) return;
      this.#taken += 1;
      next.go();
    }
  }
}

interface Waiting {
  readonly go: () => void;
}
