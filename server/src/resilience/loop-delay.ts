import { monitorEventLoopDelay } from "node:perf_hooks";

/** How late timers are: above all of it stands the time that every request in hand waits for its turn. */
export interface LoopDelay {
  /**
   * Milliseconds: half of the turns of each of the last two moments were later. What one long turn costs does not count, and
   * neither does a time in which the process stood still (stopped, or its machine asleep): that is over when it is noticed.
   */
  readonly ms: number;
  stop(): void;
}

const RESOLUTION_MS = 20;
const MOMENT_MS = 500;

export function watchLoopDelay(): LoopDelay {
  const histogram = monitorEventLoopDelay({ resolution: RESOLUTION_MS });
  histogram.enable();
  let ms = 0;
  let lastMomentMs = 0;
  const timer = setInterval(() => {
    const momentMs = Math.max(0, histogram.percentile(50) / 1e6 - RESOLUTION_MS);
    ms = Math.min(lastMomentMs, momentMs);
    lastMomentMs = momentMs;
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
