import { z } from "zod";
import type { ProviderHealth } from "../../completion/provider-health.ts";
import type { Clock } from "../../lib/clock.ts";
import type { Headroom } from "../../providers/provider.ts";
import type { ConnectedProvider, ProviderSet } from "../../providers/provider-set.ts";
import type { App } from "../app-type.ts";
import { providerStatuses, providerStatusOf } from "../provider-status.ts";
import { breakerState, circuitBreaker, exampleBreaker, shownBreaker } from "../schemas/circuit-breaker.ts";
import { refusals } from "../schemas/error.ts";

const limitHeadroom = z
  .object({
    limit: z.number(),
    remaining: z.number(),
    reset_seconds: z.number().nullable().describe("Until the whole limit is there again."),
  })
  .nullable();

const providerStanding = z.object({
  name: z.string(),
  configured: z.boolean(),
  simulated: z.boolean(),
  default_model: z.string().nullable(),
  base_url: z.string().nullable(),
  status: z
    .enum(providerStatuses)
    .describe(
      "idle: not asked lately; unsteady: at least one request in ten failed; cooling_down: it asked to be left alone; recovering: a few requests are let through to see; partly_failing: of some of its models; failing: it is not asked, or its last probe failed.",
    ),
  state: z.enum([...breakerState.options, "unknown"]).describe("The worst circuit breaker of its models."),
  error_rate: z.number().nullable().describe("0 to 1, of the requests in the recent window."),
  requests: z.int().describe("In the recent window."),
  first_token_p50_ms: z.number().nullable().describe("Of the model that was asked most lately."),
  first_token_p95_ms: z.number().nullable(),
  in_flight: z.int(),
  queued: z.int(),
  headroom: z
    .object({ requests: limitHeadroom, tokens: limitHeadroom })
    .nullable()
    .describe("What the provider's latest answer said is left of its rate limits."),
  last_probe: z
    .object({ at: z.iso.datetime(), ok: z.boolean(), detail: z.string() })
    .nullable()
    .describe("Of the probes of idle providers, if they are switched on."),
  models: z
    .array(
      z.object({
        model: z.string(),
        state: breakerState,
        error_rate: z.number().nullable(),
        requests: z.int(),
        first_token_p50_ms: z.number().nullable(),
        first_token_p95_ms: z.number().nullable(),
      }),
    )
    .describe("Those that were asked since the start."),
});

const exampleProvider: z.infer<typeof providerStanding> = {
  name: "openai",
  configured: true,
  simulated: false,
  default_model: "gpt-4o-mini",
  base_url: "https://api.openai.com",
  status: "healthy",
  state: "closed",
  error_rate: 0,
  requests: 20,
  first_token_p50_ms: 310,
  first_token_p95_ms: 720,
  in_flight: 3,
  queued: 0,
  headroom: {
    requests: { limit: 10_000, remaining: 9_997, reset_seconds: 0.018 },
    tokens: { limit: 30_000_000, remaining: 29_998_200, reset_seconds: 0.004 },
  },
  last_probe: null,
  models: [
    {
      model: "gpt-4o-mini",
      state: "closed",
      error_rate: 0,
      requests: 20,
      first_token_p50_ms: 310,
      first_token_p95_ms: 720,
    },
  ],
};

/** How the providers fare. Open, as what it says names no key, no caller and no address with a path. */
export function registerProviderHealthRoutes(
  app: App,
  options: { providers: ProviderSet; health: ProviderHealth; clock: Clock },
): void {
  const { providers, health, clock } = options;

  app.get(
    "/health/providers",
    {
      config: { open: true },
      schema: {
        operationId: "getProviders",
        summary: "Providers",
        description:
          "Which providers are configured, which of them the simulator stands in for, and how each fares: state, recent errors, time to the first token, rate-limit headroom, load.",
        tags: ["Health"],
        security: [],
        response: {
          200: z
            .object({ providers: z.array(providerStanding) })
            .meta({ id: "Providers", example: { providers: [exampleProvider] } })
            .describe("The providers."),
          500: refusals[500],
        },
      },
    },
    async () => ({ providers: providers.known.map((name) => standingOf(name, providers.find(name))) }),
  );

  app.get(
    "/health/circuit-breakers",
    {
      config: { open: true },
      schema: {
        operationId: "getCircuitBreakers",
        summary: "Circuit breakers",
        description:
          "State and numbers of the circuit breaker of every provider and model that was asked since the start.",
        tags: ["Health"],
        security: [],
        response: {
          200: z
            .object({ breakers: z.array(circuitBreaker) })
            .meta({ id: "CircuitBreakers", example: { breakers: [exampleBreaker] } })
            .describe("The circuit breakers."),
          500: refusals[500],
        },
      },
    },
    async () => ({ breakers: health.targets().map((target) => shownBreaker(target, clock.now())) }),
  );

  function standingOf(name: string, connected: ConnectedProvider | undefined): z.infer<typeof providerStanding> {
    const provider = connected?.provider;
    const targets = health.targets().filter((target) => target.provider === name);
    const { inFlight, queued, lastHeaders, lastProbe } = health.providerReport(name);
    const status = providerStatusOf(targets, lastProbe, clock.now());
    const headroom = lastHeaders && provider?.readHeadroom(lastHeaders);
    return {
      name,
      configured: provider !== undefined,
      simulated: provider?.simulated ?? false,
      default_model: provider?.defaultModel ?? null,
      base_url: provider && !provider.simulated ? new URL(provider.baseUrl).origin : null,
      status: provider === undefined ? "not_configured" : status.status,
      state: status.state,
      error_rate: status.errorRate ?? null,
      requests: status.requests,
      first_token_p50_ms: status.firstTokenP50Ms ?? null,
      first_token_p95_ms: status.firstTokenP95Ms ?? null,
      in_flight: inFlight,
      queued,
      headroom: headroom
        ? { requests: shownHeadroom(headroom.requests), tokens: shownHeadroom(headroom.tokens) }
        : null,
      last_probe: lastProbe
        ? { at: new Date(lastProbe.atMs).toISOString(), ok: lastProbe.ok, detail: lastProbe.detail }
        : null,
      models: targets.map((target) => ({
        model: target.model,
        state: target.state,
        error_rate: target.failureRate ?? null,
        requests: target.requests,
        first_token_p50_ms: target.firstTokenP50Ms ?? null,
        first_token_p95_ms: target.firstTokenP95Ms ?? null,
      })),
    };
  }
}

const shownHeadroom = (headroom: Headroom | undefined): z.infer<typeof limitHeadroom> =>
  headroom === undefined
    ? null
    : {
        limit: headroom.limit,
        remaining: headroom.remaining,
        reset_seconds: headroom.resetMs === undefined ? null : headroom.resetMs / 1_000,
      };
