import { STATUS_CODES } from "node:http";
import type { Socket } from "node:net";
import fastify, { type FastifyHttpOptions, type RawServerDefault } from "fastify";
import { validatorCompiler } from "fastify-type-provider-zod";
import type { CompletionServices } from "./completion/run-completion.ts";
import type { ConversationServices } from "./conversations/hold-conversation.ts";
import { createPanelRuns } from "./conversations/panel-runs.ts";
import { BrikkError, type ErrorCode } from "./errors.ts";
import type { Gateway } from "./gateway.ts";
import { createAnswerCompletion } from "./http/answer-completion.ts";
import type { App } from "./http/app-type.ts";
import { answerFrameworkError, registerErrorHandler } from "./http/error-handler.ts";
import { registerAdminAccess } from "./http/hooks/admin.ts";
import { registerAdmission } from "./http/hooks/admission.ts";
import { registerAudit } from "./http/hooks/audit.ts";
import { registerJsonBody } from "./http/hooks/json-body.ts";
import { registerKnownRoute } from "./http/hooks/known-route.ts";
import { registerRequestIdentity, requestIdOf } from "./http/hooks/request-identity.ts";
import { registerSignedBody } from "./http/hooks/signed-body.ts";
import { gaugeProviders } from "./http/record-providers.ts";
import { createRecorder } from "./http/record-completion.ts";
import { registerAccountRoutes } from "./http/routes/account.ts";
import { registerAdminAuditRoutes } from "./http/routes/admin-audit.ts";
import { registerAdminCircuitBreakerRoutes } from "./http/routes/admin-circuit-breakers.ts";
import { registerAdminFireDrillRoutes } from "./http/routes/admin-fire-drill.ts";
import { registerAdminKeyRoutes } from "./http/routes/admin-keys.ts";
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
import { newRequestId } from "./lib/ids.ts";

/** Hooks and routes, in the order in which a request meets them. */
export async function buildApp(gateway: Gateway): Promise<App> {
  const { config, logger, metrics, ledger, database, clock, providers, router, inFlight, version } = gateway;
  const app: App = fastify({
    ...serverOptions(config.maxBodyBytes),
    genReqId: requestIdOf,
    clientErrorHandler: answerBrokenRequest,
    frameworkErrors: answerFrameworkError,
  });
  app.setValidatorCompiler(validatorCompiler);
  // Response schemas are the document's: an answer goes out as it is, and a proxied one is never rebuilt.
  app.setSerializerCompiler(() => (body) => JSON.stringify(body));

  registerErrorHandler(app, logger, metrics);
  registerRequestIdentity(app);
  if (config.auditLogging) registerAudit(app, gateway.audit);
  registerKnownRoute(app);
  registerAdminAccess(app, { token: config.adminToken, clock, logger });
  registerAdmission(app, {
    authenticate: gateway.authenticate,
    verifySignature: gateway.verifySignature,
    rateLimiter: gateway.rateLimiter,
    inFlight,
    metrics,
  });
  registerJsonBody(app);
  registerSignedBody(app);
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
  }
  await registerDocs(app);
  return app;
}

const serverOptions = (maxBodyBytes: number): FastifyHttpOptions<RawServerDefault> => ({
  logger: false,
  bodyLimit: maxBodyBytes,
  // Headers and body must arrive in this time, so that a caller who dawdles cannot hold a connection.
  requestTimeout: 60_000,
  connectionTimeout: 0,
  keepAliveTimeout: 72_000,
  http: { headersTimeout: 20_000, maxHeaderSize: 16 * 1024 },
  // Draining answers for itself, in the same shape as every refusal.
  return503OnClosing: false,
  forceCloseConnections: "idle",
  routerOptions: { maxParamLength: 200 },
});

/** What cannot be read as HTTP never becomes a request, so its refusal is written to the socket. */
function answerBrokenRequest(error: Error & { code?: string }, socket: Socket): void {
  if (error.code === "ECONNRESET" || socket.destroyed || !socket.writable) return void socket.destroy();
  const code: ErrorCode =
    error.code === "HPE_HEADER_OVERFLOW"
      ? "headers_too_large"
      : error.code === "ERR_HTTP_REQUEST_TIMEOUT"
        ? "request_timeout"
        : "invalid_request";
  const messages: Partial<Record<ErrorCode, string>> = {
    headers_too_large: "The request's headers are larger than 16 KiB.",
    request_timeout: "The request did not arrive in full in time.",
  };
  const refusal = new BrikkError(code, messages[code] ?? "This is not a well-formed HTTP request.");
  const requestId = newRequestId();
  const body = JSON.stringify(refusal.body(requestId));
  const headers = {
    "content-type": "application/json; charset=utf-8",
    "content-length": Buffer.byteLength(body),
    "x-request-id": requestId,
    ...refusal.headers(),
    connection: "close",
  };
  const head = Object.entries(headers).map(([name, value]) => `${name}: ${value}\r\n`);
  socket.end(`HTTP/1.1 ${refusal.status} ${STATUS_CODES[refusal.status]}\r\n${head.join("")}\r\n${body}`);
}
