import { z } from "zod";
import { BUDGET_WINDOWS } from "../../access/caps.ts";
import type { BudgetStanding, Standing } from "../../ledger/budget-standing.ts";
import { type NanoUsd, usdNumber } from "../../lib/money.ts";
import { leadingBudget } from "../answer-headers.ts";

export const budget = z.object({
  window: z.enum(BUDGET_WINDOWS),
  spent_usd: z
    .number()
    .describe("The cost of the window's requests, and what was written off for an instance that died with it in hand."),
  reserved_usd: z.number().describe("Set aside for requests in flight."),
  soft_cap_usd: z.number().nullable(),
  hard_cap_usd: z.number().nullable(),
  remaining_usd: z.number().nullable().describe("What a request may cost right now; null without a hard cap."),
  soft_cap_exceeded: z.boolean(),
  hard_cap_exceeded: z.boolean(),
  resets_at: z.string(),
});

export const exampleBudget: z.infer<typeof budget> = {
  window: "day",
  spent_usd: 0.00042,
  reserved_usd: 0,
  soft_cap_usd: 5,
  hard_cap_usd: 10,
  remaining_usd: 9.99958,
  soft_cap_exceeded: false,
  hard_cap_exceeded: false,
  resets_at: "2026-11-24T00:00:00.000Z",
};

export const shownBudget = (standing: BudgetStanding): z.infer<typeof budget> => ({
  window: standing.window,
  spent_usd: usdNumber(standing.spent),
  reserved_usd: usdNumber(standing.reserved),
  soft_cap_usd: usdOrNull(standing.softCap),
  hard_cap_usd: usdOrNull(standing.hardCap),
  remaining_usd: usdOrNull(standing.remaining),
  soft_cap_exceeded: standing.softCapExceeded,
  hard_cap_exceeded: standing.hardCapExceeded,
  resets_at: new Date(standing.resetsAtMs).toISOString(),
});

/** The caps that an answer names where it has room for one budget only. */
export function leadingCaps(standing: Standing): { soft_cap_usd: number | null; hard_cap_usd: number | null } {
  const { softCap, hardCap } = leadingBudget(standing);
  return { soft_cap_usd: usdOrNull(softCap), hard_cap_usd: usdOrNull(hardCap) };
}

const usdOrNull = (amount: NanoUsd | undefined): number | null => (amount === undefined ? null : usdNumber(amount));
