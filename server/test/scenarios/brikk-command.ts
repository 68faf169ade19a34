import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { join } from "node:path";
import { PassThrough, Readable } from "node:stream";
import type { TestContext } from "node:test";
import { fileURLToPath } from "node:url";
import { runCli } from "../../src/cli.ts";
import { loadConfig } from "../../src/config.ts";
import { scratchFolder, sourceUrl } from "../storage/scratch.ts";

export interface Ran {
  readonly code: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

type Run = (stdin: string, environment: Readonly<Record<string, string>>, args: readonly string[]) => Promise<Ran>;

/** The command line as a process of its own, on a database of the test's own and no other setting. */
export const brikkOnScratch = (t: TestContext) => commandsBy(inProcessOfItsOwn, t);

/** The same without a process for each command, for what it says and does rather than how it ends. */
export const brikkInProcess = (t: TestContext) => commandsBy(runHere, t);

function commandsBy(run: Run, t: TestContext) {
  const path = join(scratchFolder(t), "data", "brikk.db");
  const url = `sqlite:${path}`;
  const brikkFed = (stdin: string, environment: Record<string, string>, ...args: string[]): Promise<Ran> =>
    run(stdin, { DATABASE_URL: url, ...environment }, args);
  const brikkWith = (environment: Record<string, string>, ...args: string[]): Promise<Ran> =>
    brikkFed("", environment, ...args);
  const brikk = (...args: string[]): Promise<Ran> => brikkWith({}, ...args);
  return { path, url, brikk, brikkWith, brikkFed };
}

const inProcessOfItsOwn: Run = (stdin, environment, args) =>
  new Promise((resolve, reject) => {
    const child = spawn(process.execPath, [fileURLToPath(sourceUrl("cli.ts")), ...args], {
      env: {
        PATH: process.env["PATH"],
        ...environment,
        NODE_V8_COVERAGE: process.env["NODE_V8_COVERAGE"] ?? "",
      },
    });
    child.stdin.end(stdin);
    let stdout = "";
    let stderr = "";
    child.stdout.setEncoding("utf8").on("data", (text: string) => (stdout += text));
    child.stderr.setEncoding("utf8").on("data", (text: string) => (stderr += text));
    child.on("error", reject).on("close", (code) => resolve({ code, stdout, stderr }));
  });

/** What it answers before it opens anything can be asked for without a database. */
export const runHere: Run = async (stdin, environment, args) => {
  let stdout = "";
  let stderr = "";
  const code = await runCli(
    args,
    {
      stdin: Readable.from([stdin]),
      stdout: new PassThrough().setEncoding("utf8").on("data", (text: string) => (stdout += text)),
      stderr: new PassThrough().setEncoding("utf8").on("data", (text: string) => (stderr += text)),
    },
    () => loadConfig(environment),
  );
  // What was written last is read in the turns after.
  await new Promise((resolve) => setImmediate(resolve));
  return { code, stdout, stderr };
};

/** Standard output of a command that went well, as JSON. */
export async function printed<T>(running: Promise<Ran>): Promise<T> {
  const { code, stdout, stderr } = await running;
  assert.equal(code, 0, stderr);
  assert.equal(stderr, "");
  return JSON.parse(stdout) as T;
}
