import { monitorEventLoopDelay } from "node:perf_hooks";

/** How late timers are: above all of it stands the time that every request in hand waits for its turn. */
export interface LoopDelay {
  /** Milliseconds, half of the turns of the last moment were later; what one long turn costs does not count. */
  readonly ms: number;
  stop(): void;
}

const RESOLUTION_MS = 20;
const MOMENT_MS = 500;

export function watchLoopDelay(): LoopDelay {
  const histogram = monitorEventLoopDelay({ resolution: RESOLUTION_MS });
  histogram.enable();
  let ms = 0;
  const timer = setInterval(() => {
    ms = Math.max(0, histogram.percentile(50) / 1e6 - RESOLUTION_MS);
    histogram.reset();
  }, MOMENT_MS);
  timer.unref();
  return {
    get ms() {
      return ms;
    },
    stop() {
      clearInterval(timer);
      histogram.disable();
    },
  };
}
