import type { Clock } from "../lib/clock.ts";
import { askForModels } from "../providers/ask-for-models.ts";
import { ProviderError } from "../providers/provider.ts";
import type { ConnectedProvider, ProviderSet } from "../providers/provider-set.ts";
import type { ProviderHealth } from "./provider-health.ts";

/**
 * Asks providers that nobody has asked for a while for their list of models, which costs nothing, so that an outage or a key that
 * was withdrawn is known before the first caller meets it. A failure counts with the breaker of the provider's default model; a
 * success closes nothing, since it does not say that models answer.
 */
export interface ProviderProbes {
  /** One round; runs by itself. */
  round(): Promise<void>;
  /** Resolves when no probe is on its way. */
  stop(): Promise<void>;
}

export interface ProbeOptions {
  readonly providers: ProviderSet;
  readonly health: ProviderHealth;
  readonly clock: Clock;
  /** A provider is idle, and probed again, after so long. */
  readonly intervalMs: number;
  /** An error that is no ProviderError says nothing of the provider: the probe itself went wrong. */
  readonly onProbed: (provider: string, outcome: "ok" | "failed", error: unknown) => void;
}

export function startProbing(options: ProbeOptions): ProviderProbes {
  const { providers, health, clock, intervalMs, onProbed } = options;
  const stopping = new AbortController();
  let running: Promise<void> | undefined;

  const isIdle = ({ provider }: ConnectedProvider): boolean => {
    const { lastAskedAtMs, lastProbe } = health.providerReport(provider.name);
    return clock.now() - Math.max(lastAskedAtMs ?? 0, lastProbe?.atMs ?? 0) >= intervalMs;
  };

  const probe = async (connected: ConnectedProvider): Promise<void> => {
    const { provider } = connected;
    let error: ProviderError | undefined;
    try {
      await askForModels(connected, attemptMsOf(connected), stopping.signal);
    } catch (thrown) {
      if (stopping.signal.aborted) return;
      if (!(thrown instanceof ProviderError)) return onProbed(provider.name, "failed", thrown);
      // Not every server has a list of models; one that says so answers.
      if (!thrown.isAnswer && thrown.info.status !== 404 && thrown.info.status !== 405) error = thrown;
    }
    health.noteProbe(connected, { atMs: clock.now(), ok: error === undefined, detail: error?.fault ?? "answers" });
    // Who limits our rate is well.
    if (error && error.fault !== "rate-limited")
      health.targetOf(connected, provider.defaultModel).admit()?.failed(error.fault);
    onProbed(provider.name, error ? "failed" : "ok", error);
  };

  const round = async (): Promise<void> => {
    await Promise.all(providers.all.filter(isIdle).map(probe));
  };

  const timer = setInterval(
    () => {
      running ??= round().finally(() => (running = undefined));
    },
    Math.max(1_000, intervalMs / 2),
  );
  timer.unref();
  return {
    round,
    async stop() {
      clearInterval(timer);
      stopping.abort(new Error("the server stops"));
      await running;
    },
  };
}

const attemptMsOf = (connected: ConnectedProvider): number =>
  connected.timeoutsOf({ id: connected.provider.defaultModel, reasons: false }).attemptMs;
