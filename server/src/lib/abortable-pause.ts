/** Resolves after so many milliseconds, or at once when the signal is aborted. Keeps no process alive. */
export function abortablePause(ms: number, signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    const go = (): void => {
      clearTimeout(timer);
      signal.removeEventListener("abort", go);
      resolve();
    };
    const timer = setTimeout(go, ms);
    timer.unref();
    if (signal.aborted) return go();
    signal.addEventListener("abort", go);
  });
}
