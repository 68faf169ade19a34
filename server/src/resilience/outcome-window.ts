import type { Clock } from "../lib/clock.ts";

const SLICES = 10;

/** Successes and failures of the recent past, in slices of time that are forgotten one by one. */
export class OutcomeWindow {
  readonly #clock: Clock;
  readonly #sliceMs: number;
  readonly #successes = new Uint32Array(SLICES);
  readonly #failures = new Uint32Array(SLICES);
  #slice: number;

  constructor(clock: Clock, windowMs: number) {
    this.#clock = clock;
    this.#sliceMs = windowMs / SLICES;
    this.#slice = this.#now();
  }

  addSuccess(): void {
    this.#successes[this.#turn()]! += 1;
  }

  addFailure(): void {
    this.#failures[this.#turn()]! += 1;
  }

  clear(): void {
    this.#successes.fill(0);
    this.#failures.fill(0);
  }

  get requests(): number {
    this.#turn();
    return sum(this.#successes) + sum(this.#failures);
  }

  /** 0 to 1; undefined without any request. */
  get failureRate(): number | undefined {
    const requests = this.requests;
    return requests === 0 ? undefined : sum(this.#failures) / requests;
  }

  #now(): number {
    return Math.floor(this.#clock.monotonicMs() / this.#sliceMs);
  }

  /** Empties the slices that time has passed over; returns the one that it is in. */
  #turn(): number {
    const slice = this.#now();
    const passed = Math.min(SLICES, slice - this.#slice);
    for (let step = 1; step <= passed; step += 1) {
      const index = (this.#slice + step) % SLICES;
      this.#successes[index] = 0;
      this.#failures[index] = 0;
    }
    this.#slice = slice;
    return slice % SLICES;
  }
}

const sum = (counts: Uint32Array): number => {
  let total = 0;
  for (const count of counts) total += count;
  return total;
};
