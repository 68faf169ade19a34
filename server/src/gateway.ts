import { createVault, type Vault } from "./access/vault.ts";
import { type AuditTrail, NO_AUDIT_TRAIL } from "./audit/audit-trail.ts";
import { openAuditTrail } from "./audit/open-audit-trail.ts";
import { createAuthenticator, type Authenticate } from "./access/authenticate.ts";
import { ANONYMOUS_KEY_ID, type ApiKey } from "./access/api-key.ts";
import { createKeyRing } from "./access/key-ring.ts";
import { createKeyStore, type KeyStore } from "./access/key-store.ts";
import { createMemoryRateLimiter } from "./access/memory-rate-limiter.ts";
import { createNonceMemory, type NonceMemory } from "./access/nonce-memory.ts";
import type { RateLimiter } from "./access/rate-limiter.ts";
import { createSigningSecrets } from "./access/signing-secrets.ts";
import { createSignatureVerifier, type VerifySignature } from "./access/verify-signature.ts";
import { createHedgePlans, type HedgePlan } from "./completion/hedge.ts";
import { createModelRouter, type ModelRouter } from "./completion/model-router.ts";
import { startProbing } from "./completion/probe-providers.ts";
import { createProviderHealth, type ProviderHealth } from "./completion/provider-health.ts";
import type { CompletionEvents } from "./completion/run-completion.ts";
import type { Config, PolicyConfig } from "./config.ts";
import { createPanelRunStore, type PanelRunStore } from "./conversations/panel-run-store.ts";
import type { FireDrill } from "./http/fire-drill.ts";
import { createInFlight, type InFlight } from "./http/in-flight.ts";
import { createProviderRecorder } from "./http/record-providers.ts";
import { createBudgetAlerts } from "./ledger/budget-alerts.ts";
import { buildModelCatalogue, type ModelCatalogue } from "./ledger/model-catalogue.ts";
import { operatorsModels } from "./ledger/operators-models.ts";
import { type Ledger, openLedger } from "./ledger/ledger.ts";
import { startRetention } from "./ledger/retention.ts";
import { createTokenCounter, type TokenCounter } from "./ledger/token-count.ts";
import { type Clock, systemClock } from "./lib/clock.ts";
import { formatUsd, usdNumber } from "./lib/money.ts";
import { languagePreferences } from "./providers/language-preferences.ts";
import { connectProviders, type ProviderSet, type SimulatedAddresses } from "./providers/provider-set.ts";
import { watchLoopDelay } from "./resilience/loop-delay.ts";
import type { Database } from "./storage/database.ts";
import { openEncryptionKeys } from "./storage/encryption-keys.ts";
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
  readonly keyStore: KeyStore;
  readonly vault: Vault;
  readonly audit: AuditTrail;
  readonly authenticate: Authenticate;
  /** The newest known state of a key. */
  readonly keyOf: (keyId: string) => ApiKey | undefined;
  readonly panelRunStore: PanelRunStore;
  readonly verifySignature: VerifySignature;
  readonly rateLimiter: RateLimiter;
  readonly providers: ProviderSet;
  readonly router: ModelRouter;
  readonly health: ProviderHealth;
  readonly hedgeOf: (policy: PolicyConfig | undefined) => HedgePlan | undefined;
  readonly completionEvents: CompletionEvents;
  readonly catalogue: () => ModelCatalogue;
  readonly policies: () => readonly PolicyConfig[];
  readonly tokenCounter: TokenCounter;
  readonly inFlight: InFlight;
  /** While simulated providers serve, and a reload of the config file may end that. */
  readonly fireDrill: () => FireDrill | undefined;
  /** Takes providers, models, prices and policies from a config that was read anew, all or nothing; requests in hand keep the old ones. */
  replaceConfigFile(config: FromConfigFile, simulated: SimulatedAddresses | undefined): void;
  /** Waits for the ledger, then lets go of everything but the database, which is its opener's. */
  close(): Promise<void>;
}

/** What a config file has a say in. */
export type FromConfigFile = Pick<Config, "providers" | "policies" | "prices">;

export interface GatewayOptions {
  readonly config: Config;
  readonly version: string;
  readonly logger: Logger;
  readonly database: Database;
  /** Where the simulator serves, when it stands in for the providers. */
  readonly simulated: SimulatedAddresses | undefined;
  /** The simulator's faults, when it stands in for the providers. */
  readonly fireDrill?: FireDrill | undefined;
  readonly clock?: Clock;
}

export async function buildGateway(options: GatewayOptions): Promise<Gateway> {
  const { config, database, logger, version } = options;
  const clock = options.clock ?? systemClock;
  const metrics = createMetrics();

  const encryptionKeys = openEncryptionKeys(config.encryptionKeys, config.databaseUrl);
  const vault = createVault({ keys: encryptionKeys, clock });
  const auditTrail = config.auditLogging
    ? await openAuditTrail({
        database,
        clock,
        encryptionKeys,
        version,
        retentionDays: config.auditRetentionDays,
        logger,
        metrics,
      })
    : undefined;
  if (auditTrail === undefined)
    logger.warn("nothing is put on record: ENABLE_AUDIT_LOGGING is false, so there is no audit trail");
  const audit = auditTrail ?? NO_AUDIT_TRAIL;
  const keyRing = createKeyRing({
    database,
    clock,
    onRefreshFailed: (error) =>
      logger.error({ error }, "keys could not be refreshed; known keys go on, and it is tried again"),
  });
  const keyStore = createKeyStore({
    database,
    clock,
    vault,
    audit,
    // Whoever changed a key here finds it changed at once; what fails is tried again by the ring's own polls.
    onChange: () => keyRing.refresh().catch(() => undefined),
  });
  await keyStore.ensureAnonymousKey();
  await keyRing.start();

  let catalogue = catalogueWith(config, clock);
  let { policies } = config;
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
  const loopDelay = watchLoopDelay();
  const providerRecorder = createProviderRecorder(logger, metrics);
  const health = createProviderHealth({ clock, ...providerRecorder });
  const probes =
    config.probeIntervalMs === undefined
      ? undefined
      : startProbing({
          providers,
          health,
          clock,
          intervalMs: config.probeIntervalMs,
          onProbed: providerRecorder.onProbed,
        });
  const panelRunStore = createPanelRunStore({ database, clock });
  // One server runs per SQLite file, so whoever held a run before is gone.
  if (database.dialect === "sqlite") await panelRunStore.disown();
  const rateLimiter = await openRateLimiter(config, clock, logger, metrics);
  const nonces = await openNonceMemory(config, clock, logger);

  return {
    config,
    version,
    clock,
    logger,
    metrics,
    database,
    ledger,
    keyStore,
    vault,
    audit,
    authenticate: createAuthenticator({
      keyRing,
      requireAuth: config.requireAuth,
      anonymousKey: keyRing.get(ANONYMOUS_KEY_ID)!,
      clock,
    }),
    keyOf: (keyId) => keyRing.get(keyId),
    panelRunStore,
    verifySignature: createSignatureVerifier({
      signingSecretOf: (keyId) => keyRing.sealedSigningSecret(keyId),
      openSigningSecret: createSigningSecrets({ vault }),
      nonces,
      clock,
    }),
    rateLimiter,
    providers,
    router: createModelRouter({
      providers,
      catalogue: () => catalogue,
      languages: languagePreferences,
      policies: () => policies,
      standingOf: (provider, model) => health.standingOf(provider, model),
      random: Math.random,
    }),
    health,
    hedgeOf: createHedgePlans(),
    completionEvents: providerRecorder.events,
    catalogue: () => catalogue,
    policies: () => policies,
    tokenCounter,
    inFlight: createInFlight({
      most: config.maxInFlight,
      maxLoopDelayMs: config.maxEventLoopDelayMs,
      loopDelayMs: () => loopDelay.ms,
      onCount: (count) => metrics.inFlight.set(count),
      onRefused: (reason) => metrics.overloadRefusals.inc({ reason }),
    }),
    fireDrill: () => (providers.all.some(({ provider }) => provider.simulated) ? options.fireDrill : undefined),
    replaceConfigFile: (next, simulated) => {
      // First what may throw.
      catalogue = catalogueWith(next, clock);
      for (const name of providers.replace(next.providers, simulated)) health.forget(name);
      policies = next.policies;
    },
    close: async () => {
      loopDelay.stop();
      await probes?.stop();
      await retention?.stop();
      await ledger.close();
      keyRing.stop();
      // After the last settlement, whose alerts it still writes down.
      await budgetAlerts.close();
      // Last of what writes, and bounded: a database that is away holds up no stop.
      await auditTrail?.close();
      await Promise.all([providers.close(), tokenCounter.close(), rateLimiter.close(), nonces.close()]);
    },
  };
}

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

async function openNonceMemory(config: Config, clock: Clock, logger: Logger): Promise<NonceMemory> {
  if (config.redisUrl === undefined) return createNonceMemory({ clock });
  const { openSharedNonceMemory } = await import("./access/shared-nonce-memory.ts");
  return openSharedNonceMemory({
    url: config.redisUrl,
    timeoutMs: config.redisTimeoutMs,
    clock,
    onDown: (error) =>
      logger.error(
        { error },
        "Redis does not answer; signed requests get 503, since who was let in cannot be remembered",
      ),
    onUp: () => logger.info("Redis answers again; signed requests are served"),
  });
}

const catalogueWith = (config: FromConfigFile, clock: Clock): ModelCatalogue =>
  buildModelCatalogue({ ...operatorsModels(config, clock.now()), now: () => clock.now() });
