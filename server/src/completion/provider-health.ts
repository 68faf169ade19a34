import type { ResponseHeaders } from "../providers/provider.ts";

/** How every provider and each of its models fares. Moments are the wall clock's, in milliseconds since the epoch. */
export interface ProviderHealth {
  /** Where one model at one provider stands; of one that was never asked, that it may be. */
  standingOf(provider: string, model: string): TargetStanding;
  /** Every provider and model that was asked since the start. */
  targets(): readonly TargetReport[];
  providerReport(provider: string): ProviderReport;
  /** Closes circuit breakers and ends cool-downs by hand, of all or of those named; how many it did that to. */
  reset(provider?: string, model?: string): number;
}

export type BreakerState = "closed" | "open" | "half-open";

export interface TargetStanding {
  readonly state: BreakerState;
  /** 0: it may be asked now. */
  readonly availableInMs: number;
  readonly errorRate: number | undefined;
  readonly firstTokenP50Ms: number | undefined;
  readonly firstTokenP95Ms: number | undefined;
}

export interface TargetReport {
  readonly provider: string;
  readonly model: string;
  readonly state: BreakerState;
  readonly consecutiveFailures: number;
  /** 0 to 1, of the requests in the recent window. */
  readonly failureRate: number | undefined;
  readonly requests: number;
  /** The kind of fault and no words of anybody's: it is shown to everybody. */
  readonly lastFault: string | undefined;
  readonly openedAtMs: number | undefined;
  readonly nextProbeAtMs: number | undefined;
  /** Times it opened since the start. */
  readonly opens: number;
  readonly probesInFlight: number;
  readonly coolingUntilMs: number | undefined;
  readonly firstTokenP50Ms: number | undefined;
  readonly firstTokenP95Ms: number | undefined;
  readonly wholeP50Ms: number | undefined;
  readonly wholeP95Ms: number | undefined;
}

export interface ProviderReport {
  readonly inFlight: number;
  readonly queued: number;
  /** Of its latest answer. */
  readonly lastHeaders: ResponseHeaders | undefined;
  /** `detail` is shown to everybody, so it names no address. */
  readonly lastProbe: { readonly atMs: number; readonly ok: boolean; readonly detail: string } | undefined;
}
