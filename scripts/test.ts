import { join } from "node:path";
import { parseArgs } from "node:util";
import { findPostgresPrograms } from "../server/test/harness/postgres-binaries.ts";
import { launchPostgres } from "../server/test/harness/postgres-server.ts";
import { listFiles, repositoryRoot } from "./checks/repository.ts";
import { runChecks, type Tally } from "./checks/run-checks.ts";
import { gateCoverage } from "./tests/coverage.ts";
import { runTests } from "./tests/run-tests.ts";

/**
 * The whole proof: static checks, every test, coverage gates. With --no-checks the tests alone; with files, those files alone.
 * --no-soaks leaves out *.soak.test.ts: minutes of bad days, which say little about the Node they run on.
 * BRIKK_NO_SKIP=1 (set where everything a test may need is there) makes a skipped test a failure.
 */
const { values, positionals } = parseArgs({
  options: { "no-checks": { type: "boolean", default: false }, "no-soaks": { type: "boolean", default: false } },
  allowPositionals: true,
});
const SLOWEST_SHOWN = 12;
const whole = positionals.length === 0;
const gated = whole && !values["no-checks"];
const isSoak = (file: string): boolean => file.endsWith(".soak.test.ts");
const files = whole
  ? listFiles("server/test/**/*.test.ts", "simulator/test/**/*.test.ts").filter(
      (file) => !(values["no-soaks"] && isSoak(file)),
    )
  : positionals;
const lcovPath = join(repositoryRoot, "coverage", "lcov.info");

const tallies: Tally[] = [];
if (gated) tallies.push(await runChecks());
console.log(`\n${files.length} test files on Node ${process.versions.node}`);
// One server for all files; each test makes a database of its own on it.
const postgres =
  process.env["BRIKK_TEST_POSTGRES"] === undefined && findPostgresPrograms() !== undefined
    ? await launchPostgres()
    : undefined;
if (postgres !== undefined) process.env["BRIKK_TEST_POSTGRES"] = postgres.url;
const tests = await runTests(files, gated ? lcovPath : undefined);
await postgres?.close();
tallies.push(tests);
if (gated) tallies.push(gateCoverage(lcovPath));

if (whole)
  console.log(
    `\nThe slowest files: ${tests.durations
      .slice(0, SLOWEST_SHOWN)
      .map(({ file, seconds }) => `${file} ${seconds} s`)
      .join(", ")}`,
  );
const skipsFail = process.env["BRIKK_NO_SKIP"] === "1";
if (tests.skipped.length > 0)
  console.log(`\n${tests.skipped.length} did not run${skipsFail ? ", which counts as failed" : ""}:`);
// What is missing on a machine may concern many tests and is said once.
for (const [reason, group] of Map.groupBy(tests.skipped, (test) => test.reason))
  console.log(`  ${group.length === 1 ? group[0]?.name : `${group.length} tests`}: ${reason}`);
if (skipsFail) tallies.push({ passed: 0, failed: tests.skipped.length });
if (tests.passed + tests.failed === 0) {
  console.log("\nNo test ran, which counts as failed.");
  tallies.push({ passed: 0, failed: 1 });
}

const passed = tallies.reduce((sum, tally) => sum + tally.passed, 0);
const failed = tallies.reduce((sum, tally) => sum + tally.failed, 0);
console.log(`\n${passed} passed, ${failed} failed`);
process.exit(failed === 0 ? 0 : 1);
