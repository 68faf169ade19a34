import { z } from "zod";
import { BrikkError } from "../../errors.ts";
import {
  chooseTotalBounds,
  type GroupTotal,
  readUsageTotals,
  TOTAL_GROUPINGS,
  type TotalGrouping,
  type TotalPosition,
  type UsageTotal,
} from "../../ledger/usage-totals.ts";
import type { UsageScope } from "../../ledger/usage-scope.ts";
import type { Clock } from "../../lib/clock.ts";
import { nanoUsd, usdNumber } from "../../lib/money.ts";
import type { Database } from "../../storage/database.ts";
import type { App } from "../app-type.ts";
import { cursorOver } from "../cursor.ts";
import { keyId } from "../schemas/admin-key.ts";
import { adminRefusals, refusals } from "../schemas/error.ts";
import {
  exampleRequest,
  isoTime,
  moment,
  momentOf,
  requestAnswer,
  requestsQuery,
  shownRequest,
  timeseries,
  timeseriesQuery,
} from "../schemas/usage.ts";
import { answerTimeseries, readRequestsPage } from "../usage-answers.ts";

const ofKey = { key_id: keyId.optional().describe("Only what this key used.") };

const sums = {
  cost_usd: z.number(),
  requests: z.int(),
  input_tokens: z.int(),
  output_tokens: z.int(),
};

const group = z.object({
  group: z
    .string()
    .nullable()
    .describe("The key's id, the provider, the model or the day; null where a request reached no provider or model."),
  name: z.string().nullable().optional().describe("Of a key: its name."),
  ...sums,
});

const totalsAnswer = z
  .object({
    from: z.string().describe("Whole hours (UTC)."),
    to: z.string().describe("The first moment that is not counted."),
    group_by: z.enum(TOTAL_GROUPINGS),
    total: z.object(sums).describe("Over all groups, whatever the page."),
    data: z.array(group).describe("Dearest first."),
    next_cursor: z
      .string()
      .nullable()
      .describe(
        "Send it as `cursor` for the next page, with the same `from` and `to`; null at the end. What is used while you read may move groups; with a `to` that has passed nothing moves.",
      ),
  })
  .meta({
    id: "UsageTotals",
    example: {
      from: "2026-11-01T00:00:00.000Z",
      to: "2026-11-24T00:00:00.000Z",
      group_by: "key",
      total: { cost_usd: 12.5, requests: 3_100, input_tokens: 812_000, output_tokens: 240_000 },
      data: [
        {
          group: "bk_Example00001",
          name: "billing service",
          cost_usd: 12.5,
          requests: 3_100,
          input_tokens: 812_000,
          output_tokens: 240_000,
        },
      ],
      next_cursor: null,
    },
  });

const timeseriesAnswer = timeseries.meta({
  id: "AdminUsageTimeseries",
  example: {
    interval: "day",
    group_by: "none",
    from: "2026-11-22T00:00:00.000Z",
    to: "2026-11-23T00:00:00.000Z",
    points: [
      {
        start: "2026-11-22T00:00:00.000Z",
        cost_usd: 0.42,
        requests: 300,
        input_tokens: 60_000,
        output_tokens: 21_200,
      },
    ],
  },
});

const requestsAnswer = z
  .object({
    requests: z.array(requestAnswer.extend({ key_id: z.string() })).describe("Newest first."),
    next_cursor: z
      .string()
      .nullable()
      .describe(
        "As that of `/usage/me/requests`: with a filter a page may be short or empty and still have a next one.",
      ),
  })
  .meta({
    id: "AdminUsageRequests",
    example: { requests: [{ ...exampleRequest, key_id: "bk_Example00001" }], next_cursor: null },
  });

/** What all keys used, for who answers for the bill. */
export function registerAdminUsageRoutes(app: App, options: { database: Database; clock: Clock }): void {
  const { database, clock } = options;
  const common = { tags: ["Administration"], security: [{ adminToken: [] }] };
  const always = { ...adminRefusals, 400: refusals[400], 503: refusals[503] };

  app.get(
    "/admin/usage",
    {
      config: { admin: true },
      schema: {
        operationId: "getUsage",
        summary: "What all keys used",
        description:
          "Cost, requests and tokens in all, and by key, provider, model or day, dearest first; from the hourly sums.",
        ...common,
        querystring: z.strictObject({
          ...ofKey,
          from: moment.optional().describe("Rounded down to the hour (UTC). Without it, 30 days before the end."),
          to: moment.optional().describe("Itself not counted, rounded up to the hour. Without it, up to now."),
          group_by: z.enum(TOTAL_GROUPINGS).default("key"),
          limit: z.coerce.number().int().min(1).max(200).default(50).describe("Groups on a page."),
          cursor: z.string().min(1).max(1_000).optional().describe("The `next_cursor` of the page before."),
        }),
        response: { 200: totalsAnswer.describe("The sums."), ...always },
      },
    },
    async ({ query }): Promise<z.infer<typeof totalsAnswer>> => {
      const { from, to, group_by: groupBy, limit, cursor } = query;
      const choice = chooseTotalBounds({ fromMs: momentOf(from), toMs: momentOf(to) }, clock.now());
      if (choice.kind === "refused") throw new BrikkError("invalid_request", `${choice.reason}.`, { param: "from" });
      const scope = scopeOf(query.key_id);
      const { total, groups, next } = await readUsageTotals(database, {
        ...choice.bounds,
        scope,
        groupBy,
        limit,
        after: totalCursor.read(cursor),
      });
      return {
        from: isoTime(choice.bounds.fromMs),
        to: isoTime(choice.bounds.toMs),
        group_by: groupBy,
        total: shownTotal(total),
        data: groups.map((one) => shownGroup(one, groupBy)),
        next_cursor: totalCursor.write(next),
      };
    },
  );

  app.get(
    "/admin/usage/timeseries",
    {
      config: { admin: true },
      schema: {
        operationId: "getUsageTimeseries",
        summary: "What all keys used over time",
        description: "Cost, requests and tokens by hour or day, of all keys or of one. Hours and days are UTC.",
        ...common,
        querystring: timeseriesQuery.extend(ofKey),
        response: { 200: timeseriesAnswer.describe("The series."), ...always },
      },
    },
    ({ query }): Promise<z.infer<typeof timeseriesAnswer>> =>
      answerTimeseries({ database, clock }, scopeOf(query.key_id), query),
  );

  app.get(
    "/admin/usage/requests",
    {
      config: { admin: true },
      schema: {
        operationId: "listRequests",
        summary: "All keys' requests",
        description:
          "Newest first, a page at a time, of all keys or of one. Requests that come in while you read are on no later page.",
        ...common,
        querystring: requestsQuery.extend(ofKey),
        response: { 200: requestsAnswer.describe("A page of requests."), ...always },
      },
    },
    async ({ query }): Promise<z.infer<typeof requestsAnswer>> => {
      const { events, nextCursor } = await readRequestsPage(database, scopeOf(query.key_id), query);
      return {
        requests: events.map((event) => ({ ...shownRequest(event), key_id: event.key_id })),
        next_cursor: nextCursor,
      };
    },
  );
}

const totalCursor = cursorOver<TotalPosition>(
  /^(\d{1,18})\.(.*)$/s,
  ({ cost, group: text }) => [cost, text],
  (cost, text) => ({ cost: nanoUsd(BigInt(cost)), group: text }),
);

const scopeOf = (id: string | undefined): UsageScope => (id === undefined ? "all-keys" : { keyId: id });

const shownTotal = (total: UsageTotal) => ({
  cost_usd: usdNumber(total.cost),
  requests: total.requests,
  input_tokens: total.inputTokens,
  output_tokens: total.outputTokens,
});

const shownGroup = (one: GroupTotal, groupBy: TotalGrouping): z.infer<typeof group> => ({
  group: groupBy === "day" ? isoTime(Number(one.group)).slice(0, 10) : one.group === "" ? null : one.group,
  ...(groupBy === "key" && { name: one.keyName ?? null }),
  ...shownTotal(one),
});
