/**
 * Order on the one SQLite connection. The worker thread takes messages in the order they are posted, so a task that is a
 * single message needs no lock: it only has to be posted while nobody holds the connection across several messages. There is
 * one holder at a time, which kysely sees to with a mutex of its own.
 */
export class ConnectionGate {
  #held = false;
  #waiting: (() => void)[] = [];

  /** Runs `post` at once, or when the holder is through. `post` must send its message synchronously. */
  pass<T>(post: () => Promise<T>): Promise<T> {
    if (!this.#held) return post();
    return new Promise<T>((resolve, reject) => {
      this.#waiting.push(() => {
        post().then(resolve, reject);
      });
    });
  }

  hold(): void {
    if (this.#held) throw new Error("The connection is already held.");
    this.#held = true;
  }

  release(): void {
    this.#held = false;
    const waiting = this.#waiting;
    this.#waiting = [];
    for (const post of waiting) post();
  }
}
