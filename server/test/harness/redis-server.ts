import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { accessSync, constants, mkdtempSync, rmSync } from "node:fs";
import { type AddressInfo, createServer } from "node:net";
import { tmpdir } from "node:os";
import { delimiter, join } from "node:path";
import { Redis } from "ioredis";

/** A real server of the test's own, without persistence: what is killed comes back empty. */
export interface RedisUnderTest {
  readonly url: string;
  /** As by kill -9; resolves when the process is gone. */
  kill(): Promise<void>;
  /** On the same port, after a kill. */
  restart(): Promise<void>;
  /** Takes connections and bytes, and answers nothing. */
  hang(): void;
  goOn(): void;
  /** Asked by a client of the test's own. */
  command(name: string, ...args: string[]): Promise<unknown>;
  stop(): Promise<void>;
}

const executable = findExecutable("valkey-server") ?? findExecutable("redis-server");
const mustRun = process.env["BRIKK_NO_SKIP"] === "1";
const absent = "no valkey-server or redis-server on PATH";

/** For the `skip` option of tests that need a server: false when there is one, or when nothing may be skipped. */
export const skipWithoutRedis: string | false = executable === undefined && !mustRun ? absent : false;
if (skipWithoutRedis !== false) process.stderr.write(`SKIPPED what needs Redis: ${absent}\n`);

/** With `cluster` it is the one node of a cluster, which refuses a script whose keys another node might hold. */
export async function startRedis(options: { readonly cluster?: boolean } = {}): Promise<RedisUnderTest> {
  if (executable === undefined) throw new Error(`There is ${absent}.`);
  const folder = mkdtempSync(join(tmpdir(), "brikk-redis-"));
  const port = await freePort();
  const settings: Record<string, string> = {
    port: String(port),
    bind: "127.0.0.1",
    dir: folder,
    save: "",
    appendonly: "no",
    ...(options.cluster === true && { "cluster-enabled": "yes", "cluster-port": String(await freePort()) }),
  };
  let child = await launch(executable, settings);

  async function kill(): Promise<void> {
    if (child.exitCode !== null || child.signalCode !== null) return;
    const gone = once(child, "exit");
    child.kill("SIGKILL");
    await gone;
  }

  return {
    url: `redis://127.0.0.1:${port}`,
    kill,
    restart: async () => {
      child = await launch(executable, settings);
    },
    hang: () => void child.kill("SIGSTOP"),
    goOn: () => void child.kill("SIGCONT"),
    command: async (name, ...args) => {
      const client = new Redis({ port, host: "127.0.0.1" });
      try {
        return await client.call(name, ...args);
      } finally {
        client.disconnect();
      }
    },
    stop: async () => {
      await kill();
      rmSync(folder, { recursive: true, force: true });
    },
  };
}

async function launch(path: string, settings: Readonly<Record<string, string>>): Promise<ChildProcess> {
  const child = spawn(
    path,
    Object.entries(settings).flatMap(([name, value]) => [`--${name}`, value]),
    { stdio: ["ignore", "pipe", "inherit"] },
  );
  let output = "";
  await new Promise<void>((resolve, reject) => {
    child.stdout.setEncoding("utf8").on("data", (text: string) => {
      output += text;
      if (output.includes("Ready to accept connections")) resolve();
    });
    child.on("error", reject).on("exit", () => reject(new Error(`The server ended early:\n${output}`)));
  });
  return child;
}

function findExecutable(name: string): string | undefined {
  for (const folder of (process.env["PATH"] ?? "").split(delimiter)) {
    const path = join(folder, name);
    try {
      accessSync(path, constants.X_OK);
      return path;
    } catch {
      // In the next one perhaps.
    }
  }
  return undefined;
}

async function freePort(): Promise<number> {
  const server = createServer();
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const { port } = server.address() as AddressInfo;
  await new Promise((resolve) => server.close(resolve));
  return port;
}
