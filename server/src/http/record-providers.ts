import type { ProviderHealth, ProviderHealthOptions } from "../completion/provider-health.ts";
import type { ProbeOptions } from "../completion/probe-providers.ts";
import type { CompletionEvents } from "../completion/run-completion.ts";
import { ProviderError } from "../providers/provider.ts";
import type { Logger } from "../telemetry/log.ts";
import type { Metrics } from "../telemetry/metrics.ts";

/** What happens with providers on the way of requests, as log lines for whoever is on call and as metrics. */
export function createProviderRecorder(
  logger: Logger,
  metrics: Metrics,
): Pick<ProviderHealthOptions, "onChange" | "onCooldown"> &
  Pick<ProbeOptions, "onProbed"> & { readonly events: CompletionEvents } {
  const labelsOf = (provider: string, model: string): { provider: string; model: string } => ({
    provider,
    model: metrics.modelLabel(model),
  });
  return {
    onProbed: (provider, outcome, error) => {
      metrics.activeProbes.inc({ provider, outcome });
      if (error === undefined) return;
      const fault = error instanceof ProviderError ? error.fault : undefined;
      logger.warn({ provider, fault, error }, "a probe of an idle provider failed");
    },
    onChange: (provider, model, { from, to, reason }) => {
      metrics.circuitBreakerTransitions.inc({ ...labelsOf(provider, model), to });
      logger[to === "open" ? "warn" : "info"]({ provider, model, from, to, reason }, `circuit breaker ${to}`);
    },
    onCooldown: (provider, model, ms) => {
      metrics.providerCooldowns.inc(labelsOf(provider, model));
      logger.warn({ provider, model, ms }, "the provider asks to be left alone for a time");
    },
    events: {
      attemptFailed: ({ model }, error) => {
        metrics.providerFaults.inc({ ...labelsOf(model.provider, model.id), fault: error.fault });
        if (error.fault === "credentials" || error.fault === "quota")
          logger.error(
            {
              provider: model.provider,
              model: model.id,
              fault: error.fault,
              provider_status: error.info.status,
              error,
            },
            "the provider does not serve this gateway's account; only its operator can mend that",
          );
      },
      retried: ({ model }) => metrics.retries.inc({ provider: model.provider }),
      hedged: ({ model }, outcome) => metrics.hedges.inc({ ...labelsOf(model.provider, model.id), outcome }),
      broke: (error) => logger.error({ error }, "a fault of the gateway beside a request that went on"),
      rescued: (mode, outcome) => metrics.rescues.inc({ mode, outcome }),
    },
  };
}

const STATE_VALUES = { closed: 0, "half-open": 1, open: 2 } as const;

/** What is read when somebody looks; whoever is there no longer is not shown either. */
export function gaugeProviders(metrics: Metrics, health: ProviderHealth, providers: readonly string[]): void {
  for (const gauge of [metrics.providerInFlight, metrics.providerQueued, metrics.circuitBreakerState]) gauge.reset();
  for (const provider of providers) {
    const { inFlight, queued } = health.providerReport(provider);
    metrics.providerInFlight.set({ provider }, inFlight);
    metrics.providerQueued.set({ provider }, queued);
  }
  for (const { provider, model, state } of health.targets())
    metrics.circuitBreakerState.set({ provider, model }, STATE_VALUES[state]);
}
