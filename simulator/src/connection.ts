import type { ServerResponse } from "node:http";

/** The client's end of one answer: says when it has left, and lets a wait end with it. */
export class Connection {
  readonly response: ServerResponse;
  readonly arrivedAt = performance.now();
  #leftAt: number | undefined;
  #wake: (() => void) | undefined;

  constructor(response: ServerResponse) {
    this.response = response;
    response.on("close", () => {
      this.#leftAt = performance.now();
      this.#wake?.();
    });
    response.on("drain", () => this.#wake?.());
    // A write that crosses the client's leaving fails here; 'close' follows and says so.
    response.on("error", () => undefined);
  }

  get gone(): boolean {
    return this.#leftAt !== undefined;
  }

  /** Milliseconds after the request's arrival at which the client left. */
  get goneAtMs(): number {
    return Math.round((this.#leftAt ?? performance.now()) - this.arrivedAt);
  }

  /** Ends after so many milliseconds, or when the client leaves. One timer at a time. */
  async wait(ms: number): Promise<void> {
    const until = performance.now() + ms;
    for (let left = ms; left > 0 && !this.gone; left = until - performance.now()) {
      let timer: NodeJS.Timeout | undefined;
      await this.#woken((wake) => (timer = setTimeout(wake, left)));
      clearTimeout(timer);
    }
  }

  /** Ends when the client leaves. */
  async whenGone(): Promise<void> {
    while (!this.gone) await this.#woken(() => undefined);
  }

  /** Writes, and waits while the client reads more slowly than this is written. */
  async write(data: string | Buffer): Promise<void> {
    if (this.gone) return;
    if (!this.response.write(data) && !this.gone) await this.#woken(() => undefined);
  }

  #woken(start: (wake: () => void) => void): Promise<void> {
    return new Promise((resolve) => {
      this.#wake = () => {
        this.#wake = undefined;
        resolve();
      };
      start(this.#wake);
    });
  }
}
