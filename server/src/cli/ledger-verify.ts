import {
  type LedgerFault,
  type LedgerFigure,
  type LedgerRule,
  type LedgerVerification,
  verifyLedger,
} from "../ledger/verify-ledger.ts";
import { formatUsd, nanoUsd } from "../lib/money.ts";
import { parseArguments } from "./arguments.ts";
import type { Command } from "./command.ts";
import { isoTime, json } from "./key-view.ts";
import { UsageError } from "./usage-error.ts";

export const ledgerVerifyHelp = `Proves the ledger from its own rows, in one snapshot, while the server runs.

  npm run -s brikk -- ledger verify [--json]

  window-spent   what a budget has spent is its hours' cost plus write-offs
  window-leases  what it has leased out and written off is what its leases say
  window-cap     spent + leased never exceeds the hard cap it was leased under
  hour           every hour's sums are its events', and every event is in one
  lease-owner    whoever holds a lease is a known process

Exit code 0: all of it holds. 1: it does not, and the faulty rows are named,
at most 20 for each rule.
`;

/** Reads the arguments after `ledger verify`. Throws UsageError. */
export function parseLedgerVerify(args: readonly string[]): Command {
  const { values, positionals } = parseArguments(args, { json: { type: "boolean" } });
  if (positionals[0] !== undefined)
    throw new UsageError(`"${positionals[0]}" is not understood; ledger verify takes only --json.`);
  return async ({ database }) => {
    const verification = await verifyLedger(database);
    return {
      text: values.json === true ? json(fieldsOf(verification)) : summaryOf(verification),
      exitCode: verification.faultCount === 0 ? 0 : 1,
    };
  };
}

function summaryOf({ checked, faults, faultCount }: LedgerVerification): string {
  const { windows, leases, hours, events, cost, writtenOff, eventsFromMs } = checked;
  const lines = [
    faultCount === 0 ? "The ledger holds." : `The ledger does not hold: ${counted(faultCount, "faulty row")}.`,
    "",
    `  Budget windows  ${windows}, with ${counted(leases, "lease")}`,
    `  Hourly sums     ${hours}`,
    `  Usage events    ${events}${eventsFromMs === undefined ? "" : `, from ${isoTime(eventsFromMs)} on; older ones were deleted as set`}`,
    `  Cost            ${formatUsd(cost)} USD`,
    `  Written off     ${formatUsd(writtenOff)} USD`,
    ...(faults.length === 0 ? [] : ["", ...faults.map((fault) => `  ${sentenceOf(fault)}`)]),
    ...(faultCount > faults.length ? [`  ... and ${counted(faultCount - faults.length, "more faulty row")}`] : []),
  ];
  return `${lines.join("\n")}\n`;
}

const counted = (count: number, noun: string): string => `${count} ${noun}${count === 1 ? "" : "s"}`;

const RIGHT: Readonly<Record<LedgerRule, string>> = {
  "window-spent": "its hours and write-offs give",
  "window-leases": "its leases give",
  "window-cap": "its bound is",
  hour: "its events give",
  "lease-owner": "an unknown owner may hold",
};

function sentenceOf({ rule, row, figures }: LedgerFault): string {
  const key = Object.entries(row).map(([column, value]) =>
    column.endsWith("_ms")
      ? `${column.replace(/_ms$/, "")} ${isoTime(Number(value))}`
      : `${column} ${value === "" ? "-" : value}`,
  );
  const wrong = figures.map(
    (figure) =>
      `${figure.name.replace(/_nano_usd$/, "")} is ${shown(figure, figure.found)}, ${RIGHT[rule]} ${shown(figure, figure.expected)}`,
  );
  return `${rule}: ${key.join(", ")}: ${wrong.join("; ")}`;
}

const isAmount = ({ name }: LedgerFigure): boolean => name.endsWith("_nano_usd");

const shown = (figure: LedgerFigure, value: bigint): string =>
  isAmount(figure) ? `${formatUsd(nanoUsd(value))} USD` : String(value);

/** Amounts as exact decimals, because a nano-USD too little is what this is about. */
const fieldsOf = ({ checked, faults, faultCount }: LedgerVerification): Record<string, unknown> => ({
  ok: faultCount === 0,
  windows: checked.windows,
  leases: checked.leases,
  hours: checked.hours,
  events: checked.events,
  events_from: checked.eventsFromMs === undefined ? null : isoTime(checked.eventsFromMs),
  cost_usd: formatUsd(checked.cost),
  written_off_usd: formatUsd(checked.writtenOff),
  faulty_rows: faultCount,
  faults: faults.map(({ rule, row, figures }) => ({
    rule,
    row,
    figures: figures.map((figure) => ({
      name: figure.name.replace(/_nano_usd$/, "_usd"),
      found: figureValue(figure, figure.found),
      [figure.atMost ? "at_most" : "expected"]: figureValue(figure, figure.expected),
    })),
  })),
});

const figureValue = (figure: LedgerFigure, value: bigint): string | number =>
  isAmount(figure) ? formatUsd(nanoUsd(value)) : Number(value);
