import fastify, { type FastifyHttpOptions, type RawServerDefault } from "fastify";
import { validatorCompiler } from "fastify-type-provider-zod";
import type { CompletionServices } from "./completion/run-completion.ts";
import type { ConversationServices } from "./conversations/hold-conversation.ts";
import { createPanelRuns } from "./conversations/panel-runs.ts";
import type { Gateway } from "./gateway.ts";
import { createAnswerCompletion } from "./http/answer-completion.ts";
import type { App } from "./http/app-type.ts";
import { createBrokenRequestAnswer } from "./http/broken-request.ts";
import { createConnections } from "./http/connections.ts";
import { createFrameworkErrorAnswer, registerErrorHandler } from "./http/error-handler.ts";
import { createHostCheck } from "./http/host-check.ts";
import { registerAdminAccess } from "./http/hooks/admin.ts";
import { registerAdmission } from "./http/hooks/admission.ts";
import { registerAudit } from "./http/hooks/audit.ts";
import { registerCaller } from "./http/hooks/caller.ts";
import { registerCors } from "./http/hooks/cors.ts";
import { registerJsonBody } from "./http/hooks/json-body.ts";
import { registerKnownHost } from "./http/hooks/known-host.ts";
import { registerKnownRoute } from "./http/hooks/known-route.ts";
import { originForm, registerRequestForm } from "./http/hooks/request-form.ts";
import { createRequestIds, registerRequestIdentity } from "./http/hooks/request-identity.ts";
import { registerSignedBody } from "./http/hooks/signed-body.ts";
import { registerSecurityHeaders } from "./http/hooks/security-headers.ts";
import { registerStraySecrets } from "./http/hooks/stray-secrets.ts";
import { lingerOnClose } from "./http/lingering-close.ts";
import { replaceNodeAnswers } from "./http/node-answers.ts";
import { collectRoutes } from "./http/route-table.ts";
import { type WireLimits, WIRE_LIMITS } from "./http/wire-limits.ts";
import { gaugeProviders } from "./http/record-providers.ts";
import { createRecorder } from "./http/record-completion.ts";
import { registerAccountRoutes } from "./http/routes/account.ts";
import { registerAdminAuditRoutes } from "./http/routes/admin-audit.ts";
import { registerAdminCircuitBreakerRoutes } from "./http/routes/admin-circuit-breakers.ts";
import { registerAdminFireDrillRoutes } from "./http/routes/admin-fire-drill.ts";
import { registerAdminKeyRoutes } from "./http/routes/admin-keys.ts";
import { registerAdminProviderCredentialRoutes } from "./http/routes/admin-provider-credentials.ts";
import { registerAdminUsageRoutes } from "./http/routes/admin-usage.ts";
import { registerAgentRoutes } from "./http/routes/agents.ts";
import { registerBridgeRoute } from "./http/routes/bridge.ts";
import { registerCompletionRoutes } from "./http/routes/completions.ts";
import { registerApiDocument, registerDocs } from "./http/routes/docs.ts";
import { registerExplainRoute } from "./http/routes/explain.ts";
import { registerHealthRoutes } from "./http/routes/health.ts";
import { registerMetricsRoute } from "./http/routes/metrics.ts";
import { registerPanelRoutes } from "./http/routes/panel.ts";
import { registerProviderHealthRoutes } from "./http/routes/provider-health.ts";
import { registerRotateKeyRoute } from "./http/routes/rotate-key.ts";
import { registerSandboxKeyRoutes } from "./http/routes/sandbox-keys.ts";
import { registerUsageRoutes } from "./http/routes/usage.ts";

/** Hooks and routes, in the order in which a request meets them. */
export async function buildApp(gateway: Gateway, limits: WireLimits = WIRE_LIMITS): Promise<App> {
  const { config, logger, metrics, ledger, database, clock, providers, router, inFlight, version, redactor } = gateway;
  const connections = createConnections({
    mostPerAddress: config.trustedProxies === 0 ? config.maxConnectionsPerAddress : undefined,
    onRefused: (when) => metrics.connectionsRefused.inc({ when }),
  });
  const app: App = fastify({
    ...serverOptions(config.maxBodyBytes, limits),
    genReqId: createRequestIds(redactor),
    rewriteUrl: originForm,
    clientErrorHandler: createBrokenRequestAnswer(connections, limits),
    frameworkErrors: createFrameworkErrorAnswer(config.trustedProxies, redactor),
  });
  connections.watch(app.server);
  lingerOnClose(app.server);
  replaceNodeAnswers(app.server);
  app.setValidatorCompiler(validatorCompiler);
  // Response schemas are the document's: an answer goes out as it is, and a proxied one is never rebuilt.
  app.setSerializerCompiler(() => (body) => JSON.stringify(body));

  registerErrorHandler(app, { logger, metrics, redactor });
  registerCaller(app, config.trustedProxies);
  registerSecurityHeaders(app, config.trustedProxies);
  registerRequestIdentity(app);
  if (config.auditLogging) registerAudit(app, gateway.audit);
  registerRequestForm(app, limits.maxUrlLength);
  const table = collectRoutes(app);
  const hostRefusal = createHostCheck(config.allowedHosts);
  registerCors(app, { origins: config.corsOrigins, table });
  registerKnownRoute(app, table);
  registerKnownHost(app, hostRefusal);
  registerAdminAccess(app, { token: config.adminToken, connections, clock, logger, metrics });
  registerAdmission(app, {
    authenticate: gateway.authenticate,
    verifySignature: gateway.verifySignature,
    rateLimiter: gateway.rateLimiter,
    connections,
    hostRefusal,
    clock,
    inFlight,
    metrics,
  });
  registerJsonBody(app);
  registerSignedBody(app);
  registerStraySecrets(app, redactor);
  await registerApiDocument(app, version);

  const completion: CompletionServices = {
    ledger,
    tokenCounter: gateway.tokenCounter,
    health: gateway.health,
    hedgeOf: gateway.hedgeOf,
    maxRetries: config.maxRetries,
    random: Math.random,
    events: gateway.completionEvents,
    clock,
    record: createRecorder(logger, metrics),
    redactor,
  };
  const onBroken = (requestId: string, error: unknown): void =>
    logger.error({ request_id: requestId, error }, "a fault of the gateway ended a stream");
  const answerCompletion = createAnswerCompletion(completion, inFlight, config, onBroken);
  const conversations: ConversationServices = {
    completion,
    admission: {
      rateLimiter: gateway.rateLimiter,
      clock,
      onRateLimited: (rule) => metrics.rateLimited.inc({ rule }),
    },
    keyOf: gateway.keyOf,
    requestTimeoutMs: config.requestTimeoutMs,
    begin: () => inFlight.begin(),
    drainBegins: inFlight.drainBegins,
    onBroken,
  };
  registerCompletionRoutes(app, { answerCompletion, router, providers, catalogue: gateway.catalogue });
  registerExplainRoute(app, {
    services: { ledger, tokenCounter: gateway.tokenCounter, health: gateway.health },
    router,
    rateLimiter: gateway.rateLimiter,
  });
  registerAgentRoutes(app, { answerCompletion, router, providers, health: gateway.health });
  const { keepAliveMs } = config;
  registerBridgeRoute(app, { services: conversations, router, providers, ledger, keepAliveMs });
  registerPanelRoutes(app, {
    runs: createPanelRuns({
      store: gateway.panelRunStore,
      services: conversations,
      clock,
      onStoreFailed: (runId, error) =>
        logger.error({ run_id: runId, error }, "a run of the panel could not be written down"),
    }),
    answerCompletion,
    router,
    providers,
    ledger,
    keepAliveMs,
  });
  registerAccountRoutes(app, {
    ledger,
    database,
    keyStore: gateway.keyStore,
    clock,
    rateLimitPerMin: config.rateLimitPerMin,
  });
  registerRotateKeyRoute(app, { keyStore: gateway.keyStore });
  if (config.selfService)
    registerSandboxKeyRoutes(app, {
      keyStore: gateway.keyStore,
      clock,
      selfService: config.selfService,
      requestsPerMin: config.anonymousRateLimitPerMin,
    });
  registerUsageRoutes(app, { database, clock });
  registerHealthRoutes(app, {
    version,
    database,
    ledger,
    providers,
    rateLimiter: gateway.rateLimiter,
    credentialRing: gateway.credentialRing,
    unreadableSigningSecrets: gateway.unreadableSigningSecrets,
    inFlight,
    startedAtMs: clock.now(),
  });
  registerProviderHealthRoutes(app, { providers, health: gateway.health, clock });
  registerMetricsRoute(app, metrics, () => gaugeProviders(metrics, gateway.health, providers.known));
  if (config.adminToken !== undefined) {
    registerAdminKeyRoutes(app, { keyStore: gateway.keyStore, ledger, database, clock, defaults: config });
    registerAdminUsageRoutes(app, { database, clock });
    registerAdminCircuitBreakerRoutes(app, { health: gateway.health, providers, clock, audit: gateway.audit });
    registerAdminFireDrillRoutes(app, { fireDrill: gateway.fireDrill, audit: gateway.audit });
    registerAdminAuditRoutes(app, { database });
    registerAdminProviderCredentialRoutes(app, {
      config,
      credentials: gateway.credentials,
      ring: gateway.credentialRing,
      providers,
      settledProviders: gateway.settledProviders,
      audit: gateway.audit,
      logger,
    });
  }
  await registerDocs(app);
  return app;
}

const serverOptions = (maxBodyBytes: number, limits: WireLimits): FastifyHttpOptions<RawServerDefault> => ({
  logger: false,
  bodyLimit: maxBodyBytes,
  requestTimeout: limits.requestMs,
  connectionTimeout: 0,
  keepAliveTimeout: limits.keepAliveMs,
  http: {
    headersTimeout: limits.headersMs,
    connectionsCheckingInterval: limits.checkEveryMs,
    maxHeaderSize: limits.maxHeaderBytes,
    // Asked by a hook, whose refusal says what is wrong.
    requireHostHeader: false,
  },
  // Draining answers for itself, in the same shape as every refusal.
  return503OnClosing: false,
  forceCloseConnections: "idle",
  routerOptions: { maxParamLength: 200 },
});
