import type { TargetReport } from "../../src/completion/provider-health.ts";

/** A model that is well and was not asked lately, but for what a test says of it. */
export const targetReport = (numbers: Partial<TargetReport> = {}): TargetReport => ({
  provider: "openai",
  model: "gpt-4o-mini",
  state: "closed",
  consecutiveFailures: 0,
  failureRate: undefined,
  requests: 0,
  lastFault: undefined,
  openedAtMs: undefined,
  nextProbeAtMs: undefined,
  opens: 0,
  probesInFlight: 0,
  coolingUntilMs: undefined,
  firstTokenP50Ms: undefined,
  firstTokenP95Ms: undefined,
  wholeP50Ms: undefined,
  wholeP95Ms: undefined,
  ...numbers,
});
