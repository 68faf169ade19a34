/** Asks for changes again and again. */
export interface Polling {
  /** Asks once, then goes on until `stop()`. Rejects with what the first asking threw; it may be started again. */
  start(): Promise<void>;
  stop(): void;
}

/** With a pause between the end of one asking and the next. The timer does not keep the process alive. */
export function createPolling(options: {
  readonly refresh: () => Promise<void>;
  readonly pauseMs: number;
  /** Told of what a later asking threw; it is tried again. */
  readonly onFailed: (error: unknown) => void;
}): Polling {
  const { refresh, pauseMs, onFailed } = options;
  let timer: NodeJS.Timeout | undefined;
  let polling = false;

  function schedule(): void {
    timer = setTimeout(() => {
      refresh()
        .catch(onFailed)
        .finally(() => {
          if (polling) schedule();
        });
    }, pauseMs);
    timer.unref();
  }

  return {
    async start() {
      await refresh();
      if (polling) return;
      polling = true;
      schedule();
    },
    stop() {
      polling = false;
      clearTimeout(timer);
    },
  };
}
