const WINDOW_MS = 60_000;

/** Counts requests and tokens of the running minute, for the rate-limit headers. It never refuses anything. */
export class RequestWindow {
  #startedAt = 0;
  #requests = 0;
  #tokens = 0;

  count(tokens: number): { requests: number; tokens: number } {
    const now = Date.now();
    if (now - this.#startedAt >= WINDOW_MS) {
      this.#startedAt = now;
      this.#requests = 0;
      this.#tokens = 0;
    }
    this.#requests += 1;
    this.#tokens += tokens;
    return { requests: this.#requests, tokens: this.#tokens };
  }
}
