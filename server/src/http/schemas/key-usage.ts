import { z } from "zod";
import { budget, exampleBudget } from "./budget.ts";

export const usageSum = z.object({ cost_usd: z.number(), requests: z.int(), tokens: z.int() });

export const usageAnswer = z
  .object({
    api_key_id: z.string(),
    today: usageSum,
    this_week: usageSum,
    this_month: usageSum,
    soft_cap_usd: z.number().nullable().describe("Of the shortest window that has a hard cap; `budgets` has all."),
    hard_cap_usd: z.number().nullable(),
    soft_cap_exceeded: z.boolean(),
    hard_cap_exceeded: z.boolean(),
    resets_at: z.string().describe("When that window's budget begins anew (UTC)."),
    budgets: z.array(budget).describe("Day, week and month; every one that has a cap applies."),
  })
  .meta({
    id: "Usage",
    example: {
      api_key_id: "bk_Example00001",
      today: { cost_usd: 0.00042, requests: 3, tokens: 812 },
      this_week: { cost_usd: 0.45, requests: 310, tokens: 81_200 },
      this_month: { cost_usd: 1.2, requests: 900, tokens: 240_000 },
      soft_cap_usd: 5,
      hard_cap_usd: 10,
      soft_cap_exceeded: false,
      hard_cap_exceeded: false,
      resets_at: "2026-11-24T00:00:00.000Z",
      budgets: [exampleBudget],
    },
  });
