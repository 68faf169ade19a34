import {
  chooseTotalBounds,
  type GroupTotal,
  readUsageTotals,
  TOTAL_GROUPINGS,
  type TotalGrouping,
  type UsageTotal,
} from "../ledger/usage-totals.ts";
import type { UsageScope } from "../ledger/usage-scope.ts";
import { usdNumber } from "../lib/money.ts";
import { countOption, parseArguments, printable, publicKeyId, timeOption } from "./arguments.ts";
import type { Command } from "./command.ts";
import { isoTime, json, usd } from "./key-view.ts";
import { tableOf } from "./table.ts";
import { UsageError } from "./usage-error.ts";

const MOST_GROUPS = 1_000;

export const usageSummaryHelp = `Shows what was used in all and by whom, dearest first, from the hourly sums.

  npm run -s brikk -- usage summary [options]

  --from TIME      the first hour: 2026-11-01, or 2026-11-01T09:00:00Z; without it,
                   30 days before the end
  --to TIME        the first moment that is left out; without it, up to now
  --by WHAT        key (as without it), provider, model or day
  --key KEY_ID     only what this key used
  --limit N        the first N; without it, 50
  --json           print JSON

Times are UTC.
`;

/** Reads the arguments after `usage summary`. Throws UsageError. */
export function parseUsageSummary(args: readonly string[]): Command {
  const { values, positionals } = parseArguments(args, {
    from: { type: "string" },
    to: { type: "string" },
    by: { type: "string" },
    key: { type: "string" },
    limit: { type: "string" },
    json: { type: "boolean" },
  });
  if (positionals[0] !== undefined)
    throw new UsageError(
      `"${printable(positionals[0])}" is not understood; say what is wanted with options, see --help.`,
    );
  const fromMs = values.from === undefined ? undefined : timeOption("from", values.from);
  const toMs = values.to === undefined ? undefined : timeOption("to", values.to);
  const groupBy = groupingOption(values.by);
  const scope: UsageScope = values.key === undefined ? "all-keys" : { keyId: publicKeyId(values.key) };
  const limit = countOption("limit", values.limit, MOST_GROUPS, "50") ?? 50;

  return async ({ database, clock }) => {
    const choice = chooseTotalBounds({ fromMs, toMs }, clock.now());
    if (choice.kind === "refused") throw new UsageError(`--from and --to: ${choice.reason}.`);
    const { bounds } = choice;
    const { total, groups, next } = await readUsageTotals(database, {
      ...bounds,
      scope,
      groupBy,
      limit,
      after: undefined,
    });
    if (values.json === true)
      return {
        text: json({
          from: isoTime(bounds.fromMs),
          to: isoTime(bounds.toMs),
          group_by: groupBy,
          total: sumsOf(total),
          data: groups.map((group) => ({
            group: labelOf(group, groupBy),
            ...(groupBy === "key" && { name: group.keyName ?? null }),
            ...sumsOf(group),
          })),
          complete: next === undefined,
        }),
      };
    const head = `From ${isoTime(bounds.fromMs)} to before ${isoTime(bounds.toMs)} (UTC): ${usd(total.cost)} for ${total.requests} requests.\n`;
    if (groups.length === 0) return { text: head };
    const rows = groups.map((group) => [
      labelOf(group, groupBy) ?? "-",
      ...(groupBy === "key" ? [printable(group.keyName ?? "-").slice(0, 32)] : []),
      usd(group.cost),
      String(group.requests),
      String(group.inputTokens),
      String(group.outputTokens),
    ]);
    const titles = [
      groupBy.toUpperCase(),
      ...(groupBy === "key" ? ["NAME"] : []),
      "COST",
      "REQUESTS",
      "TOKENS IN",
      "OUT",
    ];
    return {
      text: `${head}\n${tableOf([titles, ...rows])}`,
      ...(next !== undefined && { note: `There are more; --limit shows up to ${MOST_GROUPS}.` }),
    };
  };
}

function groupingOption(text: string | undefined): TotalGrouping {
  const grouping = TOTAL_GROUPINGS.find((one) => one === (text ?? "key"));
  if (grouping !== undefined) return grouping;
  throw new UsageError(`--by is "${printable(text ?? "")}"; give key, provider, model or day.`);
}

const labelOf = ({ group }: GroupTotal, groupBy: TotalGrouping): string | null =>
  groupBy === "day" ? isoTime(Number(group)).slice(0, 10) : group === "" ? null : printable(group);

const sumsOf = (total: UsageTotal) => ({
  cost_usd: usdNumber(total.cost),
  requests: total.requests,
  input_tokens: total.inputTokens,
  output_tokens: total.outputTokens,
});
