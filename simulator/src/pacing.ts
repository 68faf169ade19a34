export interface PaceSettings {
  readonly firstTokenMs: number;
  /** 0 sends everything at once. */
  readonly tokensPerSecond: number;
}

/** How fast the simulated models speak; may change while they do. */
export class Pace {
  #settings: PaceSettings;

  constructor(settings: PaceSettings) {
    this.#settings = settings;
  }

  get settings(): PaceSettings {
    return this.#settings;
  }

  change(settings: Partial<PaceSettings>): void {
    this.#settings = { ...this.#settings, ...settings };
  }

  /** Milliseconds that saying this many tokens takes. */
  durationMs(tokens: number): number {
    const { tokensPerSecond } = this.#settings;
    return tokensPerSecond === 0 ? 0 : (tokens * 1000) / tokensPerSecond;
  }
}
