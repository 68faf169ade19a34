import { type ChildProcess, execFile, spawn } from "node:child_process";
import { randomBytes } from "node:crypto";
import { once } from "node:events";
import { rm, writeFile } from "node:fs/promises";
import { createServer } from "node:net";
import { join } from "node:path";
import { promisify } from "node:util";
import { installPostgres, type InstalledPostgres } from "./postgres-binaries.ts";

/**
 * A process that keeps one PostgreSQL server for the process that forked it, and outlives that one for as long as it takes to
 * stop the server and remove its files: whichever way the owner ends, the channel to it closes, and that is the sign.
 */
export type KeeperOrder =
  | { readonly kind: "start" }
  /** PostgreSQL's shutdown modes; `kill` is what a power cut is. */
  | { readonly kind: "stop"; readonly mode: "smart" | "fast" | "immediate" | "kill" }
  | { readonly kind: "end" };

export type KeeperReply =
  | { readonly kind: "done"; readonly url: string }
  | { readonly kind: "failed"; readonly message: string };

const SIGNALS = { smart: "SIGTERM", fast: "SIGINT", immediate: "SIGQUIT", kill: "SIGKILL" } as const;
const START_ATTEMPTS = 20;
const USER = "brikk";

const password = randomBytes(12).toString("hex");
let installed: InstalledPostgres | undefined;
let server: ChildProcess | undefined;
let port = 0;
let ending = false;
let underWay: Promise<void> = Promise.resolve();

async function prepare(): Promise<InstalledPostgres> {
  installed = await installPostgres(process.argv[2] ?? "");
  const { folder, account } = installed;
  const passwordPath = join(folder, "password");
  await writeFile(passwordPath, password, { mode: 0o644 });
  const flags = ["--auth=scram-sha-256", "--encoding=UTF8", "--locale=C", "--no-sync", "--no-instructions"];
  await promisify(execFile)(
    join(folder, "bin", "initdb"),
    [`--pgdata=${join(folder, "data")}`, `--username=${USER}`, `--pwfile=${passwordPath}`, ...flags],
    { ...account, cwd: folder, env: { LC_ALL: "C", TZ: "UTC" } },
  );
  return installed;
}

/** Below the range that systems give to outgoing connections, so that none takes it while the server is stopped. */
async function freePort(): Promise<number> {
  for (;;) {
    const candidate = 15_000 + Math.floor(Math.random() * 15_000);
    const probe = createServer();
    try {
      await once(probe.listen(candidate, "127.0.0.1"), "listening");
      return candidate;
    } catch {
      // Taken; another one will not be.
    } finally {
      await new Promise((resolve) => probe.close(resolve));
    }
  }
}

/** Again for a while: what a killed server leaves behind takes a moment to go, and a free port may be lost to another. */
async function start(): Promise<void> {
  if (server !== undefined) return;
  const { folder, account } = (installed ??= await prepare());
  for (let attempt = 1; !ending; attempt += 1) {
    port ||= await freePort();
    // Tests kill processes and never cut the power, so nothing has to reach the disk.
    const settings = ["listen_addresses=127.0.0.1", "unix_socket_directories=", "max_connections=300", "fsync=off"];
    const child = spawn(
      join(folder, "bin", "postgres"),
      ["-D", join(folder, "data"), "-p", String(port), ...settings.flatMap((setting) => ["-c", setting])],
      { ...account, cwd: folder, env: { LC_ALL: "C", TZ: "UTC" }, stdio: ["ignore", "ignore", "pipe"] },
    );
    server = child;
    child.once("close", () => {
      if (server === child) server = undefined;
    });
    const said = await readyOrDead(child);
    if (said === undefined) return;
    server = undefined;
    if (attempt === START_ATTEMPTS) throw new Error(`PostgreSQL did not start: ${said}`);
    if (/Address already in use/.test(said)) port = 0;
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
}

/** Undefined when it takes connections; what it said when it ended instead. */
function readyOrDead(child: ChildProcess): Promise<string | undefined> {
  return new Promise((resolve) => {
    let said = "";
    child.stderr?.setEncoding("utf8").on("data", (text: string) => {
      said = (said + text).slice(-4_000);
      if (said.includes("ready to accept connections")) resolve(undefined);
    });
    child.on("error", (error) => resolve(error.message));
    child.on("close", () => resolve(said));
  });
}

async function stop(mode: keyof typeof SIGNALS): Promise<void> {
  const child = server;
  if (child === undefined) return;
  server = undefined;
  if (child.exitCode !== null || child.signalCode !== null) return;
  const gone = once(child, "close");
  child.kill(SIGNALS[mode]);
  await gone;
}

/** Once what is under way is through: files that are still being made cannot be removed. */
async function end(): Promise<void> {
  if (ending) return;
  ending = true;
  await underWay;
  await stop("immediate");
  if (installed !== undefined)
    await rm(installed.folder, { recursive: true, force: true, maxRetries: 20, retryDelay: 100 });
  process.exit(0);
}

process.on("message", async (order: KeeperOrder) => {
  if (order.kind === "end") return end();
  const obeying = order.kind === "start" ? start() : stop(order.mode);
  underWay = obeying.catch(() => {});
  let reply: KeeperReply;
  try {
    await obeying;
    reply = { kind: "done", url: `postgres://${USER}:${password}@127.0.0.1:${port}/postgres` };
  } catch (error) {
    reply = { kind: "failed", message: error instanceof Error ? error.message : String(error) };
  }
  if (process.connected) process.send?.(reply);
});
process.on("disconnect", () => void end());
for (const signal of ["SIGTERM", "SIGINT", "SIGHUP"] as const) process.on(signal, () => void end());
// The owner may have been faster.
if (!process.connected) void end();
