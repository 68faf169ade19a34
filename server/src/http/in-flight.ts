import { BrikkError } from "../errors.ts";

/**
 * What is being answered right now. It is bounded, as more would only be slower for all; and a stop can wait for it: first politely,
 * then by aborting what is left, which settles it like any caller that leaves.
 */
export interface InFlight {
  /** Why no new request is taken; undefined: one is. */
  refusal(): BrikkError | undefined;
  /** Throws the refusal; who was let in before a drain is taken as long as the drain waits for others. */
  begin(): RequestInHand;
  readonly count: number;
  /** Refuses what comes from now on; resolves when nothing is in hand, at the latest some time after `timeoutMs`. */
  drain(timeoutMs: number): Promise<void>;
  readonly draining: boolean;
  /** Aborted when a drain begins: what consists of several requests begins none any more. */
  readonly drainBegins: AbortSignal;
}

export interface RequestInHand {
  readonly controller: AbortController;
  end(): void;
}

/** After the abort, settling takes a commit and no more. */
const ABORT_GRACE_MS = 5_000;

export interface InFlightOptions {
  readonly most: number;
  /** New requests are refused while everything in this process is later than that; 0: never. */
  readonly maxLoopDelayMs: number;
  readonly loopDelayMs: () => number;
  readonly onCount: (count: number) => void;
  readonly onRefused: (reason: "process" | "event_loop") => void;
}

export function createInFlight(options: InFlightOptions): InFlight {
  const { most, maxLoopDelayMs, loopDelayMs, onCount, onRefused } = options;
  const controllers = new Set<AbortController>();
  const drainBegins = new AbortController();
  let draining = false;
  /** Whoever began now would be neither waited for nor aborted. */
  let isTooLate = false;
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

  const refusal = (): BrikkError | undefined => {
    if (draining)
      return new BrikkError("draining", "This server is stopping and takes no new requests; try again in a moment.", {
        retryAfterMs: 1_000,
      });
    if (controllers.size >= most) {
      onRefused("process");
      return new BrikkError(
        "overloaded",
        `This instance has ${most} requests in hand and takes no more. Try again in a moment.`,
        { details: { limit: most }, retryAfterMs: 1_000 },
      );
    }
    const lateMs = maxLoopDelayMs === 0 ? 0 : loopDelayMs();
    if (lateMs <= maxLoopDelayMs) return undefined;
    onRefused("event_loop");
    return new BrikkError(
      "overloaded",
      `This instance is ${Math.round(lateMs)} ms behind with all that it has in hand, and takes no more. Try again in a moment.`,
      { details: { event_loop_delay_ms: Math.round(lateMs), limit_ms: maxLoopDelayMs }, retryAfterMs: 2_000 },
    );
  };

  return {
    refusal,
    begin() {
      // Those who come together were all let in when there was still room.
      if (controllers.size >= most || isTooLate) throw refusal()!;
      const controller = new AbortController();
      controllers.add(controller);
      onCount(controllers.size);
      return {
        controller,
        end() {
          controllers.delete(controller);
          onCount(controllers.size);
          isTooLate ||= draining && controllers.size === 0;
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
    drainBegins: drainBegins.signal,
    async drain(timeoutMs) {
      draining = true;
      drainBegins.abort();
      isTooLate ||= controllers.size === 0;
      if (await emptyWithin(timeoutMs)) return;
      isTooLate = true;
      for (const controller of controllers)
        controller.abort(new BrikkError("draining", "The server stopped before the answer was complete."));
      await emptyWithin(ABORT_GRACE_MS);
    },
  };
}
