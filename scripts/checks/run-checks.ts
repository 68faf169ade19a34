import type { Check } from "./check.ts";
import { environmentReads } from "./environment-reads.ts";
import { generatedFilesCurrent } from "./generated-files.ts";
import { importDirection } from "./import-direction.ts";
import { promises } from "./promises.ts";
import { securityPage } from "./security-page.ts";
import { toolCheck } from "./tool.ts";
import { vendorNames } from "./vendor-names.ts";

const checks: readonly Check[] = [
  toolCheck("types (tsc)", "typescript7/bin/tsc", ["-p", "."]),
  toolCheck("lint (oxlint)", "oxlint/bin/oxlint", ["--format=unix"]),
  toolCheck("format (oxfmt)", "oxfmt/bin/oxfmt", ["--check"]),
  importDirection,
  toolCheck("nothing unused (knip)", "knip/bin/knip.js", ["--no-progress"]),
  environmentReads,
  vendorNames,
  ...generatedFilesCurrent,
  toolCheck("API document (redocly)", "@redocly/cli/bin/cli.js", [
    "lint",
    "openapi/openapi.json",
    "--config=redocly.yaml",
  ]),
  promises,
  securityPage,
];

export interface Tally {
  readonly passed: number;
  readonly failed: number;
}

/** Runs every check, also after one failed, and prints a line for each with what a failing one found. */
export async function runChecks(): Promise<Tally> {
  let failed = 0;
  for (const check of checks) {
    const startedAtMs = performance.now();
    const faults = await check
      .findFaults()
      .catch((error: unknown) => [error instanceof Error ? (error.stack ?? error.message) : String(error)]);
    const seconds = ((performance.now() - startedAtMs) / 1_000).toFixed(1);
    console.log(`${faults.length === 0 ? "ok    " : "FAILED"} ${check.name.padEnd(36)} ${seconds.padStart(5)} s`);
    for (const fault of faults) console.log(fault.replace(/^/gm, "    "));
    if (faults.length > 0) failed += 1;
  }
  return { passed: checks.length - failed, failed };
}
