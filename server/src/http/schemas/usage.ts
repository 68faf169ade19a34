import { z } from "zod";
import { positionOf, type UsageEventRow } from "../../ledger/usage-event-row.ts";
import { GROUPINGS, INTERVALS, type TimeseriesPoint } from "../../ledger/usage-timeseries.ts";
import { nanoUsd, usdNumber } from "../../lib/money.ts";
import { parseUtcTime } from "../../lib/utc-time.ts";

export const moment = z
  .string()
  .max(40)
  .refine((text) => parseUtcTime(text) !== undefined, {
    message: "must be a date such as 2026-11-23 or a timestamp such as 2026-11-23T09:00:00Z (a + is sent as %2B)",
  });

const outcome = z.enum(["completed", "truncated", "cancelled", "failed", "refused"]);

export const timeseriesQuery = z.strictObject({
  from: moment
    .optional()
    .describe(
      "Where the series begins (UTC), rounded down to the interval. Without it, 24 hours or 30 days before the end.",
    ),
  to: moment
    .optional()
    .describe(
      "Where it ends, itself not shown, rounded up to the interval. Without it, the interval that lasts now is the last.",
    ),
  interval: z.enum(INTERVALS).default("hour").describe("At most 31 days by hour, 366 days by day."),
  group_by: z
    .enum(GROUPINGS)
    .default("none")
    .describe("Ungrouped, every interval has a point. Grouped, those with requests have one for each group."),
});

const timeseriesPoint = z.object({
  start: z.string().describe("When the interval begins (UTC)."),
  group: z
    .string()
    .nullable()
    .optional()
    .describe("The provider, model or outcome, when grouped; null where a request reached none."),
  cost_usd: z.number(),
  requests: z.int(),
  input_tokens: z.int(),
  output_tokens: z.int(),
});

export const timeseries = z.object({
  interval: z.enum(INTERVALS),
  group_by: z.enum(GROUPINGS),
  from: z.string(),
  to: z.string().describe("The first moment after the series."),
  points: z.array(timeseriesPoint).describe("Oldest first."),
});

export const requestsQuery = z.strictObject({
  limit: z.coerce.number().int().min(1).max(200).default(50).describe("Requests on a page."),
  cursor: z.string().max(100).optional().describe("The `next_cursor` of the page before."),
  from: moment.optional().describe("Only requests from this moment on (UTC)."),
  to: moment.optional().describe("Only requests before this moment."),
  outcome: outcome.optional(),
  provider: z.string().min(1).max(100).optional().describe("Only requests that this provider served."),
  model: z.string().min(1).max(200).optional().describe("Only requests that this model served."),
});

export const requestAnswer = z.object({
  event_id: z
    .string()
    .describe("The ledger's own id of the request; a request id may be the caller's choice and repeat."),
  request_id: z.string(),
  at: z.string().describe("When it came (UTC)."),
  operation: z.enum(["chat", "embeddings"]),
  provider: z.string().nullable().describe("Who served it; null where nobody did."),
  model: z.string().nullable(),
  requested_model: z.string(),
  stream: z.boolean(),
  simulated: z.boolean(),
  outcome,
  status: z.int().describe("The HTTP status that was sent."),
  error_code: z.string().nullable(),
  tokens: z
    .object({
      fresh_input: z.int(),
      cached_input: z.int(),
      cache_write: z.int(),
      audio_input: z.int(),
      output: z.int().describe("With the reasoning."),
      reasoning: z.int(),
      audio_output: z.int(),
    })
    .describe("Disjoint kinds, except that output contains reasoning."),
  usage_source: z.enum(["exact", "estimated", "none"]),
  cost_usd: z.number(),
  earlier_cost_usd: z
    .number()
    .describe("The part of it that is for attempts before the one that served, which their providers may bill."),
  latency_ms: z.int(),
  time_to_first_token_ms: z.int().nullable(),
  attempts: z.int(),
  fallback: z.boolean(),
  rescue: z
    .string()
    .nullable()
    .describe("continue or restart: how a stream that broke was taken up by another candidate; null: it was not."),
  route_reason: z.string().nullable(),
  clamped_max_tokens: z
    .int()
    .nullable()
    .describe("What `max_tokens` was lowered to, where the budget paid for no more."),
});

export const exampleRequest: z.infer<typeof requestAnswer> = {
  event_id: "019ab0c4-5a00-7c3e-9f00-3b1f6a2c9d10",
  request_id: "req_example",
  at: "2026-11-23T12:00:00.000Z",
  operation: "chat",
  provider: "openai",
  model: "gpt-4o-mini",
  requested_model: "brikk/auto",
  stream: true,
  simulated: false,
  outcome: "completed",
  status: 200,
  error_code: null,
  tokens: {
    fresh_input: 13,
    cached_input: 0,
    cache_write: 0,
    audio_input: 0,
    output: 8,
    reasoning: 0,
    audio_output: 0,
  },
  usage_source: "exact",
  cost_usd: 0.00000675,
  earlier_cost_usd: 0,
  latency_ms: 812,
  time_to_first_token_ms: 310,
  attempts: 1,
  fallback: false,
  rescue: null,
  route_reason: "cheapest first",
  clamped_max_tokens: null,
};

export const momentOf = (text: string | undefined): number | undefined =>
  text === undefined ? undefined : parseUtcTime(text);

export const isoTime = (ms: number): string => new Date(ms).toISOString();

export const shownPoint = (point: TimeseriesPoint): z.infer<typeof timeseriesPoint> => ({
  start: isoTime(point.startMs),
  ...(point.group !== undefined && { group: point.group }),
  cost_usd: usdNumber(point.cost),
  requests: point.requests,
  input_tokens: point.inputTokens,
  output_tokens: point.outputTokens,
});

export const shownRequest = (event: UsageEventRow): z.infer<typeof requestAnswer> => ({
  event_id: event.event_id,
  request_id: event.request_id,
  at: isoTime(positionOf(event).occurredAtMs),
  operation: event.operation,
  provider: event.provider,
  model: event.model,
  requested_model: event.requested_model,
  stream: event.stream === 1n,
  simulated: event.simulated === 1n,
  outcome: event.outcome,
  status: Number(event.status),
  error_code: event.error_code,
  tokens: {
    fresh_input: Number(event.fresh_input_tokens),
    cached_input: Number(event.cached_input_tokens),
    cache_write: Number(event.cache_write_tokens),
    audio_input: Number(event.audio_input_tokens),
    output: Number(event.output_tokens),
    reasoning: Number(event.reasoning_tokens),
    audio_output: Number(event.audio_output_tokens),
  },
  usage_source: event.usage_source,
  cost_usd: usdNumber(nanoUsd(event.cost_nano_usd)),
  earlier_cost_usd: usdNumber(nanoUsd(event.earlier_cost_nano_usd)),
  latency_ms: Number(event.latency_ms),
  time_to_first_token_ms: event.time_to_first_token_ms === null ? null : Number(event.time_to_first_token_ms),
  attempts: Number(event.attempts),
  fallback: event.fallback === 1n,
  rescue: event.rescue,
  route_reason: event.route_reason,
  clamped_max_tokens: event.clamped_max_tokens === null ? null : Number(event.clamped_max_tokens),
});
