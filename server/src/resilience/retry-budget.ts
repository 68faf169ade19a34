/**
 * Holds retries to a share of the traffic, so that they cannot storm what is in trouble: every first call pays a share of a
 * retry in, every retry takes a whole one out, and no more than a bound is ever saved up. Starts full, since a little traffic
 * must be able to retry, too.
 */
export class RetryBudget {
  readonly #share: number;
  readonly #most: number;
  #saved: number;

  constructor({ share, most }: { readonly share: number; readonly most: number }) {
    this.#share = share;
    this.#most = most;
    this.#saved = most;
  }

  addCall(): void {
    this.#saved = Math.min(this.#most, this.#saved + this.#share);
  }

  /** False: no retry now. */
  takeRetry(): boolean {
    if (this.#saved < 1) return false;
    this.#saved -= 1;
    return true;
  }
}
