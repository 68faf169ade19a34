import { createAuthenticator, type Authenticate } from "./access/authenticate.ts";
import { ANONYMOUS_KEY_ID } from "./access/api-key.ts";
import { createKeyRing } from "./access/key-ring.ts";
import { createKeyStore } from "./access/key-store.ts";
import { createMemoryRateLimiter } from "./access/memory-rate-limiter.ts";
import type { RateLimiter } from "./access/rate-limiter.ts";
import { createModelRouter, type ModelRouter } from "./completion/model-router.ts";
import type { TargetStanding } from "./completion/provider-health.ts";
import type { Config, PriceSetting } from "./config.ts";
import { createInFlight, type InFlight } from "./http/in-flight.ts";
import { createBudgetAlerts } from "./ledger/budget-alerts.ts";
import { buildModelCatalogue, type ModelCatalogue, type PriceOverride } from "./ledger/model-catalogue.ts";
import { type Ledger, openLedger } from "./ledger/ledger.ts";
import { startRetention } from "./ledger/retention.ts";
import { createTokenCounter, type TokenCounter } from "./ledger/token-count.ts";
import { type Clock, systemClock } from "./lib/clock.ts";
import { formatUsd, usdNumber } from "./lib/money.ts";
import { languagePreferences } from "./providers/language-preferences.ts";
import { connectProviders, type ProviderSet, type SimulatedAddresses } from "./providers/provider-set.ts";
import type { Database } from "./storage/database.ts";
import type { Logger } from "./telemetry/log.ts";
import { createMetrics, type Metrics } from "./telemetry/metrics.ts";

/** The parts of a running gateway, put together once. */
export interface Gateway {
  readonly config: Config;
  readonly version: string;
  readonly clock: Clock;
  readonly logger: Logger;
  readonly metrics: Metrics;
  readonly database: Database;
  readonly ledger: Ledger;
  readonly authenticate: Authenticate;
  readonly rateLimiter: RateLimiter;
  readonly providers: ProviderSet;
  readonly knownProviders: readonly string[];
  readonly router: ModelRouter;
  readonly catalogue: () => ModelCatalogue;
  readonly tokenCounter: TokenCounter;
  readonly inFlight: InFlight;
  /** Takes new prices from a config file; what was asked before keeps the old ones. */
  replacePrices(prices: readonly PriceSetting[]): void;
  /** Waits for the ledger, then lets go of everything but the database, which is its opener's. */
  close(): Promise<void>;
}

export interface GatewayOptions {
  readonly config: Config;
  readonly version: string;
  readonly logger: Logger;
  readonly database: Database;
  /** Where the simulator serves, when it stands in for the providers. */
  readonly simulated: SimulatedAddresses | undefined;
  readonly clock?: Clock;
}

export async function buildGateway(options: GatewayOptions): Promise<Gateway> {
  const { config, database, logger, version } = options;
  const clock = options.clock ?? systemClock;
  const metrics = createMetrics();

  const keyStore = createKeyStore({ database, clock });
  await keyStore.ensureAnonymousKey();
  const keyRing = createKeyRing({
    database,
    clock,
    onRefreshFailed: (error) =>
      logger.error({ error }, "keys could not be refreshed; known keys go on, and it is tried again"),
  });
  await keyRing.start();

  let catalogue = catalogueWith(config.prices, clock);
  const providers = connectProviders(config, options.simulated);
  const budgetAlerts = createBudgetAlerts({ database, clock, logger, metrics, webhook: config.budgetWebhook });
  const ledger = await openLedger({
    database,
    clock,
    defaultSoftCap: config.defaultSoftCap,
    defaultHardCap: config.defaultHardCap,
    // One server runs per SQLite file (see storage/instance-lock.ts).
    soleOwner: database.dialect === "sqlite",
    onGroup: (events) => metrics.ledgerGroup.observe(events),
    onTransaction: () => metrics.leaseTransactions.inc(),
    onStanding: (standing) => budgetAlerts.observe(standing),
    onOverrun: ({ requestId, key }, reserved, cost) => {
      metrics.overruns.inc();
      logger.warn(
        { request_id: requestId, key_id: key.id, reserved_usd: formatUsd(reserved), cost_usd: formatUsd(cost) },
        "a request cost more than its worst case",
      );
    },
    onWrittenOff: ({ ownerId, budgetId, windowStartMs, amount }) => {
      metrics.writtenOffUsd.inc(usdNumber(amount));
      logger.warn(
        {
          owner_id: ownerId,
          budget_id: budgetId,
          window_start: new Date(windowStartMs).toISOString(),
          amount_usd: formatUsd(amount),
        },
        "an instance ended without giving its lease back; what its events do not account for counts as spent",
      );
    },
    onUpkeepFailed: (error) => logger.error({ error }, "leases could not be kept up; it is tried again"),
  });
  const tokenCounter = createTokenCounter();
  const retention =
    config.usageRetentionDays === undefined
      ? undefined
      : startRetention({
          database,
          clock,
          days: config.usageRetentionDays,
          onDropped: ({ events, eventsFromMs }) =>
            logger.info(
              { events, events_from: new Date(eventsFromMs).toISOString() },
              "old usage events were deleted, as BRIKK_USAGE_RETENTION_DAYS wants; their sums stay",
            ),
          onFailed: (error) =>
            logger.error({ error }, "old usage events could not be deleted; it is tried again in an hour"),
        });
  const rateLimiter = await openRateLimiter(config, clock, logger, metrics);

  return {
    config,
    version,
    clock,
    logger,
    metrics,
    database,
    ledger,
    authenticate: createAuthenticator({
      keyRing,
      requireAuth: config.requireAuth,
      anonymousKey: keyRing.get(ANONYMOUS_KEY_ID)!,
      clock,
    }),
    rateLimiter,
    providers,
    knownProviders: config.providers.map(({ name }) => name),
    router: createModelRouter({
      providers,
      catalogue: () => catalogue,
      languages: languagePreferences,
      policies: () => config.policies,
      standingOf: () => ALL_WELL,
      random: Math.random,
    }),
    catalogue: () => catalogue,
    tokenCounter,
    inFlight: createInFlight((count) => metrics.inFlight.set(count)),
    replacePrices: (prices) => {
      catalogue = catalogueWith(prices, clock);
    },
    close: async () => {
      await retention?.stop();
      await ledger.close();
      keyRing.stop();
      // After the last settlement, whose alerts it still writes down.
      await budgetAlerts.close();
      await Promise.all([providers.close(), tokenCounter.close(), rateLimiter.close()]);
    },
  };
}

const ALL_WELL: TargetStanding = {
  state: "closed",
  availableInMs: 0,
  errorRate: undefined,
  firstTokenP50Ms: undefined,
  firstTokenP95Ms: undefined,
};

async function openRateLimiter(config: Config, clock: Clock, logger: Logger, metrics: Metrics): Promise<RateLimiter> {
  const settings = {
    requestsPerMin: config.rateLimitPerMin,
    anonymousRequestsPerMin: config.anonymousRateLimitPerMin,
  };
  if (config.redisUrl === undefined) return createMemoryRateLimiter({ settings, clock });
  // The client's code takes 25 MB, which who has no Redis need not spend.
  const { openSharedRateLimiter } = await import("./access/shared-rate-limiter.ts");
  return openSharedRateLimiter({
    settings,
    url: config.redisUrl,
    timeoutMs: config.redisTimeoutMs,
    clock,
    onDown: (error) => {
      metrics.rateLimitsDegraded.set(1);
      logger.error({ error }, "Redis does not answer; rate limits go on in memory, for this instance by itself");
    },
    onUp: () => {
      metrics.rateLimitsDegraded.set(0);
      logger.info("Redis answers again; rate limits are shared");
    },
  });
}

const catalogueWith = (prices: readonly PriceSetting[], clock: Clock): ModelCatalogue =>
  buildModelCatalogue({ overrides: prices.map((price) => overrideOf(price, clock)), now: () => clock.now() });

const overrideOf = (price: PriceSetting, clock: Clock): PriceOverride => ({
  provider: price.provider,
  model: price.model,
  inputUsdPerMillion: price.input_usd_per_million,
  ...(price.cached_input_usd_per_million !== undefined && {
    cachedInputUsdPerMillion: price.cached_input_usd_per_million,
  }),
  ...(price.output_usd_per_million !== undefined && { outputUsdPerMillion: price.output_usd_per_million }),
  ...(price.kind !== undefined && { kind: price.kind }),
  ...(price.context_tokens !== undefined && { contextTokens: price.context_tokens }),
  ...(price.max_output_tokens !== undefined && { maxOutputTokens: price.max_output_tokens }),
  source: "operator",
  asOf: new Date(clock.now()).toISOString().slice(0, 10),
});
