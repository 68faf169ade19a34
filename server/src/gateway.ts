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
import { secretsIn } from "./config/secrets-in.ts";
import { createHedgePlans, type HedgePlan } from "./completion/hedge.ts";
import { createModelRouter, type ModelRouter } from "./completion/model-router.ts";
import { startProbing } from "./completion/probe-providers.ts";
import { createProviderHealth, type ProviderHealth } from "./completion/provider-health.ts";
import type { CompletionEvents } from "./completion/run-completion.ts";
import { createPanelRunStore, type PanelRunStore } from "./conversations/panel-run-store.ts";
import { type Config, ConfigError, isConfigured, type PolicyConfig, type ProviderConfig } from "./config.ts";
import { type CredentialRing, createCredentialRing } from "./credentials/credential-ring.ts";
import { type CredentialStore, createCredentialStore } from "./credentials/credential-store.ts";
import { findUnreadable } from "./credentials/find-unreadable.ts";
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
import { createRedactor, type Redactor } from "./telemetry/redactor.ts";

/** The parts of a running gateway, put together once. */
export interface Gateway {
  readonly config: Config;
  readonly version: string;
  readonly clock: Clock;
  readonly logger: Logger;
  readonly metrics: Metrics;
  /** Knows the secrets of the settings; whoever comes by another one teaches it. */
  readonly redactor: Redactor;
  readonly database: Database;
  readonly ledger: Ledger;
  readonly keyStore: KeyStore;
  readonly vault: Vault;
  readonly audit: AuditTrail;
  readonly credentials: CredentialStore;
  readonly credentialRing: CredentialRing;
  /** As settings and file describe them, with the environment's credentials. */
  readonly settledProviders: () => readonly ProviderConfig[];
  /** Keys whose signing secret, when the server started, none of the encryption keys opened. */
  readonly unreadableSigningSecrets: number;
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
  /**
   * Takes providers, models, prices and policies from a config that was read anew, all or nothing; requests in hand keep the old
   * ones, and stored credentials stay in force. Throws ConfigError when nobody at all would be left to ask.
   */
  replaceConfigFile(config: FromConfigFile): void;
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
  /** Where the simulator serves, when it runs. */
  readonly simulated: SimulatedAddresses | undefined;
  /** In providers' place: `alone`, while none can be asked, which is the default, or `always`, also beside others. */
  readonly simulatorServes?: "alone" | "always";
  /** The simulator's faults, when it stands in for the providers. */
  readonly fireDrill?: FireDrill | undefined;
  readonly clock?: Clock;
  /** The logger's own, where it has one. */
  readonly redactor?: Redactor;
}

export async function buildGateway(options: GatewayOptions): Promise<Gateway> {
  const { config, database, logger, version } = options;
  const clock = options.clock ?? systemClock;
  const metrics = createMetrics();

  const encryptionKeys = openEncryptionKeys(config.encryptionKeys, config.databaseUrl);
  const redactor = options.redactor ?? createRedactor();
  redactor.learn(secretsIn({ ...config, encryptionKeys }));
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
  let settled = config.providers;
  let started = false;
  const credentials = createCredentialStore({ database, clock, vault, audit });
  const credentialRing = createCredentialRing({
    database,
    vault,
    onChange: () => askAsStored(),
    onUnreadable: (provider, error) => {
      // What was so at the start is told in one line for all.
      if (started)
        logger.error(
          { provider, error },
          "a provider's stored credential cannot be opened; what is known of it goes on",
        );
    },
    onRefreshFailed: (error) =>
      logger.error({ error }, "provider credentials could not be refreshed; known ones go on, and it is tried again"),
  });
  let haveBeenReal = false;
  const simulatedFor = (wanted: readonly ProviderConfig[]): SimulatedAddresses | undefined => {
    if (options.simulatorServes === "always") return options.simulated;
    if (wanted.some((provider) => isConfigured(provider) || credentialRing.has(provider.name))) return undefined;
    // In production nothing that is made up follows on real answers.
    return haveBeenReal && config.production ? undefined : options.simulated;
  };
  const providers = connectProviders({ ...config, providers: [] }, undefined);
  function askAsStored(): void {
    const wanted = credentialRing.applyTo(settled);
    redactor.learn(secretsIn({ ...config, providers: wanted }));
    const simulated = simulatedFor(wanted);
    haveBeenReal ||= simulated === undefined && wanted.some(isConfigured);
    for (const name of providers.replace(wanted, simulated)) health.forget(name);
  }
  const budgetAlerts = createBudgetAlerts({
    database,
    clock,
    logger,
    metrics,
    webhook: config.budgetWebhook && {
      ...config.budgetWebhook,
      allowPrivateAddresses: config.allowPrivateAddresses,
    },
  });
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
  askAsStored();
  await credentialRing.start();
  started = true;
  const unreadable = await findUnreadable(database, vault);
  if (unreadable.length > 0)
    logger.error(
      {
        secrets: unreadable.length,
        first: unreadable.slice(0, MAX_NAMED_UNREADABLE).map((entry) => `${entry.kind} of ${entry.of}`),
      },
      "stored secrets cannot be opened: none of the keys in BRIKK_ENCRYPTION_KEY sealed them; what needs them is refused",
    );
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
    redactor,
    database,
    ledger,
    keyStore,
    vault,
    audit,
    credentials,
    credentialRing,
    settledProviders: () => settled,
    unreadableSigningSecrets: unreadable.filter(({ kind }) => kind === "signing secret").length,
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
    replaceConfigFile: (next) => {
      // First what may throw.
      const wanted = credentialRing.applyTo(next.providers);
      if (!wanted.some(isConfigured) && simulatedFor(wanted) === undefined)
        throw new ConfigError([
          "BRIKK_CONFIG leaves no provider at all, and answers that are made up begin at a start and not in between.",
        ]);
      catalogue = catalogueWith(next, clock);
      settled = next.providers;
      askAsStored();
      policies = next.policies;
    },
    close: async () => {
      loopDelay.stop();
      await probes?.stop();
      await retention?.stop();
      await ledger.close();
      keyRing.stop();
      credentialRing.stop();
      // After the last settlement, whose alerts it still writes down.
      await budgetAlerts.close();
      // Last of what writes, and bounded: a database that is away holds up no stop.
      await auditTrail?.close();
      await Promise.all([providers.close(), tokenCounter.close(), rateLimiter.close(), nonces.close()]);
    },
  };
}

const MAX_NAMED_UNREADABLE = 20;

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
