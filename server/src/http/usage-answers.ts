import type { z } from "zod";
import type { ApiKey } from "../access/api-key.ts";
import { BrikkError } from "../errors.ts";
import type { Standing } from "../ledger/budget-standing.ts";
import type { EventPosition } from "../ledger/usage-event-row.ts";
import { readUsageRequests, type RequestsPage } from "../ledger/usage-requests.ts";
import type { UsageScope } from "../ledger/usage-scope.ts";
import { readUsageSummary, type UsageSum } from "../ledger/usage-summary.ts";
import { chooseBounds, readUsageTimeseries } from "../ledger/usage-timeseries.ts";
import type { Clock } from "../lib/clock.ts";
import { usdNumber } from "../lib/money.ts";
import type { Database } from "../storage/database.ts";
import { leadingBudget } from "./answer-headers.ts";
import { cursorOver } from "./cursor.ts";
import { leadingCaps, shownBudget } from "./schemas/budget.ts";
import type { usageAnswer, usageSum } from "./schemas/key-usage.ts";
import { isoTime, momentOf, type requestsQuery, shownPoint, type timeseriesQuery } from "./schemas/usage.ts";

interface Sources {
  readonly database: Database;
  readonly clock: Clock;
}

/** A key's usage where it stands, as its caller and its administrator see it. Throws StorageUnavailable. */
export async function answerKeyUsage(
  { database, clock }: Sources,
  key: ApiKey,
  standing: Standing,
): Promise<z.infer<typeof usageAnswer>> {
  const summary = await readUsageSummary(database, clock, { keyId: key.id });
  return {
    api_key_id: key.id,
    today: shownSum(summary.today),
    this_week: shownSum(summary.thisWeek),
    this_month: shownSum(summary.thisMonth),
    ...leadingCaps(standing),
    soft_cap_exceeded: standing.budgets.some(({ softCapExceeded }) => softCapExceeded),
    hard_cap_exceeded: standing.budgets.some(({ hardCapExceeded }) => hardCapExceeded),
    resets_at: isoTime(leadingBudget(standing).resetsAtMs),
    budgets: standing.budgets.map(shownBudget),
  };
}

/** A series as it was asked for. Throws invalid_request, StorageUnavailable. */
export async function answerTimeseries(
  { database, clock }: Sources,
  scope: UsageScope,
  query: Pick<z.infer<typeof timeseriesQuery>, "interval" | "group_by" | "from" | "to">,
) {
  const { interval, group_by: groupBy, from, to } = query;
  const choice = chooseBounds({ fromMs: momentOf(from), toMs: momentOf(to), interval }, clock.now());
  if (choice.kind === "refused") throw refused(choice.param, `${choice.reason}.`);
  const points = await readUsageTimeseries(database, { ...choice.bounds, scope, interval, groupBy });
  return {
    interval,
    group_by: groupBy,
    from: isoTime(choice.bounds.fromMs),
    to: isoTime(choice.bounds.toMs),
    points: points.map(shownPoint),
  };
}

/** A page of requests as it was asked for, and where the next begins. Throws invalid_request, StorageUnavailable. */
export async function readRequestsPage(
  database: Database,
  scope: UsageScope,
  query: z.infer<typeof requestsQuery>,
): Promise<{ readonly events: RequestsPage["events"]; readonly nextCursor: string | null }> {
  const { limit, cursor, from, to, outcome, provider, model } = query;
  const before = eventCursor.read(cursor);
  const fromMs = momentOf(from) ?? 0;
  const toMs = momentOf(to) ?? Number.MAX_SAFE_INTEGER;
  if (fromMs >= toMs) throw refused("from", "from must be before to, which is itself not shown.");
  const filter = { outcome, provider, model };
  const page = await readUsageRequests(database, { scope, fromMs, toMs, before, limit, filter });
  return { events: page.events, nextCursor: eventCursor.write(page.next) };
}

const eventCursor = cursorOver<EventPosition>(
  /^(\d{1,15})\.([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})$/,
  ({ occurredAtMs, eventId }) => [occurredAtMs, eventId],
  (occurredAtMs, eventId) => ({ occurredAtMs: Number(occurredAtMs), eventId }),
);

const refused = (param: string, message: string): BrikkError => new BrikkError("invalid_request", message, { param });

const shownSum = (sum: UsageSum): z.infer<typeof usageSum> => ({
  cost_usd: usdNumber(sum.cost),
  requests: sum.requests,
  tokens: sum.tokens,
});
