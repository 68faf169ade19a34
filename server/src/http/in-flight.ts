import { BrikkError } from "../errors.ts";

/**
 * What is being answered right now, so that a stop can wait for it: first politely, then by aborting what is left, which
 * settles it like any caller that leaves.
 */
export interface InFlight {
  begin(): RequestInHand;
  readonly count: number;
  /** Refuses what comes from now on; resolves when nothing is in hand, at the latest some time after `timeoutMs`. */
  drain(timeoutMs: number): Promise<void>;
  readonly draining: boolean;
}

export interface RequestInHand {
  readonly controller: AbortController;
  end(): void;
}

/** After the abort, settling takes a commit and no more. */
const ABORT_GRACE_MS = 5_000;

export function createInFlight(onCount: (count: number) => void): InFlight {
  const controllers = new Set<AbortController>();
  let draining = false;
  let empty: (() => void) | undefined;

  const emptyWithin = (timeoutMs: number): Promise<boolean> => {
    if (controllers.size === 0) return Promise.resolve(true);
    return new Promise((resolve) => {
      const timer = setTimeout(() => resolve(false), timeoutMs);
      empty = () => {
        clearTimeout(timer);
        resolve(true);
      };
    });
  };

  return {
    begin() {
      const controller = new AbortController();
      controllers.add(controller);
      onCount(controllers.size);
      return {
        controller,
        end() {
          controllers.delete(controller);
          onCount(controllers.size);
          if (controllers.size === 0) empty?.();
        },
      };
    },
    get count() {
      return controllers.size;
    },
    get draining() {
      return draining;
    },
    async drain(timeoutMs) {
      draining = true;
      if (await emptyWithin(timeoutMs)) return;
      for (const controller of controllers)
        controller.abort(new BrikkError("draining", "The server stopped before the answer was complete."));
      await emptyWithin(ABORT_GRACE_MS);
    },
  };
}
