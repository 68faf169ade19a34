import type { Candidate } from "../completion/model-router.ts";
import type { Standing } from "../ledger/ledger.ts";
import { formatUsd } from "../lib/money.ts";

/** Where the key stands today, as of the last settlement. */
export const standingHeaders = (standing: Standing): Record<string, string> => ({
  "x-brikk-usage-today": formatUsd(standing.spent),
  "x-brikk-soft-cap": formatUsd(standing.softCap),
  "x-brikk-hard-cap": formatUsd(standing.hardCap),
  "x-brikk-soft-cap-exceeded": String(standing.softCapExceeded),
  "x-brikk-hard-cap-exceeded": String(standing.hardCapExceeded),
});

/** Who served. */
export const servedHeaders = (served: { candidate: Candidate; fallback: boolean }): Record<string, string> => ({
  "x-brikk-provider": served.candidate.model.provider,
  "x-brikk-model": headerText(served.candidate.model.id),
  "x-brikk-fallback": String(served.fallback),
  "x-brikk-simulated": String(served.candidate.connected.provider.simulated),
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
