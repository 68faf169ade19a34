import type { Candidate, Route } from "../completion/model-router.ts";
import type { BudgetStanding, Standing } from "../ledger/budget-standing.ts";
import { formatUsd } from "../lib/money.ts";

/** Where the key stands, as of the last settlement: what is spent today, the caps of the shortest window that has a hard one. */
export function standingHeaders({ budgets }: Standing): Record<string, string> {
  const headers: Record<string, string> = { "x-brikk-usage-today": formatUsd(budgets[0]!.spent) };
  const { softCap, hardCap } = leadingBudget({ budgets });
  if (softCap !== undefined) headers["x-brikk-soft-cap"] = formatUsd(softCap);
  if (hardCap !== undefined) headers["x-brikk-hard-cap"] = formatUsd(hardCap);
  headers["x-brikk-soft-cap-exceeded"] = String(budgets.some(({ softCapExceeded }) => softCapExceeded));
  headers["x-brikk-hard-cap-exceeded"] = String(budgets.some(({ hardCapExceeded }) => hardCapExceeded));
  return headers;
}

/** Where the key stands when a request did not fit under its hard cap, of which a rest that pays for nothing may be left. */
export const refusedHeaders = (standing: Standing): Record<string, string> => ({
  ...standingHeaders(standing),
  "x-brikk-hard-cap-exceeded": "true",
});

/** The budget of the shortest window with a hard cap; every key has one. */
export const leadingBudget = ({ budgets }: Standing): BudgetStanding =>
  budgets.find(({ hardCap }) => hardCap !== undefined) ?? budgets[0]!;

/** Who served, and why it was asked. */
export const servedHeaders = (served: {
  candidate: Candidate;
  route: Route;
  fallback: boolean;
  clampedMaxTokens: number | undefined;
}): Record<string, string> => ({
  "x-brikk-provider": served.candidate.model.provider,
  "x-brikk-model": headerText(served.candidate.model.id),
  "x-brikk-route": headerText(served.route.reason),
  "x-brikk-fallback": String(served.fallback),
  "x-brikk-simulated": String(served.candidate.connected.provider.simulated),
  ...(served.clampedMaxTokens !== undefined && { "x-brikk-max-tokens-clamped": String(served.clampedMaxTokens) }),
});

/** W3C Server Timing; milliseconds. */
export const timingHeader = (timings: Readonly<Record<string, number | undefined>>): Record<string, string> => ({
  "server-timing": Object.entries(timings)
    .filter(([, ms]) => ms !== undefined)
    .map(([name, ms]) => `${name};dur=${ms!.toFixed(1)}`)
    .join(", "),
});

/** Names from a config file may hold anything; a header may not. */
const headerText = (text: string): string => text.replace(/[^\x20-\x7e]/g, "?");
