import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { join } from "node:path";
import type { TestContext } from "node:test";
import { fileURLToPath } from "node:url";
import { scratchFolder, sourceUrl } from "../storage/scratch.ts";

export interface Ran {
  readonly code: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

/** The command line as a process of its own, on a database of the test's own and no other setting. */
export function brikkOnScratch(t: TestContext) {
  const path = join(scratchFolder(t), "data", "brikk.db");
  const url = `sqlite:${path}`;
  const brikkFed = (stdin: string, environment: Record<string, string>, ...args: string[]): Promise<Ran> =>
    new Promise((resolve, reject) => {
      const child = spawn(process.execPath, [fileURLToPath(sourceUrl("cli.ts")), ...args], {
        env: {
          PATH: process.env["PATH"],
          DATABASE_URL: url,
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
  const brikkWith = (environment: Record<string, string>, ...args: string[]): Promise<Ran> =>
    brikkFed("", environment, ...args);
  const brikk = (...args: string[]): Promise<Ran> => brikkWith({}, ...args);
  return { path, url, brikk, brikkWith, brikkFed };
}

/** Standard output of a command that went well, as JSON. */
export async function printed<T>(running: Promise<Ran>): Promise<T> {
  const { code, stdout, stderr } = await running;
  assert.equal(code, 0, stderr);
  assert.equal(stderr, "");
  return JSON.parse(stdout) as T;
}
