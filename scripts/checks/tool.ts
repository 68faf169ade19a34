import { spawn } from "node:child_process";
import { join } from "node:path";
import { repositoryRoot } from "./repository.ts";

export interface ToolOutcome {
  readonly exitCode: number | null;
  readonly stdout: string;
  /** Both streams in the order in which they came. */
  readonly output: string;
}

/** Runs a tool of node_modules on this very runtime, so that a check never depends on what is on the PATH. */
export function runTool(script: string, args: readonly string[]): Promise<ToolOutcome> {
  return new Promise((resolve, reject) => {
    const child = spawn(process.execPath, [join(repositoryRoot, "node_modules", script), ...args], {
      cwd: repositoryRoot,
      stdio: ["ignore", "pipe", "pipe"],
      env: { ...process.env, NO_COLOR: "1", REDOCLY_TELEMETRY: "off", REDOCLY_SUPPRESS_UPDATE_NOTICE: "true" },
    });
    let stdout = "";
    let output = "";
    child.stdout.setEncoding("utf8").on("data", (text: string) => {
      stdout += text;
      output += text;
    });
    child.stderr.setEncoding("utf8").on("data", (text: string) => {
      output += text;
    });
    child.on("error", reject);
    child.on("close", (exitCode) => resolve({ exitCode, stdout, output }));
  });
}

/** A check whose verdict is a tool's exit code and whose fault is what the tool printed. */
export const toolCheck = (name: string, script: string, args: readonly string[]) => ({
  name,
  findFaults: async (): Promise<readonly string[]> => {
    const { exitCode, output } = await runTool(script, args);
    return exitCode === 0 ? [] : [output.trim() || `${name} ended with ${exitCode} and said nothing.`];
  },
});
