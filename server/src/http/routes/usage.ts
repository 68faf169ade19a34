import { z } from "zod";
import type { Clock } from "../../lib/clock.ts";
import type { Database } from "../../storage/database.ts";
import type { App } from "../app-type.ts";
import { refusals } from "../schemas/error.ts";
import {
  exampleRequest,
  requestAnswer,
  requestsQuery,
  shownRequest,
  timeseries,
  timeseriesQuery,
} from "../schemas/usage.ts";
import { answerTimeseries, readRequestsPage } from "../usage-answers.ts";

const timeseriesAnswer = z
  .object({ api_key_id: z.string() })
  .extend(timeseries.shape)
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
      requests: [exampleRequest],
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
      const series = await answerTimeseries({ database, clock }, { keyId: key.id }, query);
      return { api_key_id: key.id, ...series };
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
      const { events, nextCursor } = await readRequestsPage(database, { keyId: key.id }, query);
      return { requests: events.map(shownRequest), next_cursor: nextCursor };
    },
  );
}
