import { Counter, Gauge, Histogram, Registry } from "prom-client";
import { createBoundedLabel } from "./bounded-label.ts";

/**
 * Prometheus metrics in base units. Labels are bounded: providers, catalogue models, route templates, outcomes; never a key,
 * an address or a path as it was sent.
 */
export interface Metrics {
  readonly registry: Registry;
  /** The `model` label for a model's name: callers may name dated and fine-tuned ones, in capitals or not. */
  readonly modelLabel: (model: string) => string;
  readonly httpRequests: Counter<"method" | "route" | "status">;
  readonly requests: Counter<"operation" | "provider" | "model" | "outcome" | "stream">;
  readonly duration: Histogram<"operation" | "provider" | "stream">;
  readonly firstToken: Histogram<"provider" | "model">;
  readonly tokens: Counter<"provider" | "model" | "kind">;
  readonly costUsd: Counter<"provider" | "model">;
  readonly attempts: Counter<"provider" | "model">;
  readonly fallbacks: Counter<"provider" | "model">;
  readonly inFlight: Gauge;
  readonly ledgerGroup: Histogram;
  readonly leaseTransactions: Counter;
  readonly overruns: Counter;
  readonly writtenOffUsd: Counter;
  readonly budgetAlerts: Counter<"alert" | "window">;
  readonly budgetWebhookAttempts: Counter<"outcome">;
  readonly rateLimited: Counter<"rule">;
  readonly rateLimitsDegraded: Gauge;
  readonly signaturesRefused: Counter<"reason">;
  readonly connectionsRefused: Counter<"when">;
  readonly wrongCredentials: Counter<"kind" | "answer">;
  readonly circuitBreakerState: Gauge<"provider" | "model">;
  readonly circuitBreakerTransitions: Counter<"provider" | "model" | "to">;
  readonly providerFaults: Counter<"provider" | "model" | "fault">;
  readonly retries: Counter<"provider">;
  readonly hedges: Counter<"provider" | "model" | "outcome">;
  readonly rescues: Counter<"mode" | "outcome">;
  readonly providerInFlight: Gauge<"provider">;
  readonly providerQueued: Gauge<"provider">;
  readonly overloadRefusals: Counter<"reason">;
  readonly providerCooldowns: Counter<"provider" | "model">;
  readonly activeProbes: Counter<"provider" | "outcome">;
  readonly auditEntries: Counter<"kind">;
  readonly auditDropped: Counter;
  readonly auditQueue: Gauge;
}

const MOST_MODEL_LABELS = 200;
const SECONDS = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 20, 40, 80, 160];

export function createMetrics(): Metrics {
  const registry = new Registry();
  const registers = [registry];
  const metrics: Metrics = {
    registry,
    modelLabel: createBoundedLabel(MOST_MODEL_LABELS),
    httpRequests: new Counter({
      name: "brikk_http_requests_total",
      help: "HTTP requests answered, by route template.",
      labelNames: ["method", "route", "status"],
      registers,
    }),
    requests: new Counter({
      name: "brikk_requests_total",
      help: "Completions and embeddings, by what became of them.",
      labelNames: ["operation", "provider", "model", "outcome", "stream"],
      registers,
    }),
    duration: new Histogram({
      name: "brikk_request_duration_seconds",
      help: "From the parsed request to the settled answer.",
      labelNames: ["operation", "provider", "stream"],
      buckets: SECONDS,
      registers,
    }),
    firstToken: new Histogram({
      name: "brikk_time_to_first_token_seconds",
      help: "From the parsed request to the first output of a stream.",
      labelNames: ["provider", "model"],
      buckets: SECONDS,
      registers,
    }),
    tokens: new Counter({
      name: "brikk_tokens_total",
      help: "Tokens by kind: input_fresh, input_cached, input_cache_write, input_audio, output, output_audio.",
      labelNames: ["provider", "model", "kind"],
      registers,
    }),
    costUsd: new Counter({
      name: "brikk_cost_usd_total",
      help: "Cost charged, in USD. For dashboards; the ledger is exact.",
      labelNames: ["provider", "model"],
      registers,
    }),
    attempts: new Counter({
      name: "brikk_attempts_total",
      help: "Upstream calls of requests, by who served last.",
      labelNames: ["provider", "model"],
      registers,
    }),
    fallbacks: new Counter({
      name: "brikk_fallbacks_total",
      help: "Requests that a later candidate served.",
      labelNames: ["provider", "model"],
      registers,
    }),
    ledgerGroup: new Histogram({
      name: "brikk_ledger_group_events",
      help: "Usage events in one database transaction.",
      buckets: [1, 2, 5, 10, 20, 50, 100, 200, 500],
      registers,
    }),
    leaseTransactions: new Counter({
      name: "brikk_lease_transactions_total",
      help: "Database transactions that leased from budgets, gave back, or said that this instance lives.",
      registers,
    }),
    overruns: new Counter({
      name: "brikk_reservation_overruns_total",
      help: "Requests that cost more than was set aside for them.",
      registers,
    }),
    writtenOffUsd: new Counter({
      name: "brikk_budget_written_off_usd_total",
      help: "What instances that ended without notice held of budgets, in USD.",
      registers,
    }),
    inFlight: new Gauge({ name: "brikk_in_flight_requests", help: "Completions and embeddings in flight.", registers }),
    budgetAlerts: new Counter({
      name: "brikk_budget_alerts_total",
      help: "Budget windows that reached their soft cap or 50, 80 or 100 % of their hard cap; each counts on one instance.",
      labelNames: ["alert", "window"],
      registers,
    }),
    budgetWebhookAttempts: new Counter({
      name: "brikk_budget_webhook_attempts_total",
      help: "Attempts to deliver a budget alert: delivered, failed (it is tried again), given_up (the last one failed).",
      labelNames: ["outcome"],
      registers,
    }),
    rateLimited: new Counter({
      name: "brikk_rate_limited_total",
      help: "Requests refused by a rate limit, by the rule that refused for longest.",
      labelNames: ["rule"],
      registers,
    }),
    rateLimitsDegraded: new Gauge({
      name: "brikk_rate_limits_degraded",
      help: "1 while REDIS_URL is set and Redis does not answer: limits then hold for each instance by itself.",
      registers,
    }),
    signaturesRefused: new Counter({
      name: "brikk_signatures_refused_total",
      help: "Requests of keys that sign them, refused for their signature, by the reason.",
      labelNames: ["reason"],
      registers,
    }),
    connectionsRefused: new Counter({
      name: "brikk_connections_refused_total",
      help: "Connections closed because their address had too many without a valid key: accepting (as they came), waiting (without a request), calling (with one); or because they had too many requests in hand (pipelining).",
      labelNames: ["when"],
      registers,
    }),
    wrongCredentials: new Counter({
      name: "brikk_wrong_credentials_total",
      help: "Wrong keys and admin tokens, by kind (key, admin_token) and answer: refused, or limited (too many came from the address).",
      labelNames: ["kind", "answer"],
      registers,
    }),
    circuitBreakerState: new Gauge({
      name: "brikk_circuit_breaker_state",
      help: "0 closed, 1 half-open (probes are let through), 2 open (it is not asked).",
      labelNames: ["provider", "model"],
      registers,
    }),
    circuitBreakerTransitions: new Counter({
      name: "brikk_circuit_breaker_transitions_total",
      help: "Changes of a circuit breaker, by the state it came to: closed, half-open, open.",
      labelNames: ["provider", "model", "to"],
      registers,
    }),
    providerFaults: new Counter({
      name: "brikk_provider_faults_total",
      help: "Attempts that failed, by what was wrong.",
      labelNames: ["provider", "model", "fault"],
      registers,
    }),
    retries: new Counter({
      name: "brikk_retries_total",
      help: "Attempts at a provider that the same request had asked before.",
      labelNames: ["provider"],
      registers,
    }),
    hedges: new Counter({
      name: "brikk_hedges_total",
      help: "Second candidates of slow requests: won (it served), lost (the first did), skipped (it would have cost too much).",
      labelNames: ["provider", "model", "outcome"],
      registers,
    }),
    rescues: new Counter({
      name: "brikk_rescues_total",
      help: "Streams that broke off and were gone on with elsewhere, by mode and by what became of them.",
      labelNames: ["mode", "outcome"],
      registers,
    }),
    providerInFlight: new Gauge({
      name: "brikk_provider_in_flight",
      help: "Attempts in flight at a provider.",
      labelNames: ["provider"],
      registers,
    }),
    providerQueued: new Gauge({
      name: "brikk_provider_queued",
      help: "Attempts that wait for a place at a provider.",
      labelNames: ["provider"],
      registers,
    }),
    overloadRefusals: new Counter({
      name: "brikk_overload_refusals_total",
      help: "Requests refused for load: process (too many in flight), provider (its queue is full), event_loop (it lags).",
      labelNames: ["reason"],
      registers,
    }),
    providerCooldowns: new Counter({
      name: "brikk_provider_cooldowns_total",
      help: "Times a provider asked to be left alone for a while.",
      labelNames: ["provider", "model"],
      registers,
    }),
    activeProbes: new Counter({
      name: "brikk_active_probes_total",
      help: "Probes of idle providers that cost nothing: ok, failed.",
      labelNames: ["provider", "outcome"],
      registers,
    }),
    auditEntries: new Counter({
      name: "brikk_audit_entries_total",
      help: "Entries written to the audit trail: request, refusal, act, notice. An act whose transaction is undone is counted.",
      labelNames: ["kind"],
      registers,
    }),
    auditDropped: new Counter({
      name: "brikk_audit_dropped_total",
      help: "Entries that the audit queue could not take or that could not be written before the stop.",
      registers,
    }),
    auditQueue: new Gauge({
      name: "brikk_audit_queue",
      help: "Audit entries that wait to be written.",
      registers,
    }),
  };
  return metrics;
}
