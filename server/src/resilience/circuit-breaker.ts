import type { Clock } from "../lib/clock.ts";
import { OutcomeWindow } from "./outcome-window.ts";

/**
 * Keeps calls away from what fails, and finds out when it works again.
 *
 *   closed    -> open       after so many failures in a row, or at a failure rate over enough calls
 *   open      -> half-open  when its time is over; each opening in a row lasts twice as long, up to a bound
 *   half-open -> closed     when a probe succeeds
 *   half-open -> open       when all probes have failed; one may fail by chance
 *
 * Who calls asks `admit` first and reports on the permit what became of it: a call that tells nothing about the other side
 * (its caller left) is `ignored`, and gives a probe's place back.
 */
export interface CircuitBreakerOptions {
  readonly clock: Clock;
  readonly consecutiveFailures: number;
  /** Opens at this share of failures, from so many calls in the window on. */
  readonly failureRate: number;
  readonly minimumCalls: number;
  readonly windowMs: number;
  readonly openMs: number;
  readonly longestOpenMs: number;
  /** How many calls are let through while half-open. */
  readonly probes: number;
  readonly onChange: (change: BreakerChange) => void;
}

export interface BreakerChange {
  readonly from: BreakerState;
  readonly to: BreakerState;
  /** Fit for a log line. */
  readonly reason: string;
}

export type BreakerState = "closed" | "open" | "half-open";

/** A call that was let through. Exactly one of the last three is reported; a second report changes nothing. */
export interface Permit {
  /** The other side has begun to answer well: enough for a probe, before the end of a long answer is known. */
  began(): void;
  succeeded(): void;
  failed(fault: string): void;
  ignored(): void;
}

export interface BreakerReport {
  readonly state: BreakerState;
  readonly consecutiveFailures: number;
  /** Over the window; undefined without calls. */
  readonly failureRate: number | undefined;
  readonly requests: number;
  readonly lastFault: string | undefined;
  /** Monotonic milliseconds, as the clock gives them. */
  readonly openedAt: number | undefined;
  readonly nextProbeAt: number | undefined;
  readonly opens: number;
  readonly probesInFlight: number;
}

export class CircuitBreaker {
  readonly #options: CircuitBreakerOptions;
  readonly #outcomes: OutcomeWindow;
  #state: BreakerState = "closed";
  #consecutive = 0;
  #lastFault: string | undefined;
  #openedAt = 0;
  #openForMs: number;
  #opens = 0;
  #probing = 0;
  #failedProbes = 0;
  /** Grows with every change of state: what was admitted before says nothing about the state after. */
  #era = 0;

  constructor(options: CircuitBreakerOptions) {
    this.#options = options;
    this.#outcomes = new OutcomeWindow(options.clock, options.windowMs);
    this.#openForMs = options.openMs;
  }

  /** Milliseconds until a call may be let through; 0: now. While probes decide, a moment. */
  get availableInMs(): number {
    switch (this.#state) {
      case "closed":
        return 0;
      case "open":
        return Math.max(0, this.#openedAt + this.#openForMs - this.#options.clock.monotonicMs());
      case "half-open":
        return this.#probing + this.#failedProbes < this.#options.probes ? 0 : PROBING_MS;
      default:
        return this.#state satisfies never;
    }
  }

  /** Undefined: keep away. */
  admit(): Permit | undefined {
    if (this.#state === "closed") return this.#permit(CLOSED_PERMIT);
    if (this.availableInMs > 0) return undefined;
    if (this.#state === "open") this.#change("half-open", "its time is over");
    this.#probing += 1;
    return this.#permit(PROBE_PERMIT);
  }

  /** An operator knows better: closed, and without a memory of failures. False when it was closed before. */
  reset(): boolean {
    const wasClosed = this.#state === "closed";
    if (wasClosed) this.#forget();
    else this.#close("reset by hand");
    return !wasClosed;
  }

  /** Nobody watches it any more; whoever was told that it is open is told that this is over. */
  forget(): void {
    if (this.#state !== "closed") this.#close("forgotten");
  }

  report(): BreakerReport {
    const open = this.#state === "open";
    return {
      state: this.#state,
      consecutiveFailures: this.#consecutive,
      failureRate: this.#outcomes.failureRate,
      requests: this.#outcomes.requests,
      lastFault: this.#lastFault,
      openedAt: this.#state === "closed" ? undefined : this.#openedAt,
      nextProbeAt: open ? this.#openedAt + this.#openForMs : undefined,
      opens: this.#opens,
      probesInFlight: this.#probing,
    };
  }

  get state(): BreakerState {
    return this.#state;
  }

  get failureRate(): number | undefined {
    return this.#outcomes.failureRate;
  }

  #permit(kind: typeof CLOSED_PERMIT | typeof PROBE_PERMIT): Permit {
    let isProbe = kind === PROBE_PERMIT;
    let era = this.#era;
    let open = true;
    const settle = (report: () => void): void => {
      if (!open) return;
      open = false;
      if (era !== this.#era) return;
      if (isProbe) this.#probing -= 1;
      report();
    };
    return {
      began: () => {
        if (!isProbe || !open || era !== this.#era) return;
        this.#close("a probe succeeded");
        // How it ends counts like any other call's.
        isProbe = false;
        era = this.#era;
      },
      succeeded: () =>
        settle(() => {
          if (isProbe) this.#close("a probe succeeded");
          this.#outcomes.addSuccess();
          this.#consecutive = 0;
        }),
      failed: (fault) =>
        settle(() => {
          this.#outcomes.addFailure();
          this.#lastFault = fault;
          this.#fail(fault);
        }),
      ignored: () => settle(() => undefined),
    };
  }

  #fail(fault: string): void {
    this.#consecutive += 1;
    const { consecutiveFailures, failureRate, minimumCalls } = this.#options;
    if (this.#state === "half-open") {
      this.#failedProbes += 1;
      if (this.#failedProbes < this.#options.probes) return;
      this.#openForMs = Math.min(this.#openForMs * 2, this.#options.longestOpenMs);
      return this.#open(`all probes failed, the last one: ${fault}`);
    }
    if (this.#consecutive >= consecutiveFailures)
      return this.#open(`${this.#consecutive} failures in a row, the last one: ${fault}`);
    const { requests, failureRate: rate = 0 } = this.#outcomes;
    if (requests >= minimumCalls && rate >= failureRate)
      this.#open(`${Math.round(rate * 100)} % of the last ${requests} calls failed, the last one: ${fault}`);
  }

  #open(reason: string): void {
    this.#openedAt = this.#options.clock.monotonicMs();
    this.#opens += 1;
    this.#change("open", reason);
  }

  #close(reason: string): void {
    // What was before is no reason to open again.
    this.#forget();
    this.#change("closed", reason);
  }

  #forget(): void {
    this.#consecutive = 0;
    this.#openForMs = this.#options.openMs;
    this.#outcomes.clear();
  }

  #change(to: BreakerState, reason: string): void {
    const from = this.#state;
    this.#state = to;
    this.#probing = 0;
    this.#failedProbes = 0;
    this.#era += 1;
    this.#options.onChange({ from, to, reason });
  }
}

const CLOSED_PERMIT = "closed";
const PROBE_PERMIT = "probe";
/** How long to wait for what probes on their way will say. */
const PROBING_MS = 50;
