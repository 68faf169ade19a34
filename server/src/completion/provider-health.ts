import type { Clock } from "../lib/clock.ts";
import type { ResponseHeaders } from "../providers/provider.ts";
import type { ConnectedProvider } from "../providers/provider-set.ts";
import { type BreakerChange, type BreakerState, CircuitBreaker, type Permit } from "../resilience/circuit-breaker.ts";
import { LatencyWindow } from "../resilience/latency-window.ts";
import { RetryBudget } from "../resilience/retry-budget.ts";
import { Slots } from "../resilience/slots.ts";

/**
 * What this process has seen of providers and their models: who answers, how fast, who asked to be left alone. Learnt from traffic;
 * routing asks it for standings, the call asks it for leave.
 */
export interface ProviderHealth {
  /** What is known of a provider's model; never begins to watch it. */
  standingOf(provider: string, model: string): TargetStanding;
  /** The provider's model as it is asked; watched from the first time on. */
  targetOf(connected: ConnectedProvider, model: string): Target;
  /** Every provider and model that was asked so far. */
  targets(): readonly TargetReport[];
  providerReport(provider: string): ProviderReport;
  /** What an active probe of an idle provider found. */
  noteProbe(connected: ConnectedProvider, probe: ProbeResult): void;
  /** Closes breakers and ends cool-downs by hand: all, a provider's, or one model's. How many there were. */
  reset(provider?: string, model?: string): number;
  /** What was learnt of a provider that is gone, or is another server now under the same name. Calls in hand end where they began. */
  forget(provider: string): void;
}

export interface TargetStanding {
  readonly state: BreakerState;
  /** Milliseconds; 0: may be asked now. */
  readonly availableInMs: number;
  /** Of the recent past, 0 to 1; undefined when nothing was asked. */
  readonly errorRate: number | undefined;
  readonly firstTokenP50Ms: number | undefined;
  readonly firstTokenP95Ms: number | undefined;
}

/** Times are milliseconds since the epoch. */
export interface TargetReport {
  readonly provider: string;
  readonly model: string;
  readonly state: BreakerState;
  readonly consecutiveFailures: number;
  readonly failureRate: number | undefined;
  readonly requests: number;
  readonly lastFault: string | undefined;
  readonly openedAtMs: number | undefined;
  readonly nextProbeAtMs: number | undefined;
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
  /** Of the newest answer that spoke of the vendor's rate limits. */
  readonly lastHeaders: ResponseHeaders | undefined;
  readonly lastAskedAtMs: number | undefined;
  readonly lastProbe: ProbeResult | undefined;
}

export interface ProbeResult {
  readonly atMs: number;
  readonly ok: boolean;
  readonly detail: string;
}

export interface ProviderHealthOptions {
  readonly clock: Clock;
  readonly onChange: (provider: string, model: string, change: BreakerChange) => void;
  readonly onCooldown: (provider: string, model: string, ms: number) => void;
}

/**
 * Five failures in a row also come by chance to a provider that answers most calls, so the first opening is short: a blip costs a
 * quarter of a second. Each one after failed probes is twice as long, so that an outage is asked about eight times in a minute.
 */
const BREAKER = {
  consecutiveFailures: 5,
  failureRate: 0.5,
  minimumCalls: 40,
  windowMs: 30_000,
  openMs: 250,
  longestOpenMs: 30_000,
  probes: 3,
} as const;
/** A fifth of the traffic may be retries; what is saved up lets a burst of them pass. */
const RETRIES = { share: 0.2, most: 50 } as const;
/** Model names may come from callers (dated names, fine-tuned models), so those that were not asked for longest are forgotten. */
const MOST_TARGETS = 1_000;
/** Of a vendor that asks to be left alone for days the gateway finds out for itself, now and then. */
const LONGEST_COOLDOWN_MS = 60 * 60_000;

/** One provider's model. */
export class Target {
  readonly provider: ProviderState;
  readonly model: string;
  readonly firstToken = new LatencyWindow();
  readonly whole = new LatencyWindow();
  readonly breaker: CircuitBreaker;
  /** Monotonic milliseconds. */
  lastAskedAt = 0;
  readonly #clock: Clock;
  readonly #onCooldown: ProviderHealthOptions["onCooldown"];
  #coolingUntil = 0;

  constructor(provider: ProviderState, model: string, options: ProviderHealthOptions) {
    this.provider = provider;
    this.model = model;
    this.#clock = options.clock;
    this.#onCooldown = options.onCooldown;
    this.breaker = new CircuitBreaker({
      ...BREAKER,
      clock: options.clock,
      onChange: (change) => options.onChange(provider.name, model, change),
    });
  }

  /** Milliseconds until it may be asked; 0: now. */
  get availableInMs(): number {
    return Math.max(this.breaker.availableInMs, this.coolingMs);
  }

  get coolingMs(): number {
    return this.#coolingUntil === 0 ? 0 : Math.max(0, this.#coolingUntil - this.#clock.monotonicMs());
  }

  /** Undefined: it is to be left alone. */
  admit(): Permit | undefined {
    return this.coolingMs > 0 ? undefined : this.breaker.admit();
  }

  /** The vendor asked for so much time. */
  leaveAlone(ms: number): void {
    const until = this.#clock.monotonicMs() + Math.min(ms, LONGEST_COOLDOWN_MS);
    if (until <= this.#coolingUntil) return;
    this.#coolingUntil = until;
    this.#onCooldown(this.provider.name, this.model, ms);
  }

  reset(): boolean {
    const cooling = this.coolingMs > 0;
    this.#coolingUntil = 0;
    return this.breaker.reset() || cooling;
  }
}

/** What the models of a provider share. */
export class ProviderState {
  readonly name: string;
  readonly slots: Slots;
  readonly retries = new RetryBudget(RETRIES);
  /** Of the newest answer that spoke of the vendor's rate limits; `heard` keeps it. */
  lastHeaders: ResponseHeaders | undefined;
  lastAskedAtMs: number | undefined;
  lastProbe: ProbeResult | undefined;
  /** Whose limits hold: a reload of the config file may change them. */
  #connected: ConnectedProvider;
  readonly #replaced = new WeakSet<ConnectedProvider>();

  constructor(connected: ConnectedProvider) {
    this.name = connected.provider.name;
    this.#connected = connected;
    this.slots = new Slots({
      most: () => this.#connected.maxInFlight,
      mostWaiting: () => this.#connected.maxQueued,
    });
  }

  /** A request that was routed before a reload does not bring the old limits back. */
  follow(connected: ConnectedProvider): void {
    if (connected === this.#connected || this.#replaced.has(connected)) return;
    this.#replaced.add(this.#connected);
    this.#connected = connected;
  }

  /** An answer from somewhere on the way says nothing of the vendor's limits. */
  heard(headers: ResponseHeaders): void {
    if (this.#connected.provider.readHeadroom(headers)) this.lastHeaders = headers;
  }
}

export function createProviderHealth(options: ProviderHealthOptions): ProviderHealth {
  const { clock } = options;
  const providers = new Map<string, ProviderState>();
  const byProvider = new Map<string, Map<string, Target>>();
  let count = 0;

  const find = (provider: string, model: string): Target | undefined => byProvider.get(provider)?.get(model);

  const stateOf = (connected: ConnectedProvider): ProviderState => {
    const { name } = connected.provider;
    let state = providers.get(name);
    if (!state) {
      state = new ProviderState(connected);
      providers.set(name, state);
      byProvider.set(name, new Map());
    }
    state.follow(connected);
    return state;
  };

  const watch = (connected: ConnectedProvider, model: string): Target => {
    const state = stateOf(connected);
    const models = byProvider.get(state.name)!;
    const target = new Target(state, model, options);
    if (count >= MOST_TARGETS) forgetOne();
    models.set(model, target);
    count += 1;
    return target;
  };

  /** Whoever was not asked for longest; of those that are to be left alone only where there is nobody else. */
  const forgetOne = (): void => {
    let oldest: Target | undefined;
    for (const models of byProvider.values())
      for (const target of models.values()) if (!oldest || isStaler(target, oldest)) oldest = target;
    if (!oldest) return;
    oldest.breaker.forget();
    byProvider.get(oldest.provider.name)!.delete(oldest.model);
    count -= 1;
  };

  const reportOf = (target: Target): TargetReport => {
    const { openedAt, nextProbeAt, ...report } = target.breaker.report();
    const sinceEpoch = clock.now() - clock.monotonicMs();
    const { coolingMs } = target;
    return {
      provider: target.provider.name,
      model: target.model,
      ...report,
      openedAtMs: openedAt === undefined ? undefined : Math.round(openedAt + sinceEpoch),
      nextProbeAtMs: nextProbeAt === undefined ? undefined : Math.round(nextProbeAt + sinceEpoch),
      coolingUntilMs: coolingMs === 0 ? undefined : Math.round(clock.now() + coolingMs),
      firstTokenP50Ms: target.firstToken.quantile(0.5),
      firstTokenP95Ms: target.firstToken.quantile(0.95),
      wholeP50Ms: target.whole.quantile(0.5),
      wholeP95Ms: target.whole.quantile(0.95),
    };
  };

  return {
    standingOf(provider, model) {
      const target = find(provider, model);
      if (!target) return UNKNOWN;
      return {
        state: target.breaker.state,
        availableInMs: target.availableInMs,
        errorRate: target.breaker.failureRate,
        firstTokenP50Ms: target.firstToken.quantile(0.5),
        firstTokenP95Ms: target.firstToken.quantile(0.95),
      };
    },
    targetOf(connected, model) {
      const target = find(connected.provider.name, model) ?? watch(connected, model);
      target.provider.follow(connected);
      target.lastAskedAt = clock.monotonicMs();
      return target;
    },
    targets: () => [...byProvider.values()].flatMap((models) => [...models.values()].map(reportOf)),
    providerReport(provider) {
      const state = providers.get(provider);
      return {
        inFlight: state?.slots.taken ?? 0,
        queued: state?.slots.waiting ?? 0,
        lastHeaders: state?.lastHeaders,
        lastAskedAtMs: state?.lastAskedAtMs,
        lastProbe: state?.lastProbe,
      };
    },
    noteProbe(connected, probe) {
      stateOf(connected).lastProbe = probe;
    },
    reset(provider, model) {
      let changed = 0;
      for (const [name, models] of byProvider) {
        if (provider !== undefined && name !== provider) continue;
        for (const target of models.values())
          if ((model === undefined || target.model === model) && target.reset()) changed += 1;
      }
      return changed;
    },
    forget(provider) {
      const models = byProvider.get(provider);
      for (const { breaker } of models?.values() ?? []) breaker.forget();
      count -= models?.size ?? 0;
      byProvider.delete(provider);
      providers.delete(provider);
    },
  };
}

const isStaler = (one: Target, other: Target): boolean => {
  const [isAlone, isOtherAlone] = [one.availableInMs > 0, other.availableInMs > 0];
  return isAlone === isOtherAlone ? one.lastAskedAt < other.lastAskedAt : isOtherAlone;
};

const UNKNOWN: TargetStanding = {
  state: "closed",
  availableInMs: 0,
  errorRate: undefined,
  firstTokenP50Ms: undefined,
  firstTokenP95Ms: undefined,
};
