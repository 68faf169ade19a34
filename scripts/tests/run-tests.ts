import { createWriteStream, mkdirSync } from "node:fs";
import { dirname, join, relative, resolve } from "node:path";
import { finished } from "node:stream/promises";
import { run } from "node:test";
import { lcov, spec } from "node:test/reporters";
import { fileURLToPath } from "node:url";
import { repositoryRoot } from "../checks/repository.ts";
import type { Tally } from "../checks/run-checks.ts";

/** A test that takes longer hangs. */
const TEST_TIMEOUT_MS = 240_000;

interface TestOutcome extends Tally {
  readonly skipped: readonly SkippedTest[];
  /** Slowest first. */
  readonly durations: readonly { readonly file: string; readonly seconds: number }[];
}

interface SkippedTest {
  readonly name: string;
  readonly reason: string;
}

/** Runs test files on Node's own runner, each in a process of its own, and with `lcovPath` measures coverage on the way. */
export async function runTests(files: readonly string[], lcovPath?: string): Promise<TestOutcome> {
  const events = run({
    files: files.map((file) => resolve(repositoryRoot, file)),
    cwd: repositoryRoot,
    isolation: "process",
    concurrency: 2,
    timeout: TEST_TIMEOUT_MS,
    execArgv: ["--import", join(dirname(fileURLToPath(import.meta.url)), "leak-guard.ts")],
    ...(lcovPath !== undefined && {
      coverage: true,
      coverageIncludeGlobs: ["server/src/**/*.ts", "simulator/src/**/*.ts"],
    }),
  });
  let outcome: TestOutcome | undefined;
  const skipped: SkippedTest[] = [];
  const durations: { file: string; seconds: number }[] = [];
  events.on("test:pass", ({ name, file, skip, todo }) => {
    const reason = skip ?? todo;
    if (reason !== undefined)
      skipped.push({
        name: `${file ?? ""} "${name}"`,
        reason: typeof reason === "string" ? reason : "no reason given",
      });
  });
  // The last summary, the one without a file, is that of the whole run.
  events.on("test:summary", ({ file, counts, duration_ms: ms }) => {
    if (file !== undefined) durations.push({ file: relative(repositoryRoot, file), seconds: Math.round(ms / 1_000) });
    else
      outcome = {
        passed: counts.passed,
        failed: counts.tests - counts.passed - counts.skipped - counts.todo,
        skipped,
        durations: durations.sort((a, b) => b.seconds - a.seconds),
      };
  });

  const written: Promise<void>[] = [];
  if (lcovPath !== undefined) {
    mkdirSync(dirname(lcovPath), { recursive: true });
    written.push(finished(events.compose(lcov).pipe(createWriteStream(lcovPath))));
  }
  // The table of every file's coverage is in the report; on the screen it would bury the failures.
  const shown = events.compose(async function* (source: AsyncIterable<{ type: string }>) {
    for await (const event of source) if (event.type !== "test:coverage") yield event;
  });
  const screen = shown.compose(spec);
  screen.pipe(process.stdout, { end: false });
  written.push(finished(screen));
  await Promise.all(written);
  return outcome ?? { passed: 0, failed: 1, skipped, durations };
}
