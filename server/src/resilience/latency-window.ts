const KEPT = 128;
/** A quantile of fewer says nothing. */
const ENOUGH = 10;
/** How many new samples may come before the order is worked out again. */
const STALE = 8;

/** The latest latencies, in milliseconds, for quantiles. Adding costs next to nothing; sorting is left to who asks, and not repeated for every request. */
export class LatencyWindow {
  readonly #samples = new Float64Array(KEPT);
  #count = 0;
  #sorted: Float64Array = new Float64Array(0);
  #sortedAt = Number.NEGATIVE_INFINITY;

  add(ms: number): void {
    this.#samples[this.#count % KEPT] = ms;
    this.#count += 1;
  }

  /** Undefined while too few are known. `share` is 0 to 1. */
  quantile(share: number): number | undefined {
    if (this.#count < ENOUGH) return undefined;
    if (this.#count - this.#sortedAt >= STALE || this.#sortedAt < ENOUGH) {
      this.#sorted = this.#samples.slice(0, Math.min(this.#count, KEPT)).sort();
      this.#sortedAt = this.#count;
    }
    return this.#sorted[Math.min(this.#sorted.length - 1, Math.floor(share * this.#sorted.length))];
  }
}
