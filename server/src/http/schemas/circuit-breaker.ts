import { z } from "zod";
import type { TargetReport } from "../../completion/provider-health.ts";

export const breakerState = z.enum(["closed", "open", "half-open"]);

const moment = z.iso.datetime().nullable();

export const circuitBreaker = z.object({
  provider: z.string(),
  model: z.string(),
  state: breakerState.describe("open: it is not asked; half-open: a few requests are let through to see."),
  consecutive_failures: z.int(),
  failure_rate: z.number().nullable().describe("0 to 1, of the requests in the recent window."),
  requests: z.int().describe("In the recent window."),
  last_fault: z.string().nullable(),
  opened_at: moment,
  next_probe_at: moment.describe("When an open breaker lets a request through."),
  opens: z.int().describe("Times it opened since the start."),
  probes_in_flight: z.int(),
  cooling_until: moment.describe("The provider asked to be left alone until then."),
});

export const exampleBreaker: z.infer<typeof circuitBreaker> = {
  provider: "openai",
  model: "gpt-4o-mini",
  state: "open",
  consecutive_failures: 5,
  failure_rate: 0.8,
  requests: 20,
  last_fault: "overloaded",
  opened_at: "2026-11-23T12:00:00.000Z",
  next_probe_at: "2026-11-23T12:00:30.000Z",
  opens: 1,
  probes_in_flight: 0,
  cooling_until: null,
};

/** A target as its breaker is shown. A cool-down that is over is none. */
export const shownBreaker = (target: TargetReport, nowMs: number): z.infer<typeof circuitBreaker> => ({
  provider: target.provider,
  model: target.model,
  state: target.state,
  consecutive_failures: target.consecutiveFailures,
  failure_rate: target.failureRate ?? null,
  requests: target.requests,
  last_fault: target.lastFault ?? null,
  opened_at: momentOf(target.openedAtMs),
  next_probe_at: momentOf(target.nextProbeAtMs),
  opens: target.opens,
  probes_in_flight: target.probesInFlight,
  cooling_until: momentOf((target.coolingUntilMs ?? 0) > nowMs ? target.coolingUntilMs : undefined),
});

const momentOf = (ms: number | undefined): string | null => (ms === undefined ? null : new Date(ms).toISOString());
