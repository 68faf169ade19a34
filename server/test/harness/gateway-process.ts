import { type ChildProcess, spawn } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { TestContext } from "node:test";
import { fileURLToPath } from "node:url";
import type { Simulator } from "@brikk/simulator";

/** The gateway as its users run it: a process of its own, which may be killed. */
export interface GatewayProcess {
  /** http://127.0.0.1:PORT */
  readonly url: string;
  /** How it ended: the signal that killed it, or its exit code. */
  readonly ended: Promise<NodeJS.Signals | number | null>;
  /** What it wrote to its standard output and standard error, its log included. */
  said(): string;
  /** Sends the signal to a process that goes on. */
  signal(signal: NodeJS.Signals): void;
  /** Sends the signal; resolves when the process has ended. */
  kill(signal: NodeJS.Signals): Promise<NodeJS.Signals | number | null>;
}

export interface GatewayProcessOptions {
  readonly databaseUrl: string;
  /** Runs in the test's process and serves as both vendors, so that its count outlives the gateway. */
  readonly simulator: Simulator;
  /** Settings on top of: a free port, no log, no rate limit to speak of. */
  readonly environment?: Readonly<Record<string, string>>;
  /** A module that is loaded into the process before anything else. */
  readonly preload?: URL;
}

/** Half of a start is reading the source; whoever ends politely leaves it read for those who start next. */
const compileCache = mkdtempSync(join(tmpdir(), "brikk-compiled-"));
process.on("exit", () => rmSync(compileCache, { recursive: true, force: true }));

const MAIN = fileURLToPath(new URL("../../src/main.ts", import.meta.url));

/** Starts a gateway that ends with the test. Resolves when it serves; rejects with what it said when it ends before. */
export async function startGatewayProcess(t: TestContext, options: GatewayProcessOptions): Promise<GatewayProcess> {
  const { databaseUrl, simulator, environment, preload } = options;
  const child: ChildProcess = spawn(process.execPath, [...(preload ? ["--import", preload.href] : []), MAIN], {
    env: {
      PATH: process.env["PATH"],
      NODE_COMPILE_CACHE: compileCache,
      PORT: "0",
      DATABASE_URL: databaseUrl,
      LOG_LEVEL: "silent",
      OPENAI_API_KEY: "sk-test",
      OPENAI_BASE_URL: simulator.openaiBaseUrl,
      MISTRAL_API_KEY: "test",
      MISTRAL_BASE_URL: simulator.mistralBaseUrl,
      BRIKK_RATE_LIMIT_PER_MIN: "1000000",
      ...environment,
    },
    stdio: ["ignore", "pipe", "pipe"],
  });
  t.after(() => void child.kill("SIGKILL"));
  let said = "";
  const ended = new Promise<NodeJS.Signals | number | null>((resolve) =>
    child.on("close", (code, signal) => resolve(signal ?? code)),
  );
  const url = await new Promise<string>((resolve, reject) => {
    for (const stream of [child.stdout, child.stderr])
      stream?.setEncoding("utf8").on("data", (text: string) => {
        said += text;
        const found = /Brikk \S+\s+(http:\/\/\S+)/.exec(said)?.[1];
        if (found !== undefined) resolve(found);
      });
    void ended.then((how) => reject(new Error(`The gateway ended with ${how}: ${said}`)));
  });
  return {
    url,
    ended,
    said: () => said,
    signal: (signal) => void child.kill(signal),
    kill: (signal) => {
      child.kill(signal);
      return ended;
    },
  };
}
