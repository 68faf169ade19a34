import type { ProviderReport, TargetReport } from "../completion/provider-health.ts";
import type { BreakerState } from "../resilience/circuit-breaker.ts";

export const providerStatuses = [
  "not_configured",
  "idle",
  "healthy",
  "unsteady",
  "cooling_down",
  "recovering",
  "partly_failing",
  "failing",
] as const;

/** A provider as a whole, from the models that were asked. */
export interface ProviderStatus {
  /** The worst of its models'; unknown when none was asked. */
  readonly state: BreakerState | "unknown";
  readonly status: (typeof providerStatuses)[number];
  readonly requests: number;
  readonly errorRate: number | undefined;
  /** Of the model that was asked most: quantiles of several cannot be made one. */
  readonly firstTokenP50Ms: number | undefined;
  readonly firstTokenP95Ms: number | undefined;
}

/** Errors that are few enough for a circuit breaker and too many to be called healthy. */
const UNSTEADY_ERROR_RATE = 0.1;

export function providerStatusOf(
  targets: readonly TargetReport[],
  lastProbe: ProviderReport["lastProbe"],
  nowMs: number,
): ProviderStatus {
  const requests = targets.reduce((sum, target) => sum + target.requests, 0);
  const failures = targets.reduce((sum, target) => sum + (target.failureRate ?? 0) * target.requests, 0);
  const errorRate = requests === 0 ? undefined : failures / requests;
  const busiest = targets
    .filter(({ firstTokenP50Ms }) => firstTokenP50Ms !== undefined)
    .reduce<TargetReport | undefined>(
      (most, each) => (each.requests > (most?.requests ?? -1) ? each : most),
      undefined,
    );
  return {
    state: worstState(targets),
    status: wordFor(targets, { requests, errorRate, probeFailed: lastProbe?.ok === false, nowMs }),
    requests,
    errorRate,
    firstTokenP50Ms: busiest?.firstTokenP50Ms,
    firstTokenP95Ms: busiest?.firstTokenP95Ms,
  };
}

function worstState(targets: readonly TargetReport[]): ProviderStatus["state"] {
  for (const state of ["open", "half-open", "closed"] as const)
    if (targets.some((target) => target.state === state)) return state;
  return "unknown";
}

function wordFor(
  targets: readonly TargetReport[],
  recent: { requests: number; errorRate: number | undefined; probeFailed: boolean; nowMs: number },
): ProviderStatus["status"] {
  const open = targets.filter(({ state }) => state === "open").length;
  if (open > 0) return open === targets.length ? "failing" : "partly_failing";
  if (targets.some(({ state }) => state === "half-open")) return "recovering";
  if (targets.some(({ coolingUntilMs }) => (coolingUntilMs ?? 0) > recent.nowMs)) return "cooling_down";
  // Requests tell more than a probe, which asks for less.
  if (recent.requests === 0) return recent.probeFailed ? "failing" : "idle";
  return (recent.errorRate ?? 0) >= UNSTEADY_ERROR_RATE ? "unsteady" : "healthy";
}
