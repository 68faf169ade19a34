import { z } from "zod";
import { BrikkError } from "../../errors.ts";
import { positionOf, type UsageEventRow } from "../../ledger/usage-event-row.ts";
import { readUsageRequests } from "../../ledger/usage-requests.ts";
import {
  chooseBounds,
  GROUPINGS,
  INTERVALS,
  readUsageTimeseries,
  type TimeseriesPoint,
} from "../../ledger/usage-timeseries.ts";
import type { Clock } from "../../lib/clock.ts";
import { nanoUsd, usdNumber } from "../../lib/money.ts";
import { parseUtcTime } from "../../lib/utc-time.ts";
import type { Database } from "../../storage/database.ts";
import type { App } from "../app-type.ts";
import { refusals } from "../schemas/error.ts";
import { formatUsageCursor, parseUsageCursor } from "../usage-cursor.ts";

const moment = z
  .string()
  .max(40)
  .refine((text) => parseUtcTime(text) !== undefined, {
    message: "must be a date such as 2026-11-23 or a timestamp such as 2026-11-23T09:00:00Z (a + is sent as %2B)",
  });

const outcome = z.enum(["completed", "truncated", "cancelled", "failed", "refused"]);

const timeseriesQuery = z.strictObject({
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

const timeseriesAnswer = z
  .object({
    api_key_id: z.string(),
    interval: z.enum(INTERVALS),
    group_by: z.enum(GROUPINGS),
    from: z.string(),
    to: z.string().describe("The first moment after the series."),
    points: z.array(timeseriesPoint).describe("Oldest first."),
  })
  .meta({
    id: "UsageTimeseries",
    example: {
      api_key_id: "bk_Example00001",
      interval: "day",
      group_by: "provider",
      from: "2026-11-22T00:00:00.000Z",
      to: "2026-11-24T00:00:00.000Z",
      points: [
        {
          start: "2026-11-23T00:00:00.000Z",
          group: "openai",
          cost_usd: 0.00042,
          requests: 3,
          input_tokens: 600,
          output_tokens: 212,
        },
      ],
    },
  });

const requestsQuery = z.strictObject({
  limit: z.coerce.number().int().min(1).max(200).default(50).describe("Requests on a page."),
  cursor: z.string().max(100).optional().describe("The `next_cursor` of the page before."),
  from: moment.optional().describe("Only requests from this moment on (UTC)."),
  to: moment.optional().describe("Only requests before this moment."),
  outcome: outcome.optional(),
  provider: z.string().min(1).max(100).optional().describe("Only requests that this provider served."),
  model: z.string().min(1).max(200).optional().describe("Only requests that this model served."),
});

const requestAnswer = z.object({
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

const requestsAnswer = z
  .object({
    requests: z.array(requestAnswer).describe("Newest first."),
    next_cursor: z
      .string()
      .nullable()
      .describe(
        "Send it as `cursor` for the next page; null at the end. With a filter a page may be short or empty and still have a next one.",
      ),
  })
  .meta({
    id: "UsageRequests",
    example: {
      requests: [
        {
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
        },
      ],
      next_cursor: null,
    },
  });

/** What a caller's key used, over time and request by request. */
export function registerUsageRoutes(app: App, options: { database: Database; clock: Clock }): void {
  const { database, clock } = options;

  app.get(
    "/usage/me/timeseries",
    {
      schema: {
        operationId: "getMyUsageTimeseries",
        summary: "What this key used over time",
        description: "Cost, requests and tokens by hour or day, for charts. Hours and days are UTC.",
        tags: ["Account"],
        querystring: timeseriesQuery,
        response: { 200: timeseriesAnswer.describe("The series."), ...refusals },
      },
    },
    async ({ key, query }): Promise<z.infer<typeof timeseriesAnswer>> => {
      const { interval, group_by: groupBy, from, to } = query;
      const choice = chooseBounds({ fromMs: momentOf(from), toMs: momentOf(to), interval }, clock.now());
      if (choice.kind === "refused") throw refused(choice.param, `${choice.reason}.`);
      const scope = { keyId: key.id };
      const points = await readUsageTimeseries(database, { ...choice.bounds, scope, interval, groupBy });
      return {
        api_key_id: key.id,
        interval,
        group_by: groupBy,
        from: isoTime(choice.bounds.fromMs),
        to: isoTime(choice.bounds.toMs),
        points: points.map(shownPoint),
      };
    },
  );

  app.get(
    "/usage/me/requests",
    {
      schema: {
        operationId: "listMyRequests",
        summary: "This key's requests",
        description:
          "Newest first, a page at a time. Requests that come in while you read are on no later page, so none is seen twice.",
        tags: ["Account"],
        querystring: requestsQuery,
        response: { 200: requestsAnswer.describe("A page of requests."), ...refusals },
      },
    },
    async ({ key, query }): Promise<z.infer<typeof requestsAnswer>> => {
      const { limit, cursor, from, to, ...filter } = query;
      const before = cursor === undefined ? undefined : parseUsageCursor(cursor);
      if (cursor !== undefined && before === undefined)
        throw refused("cursor", "cursor is none of ours; send the next_cursor of the page before as it is.");
      const fromMs = momentOf(from) ?? 0;
      const toMs = momentOf(to) ?? Number.MAX_SAFE_INTEGER;
      if (fromMs >= toMs) throw refused("from", "from must be before to, which is itself not shown.");
      const scope = { keyId: key.id };
      const page = await readUsageRequests(database, { scope, fromMs, toMs, before, limit, filter });
      return {
        requests: page.events.map(shownRequest),
        next_cursor: page.next === undefined ? null : formatUsageCursor(page.next),
      };
    },
  );
}

const refused = (param: string, message: string): BrikkError => new BrikkError("invalid_request", message, { param });

const momentOf = (text: string | undefined): number | undefined =>
  text === undefined ? undefined : parseUtcTime(text);

const isoTime = (ms: number): string => new Date(ms).toISOString();

const shownPoint = (point: TimeseriesPoint): z.infer<typeof timeseriesPoint> => ({
  start: isoTime(point.startMs),
  ...(point.group !== undefined && { group: point.group }),
  cost_usd: usdNumber(point.cost),
  requests: point.requests,
  input_tokens: point.inputTokens,
  output_tokens: point.outputTokens,
});

const shownRequest = (event: UsageEventRow): z.infer<typeof requestAnswer> => ({
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
