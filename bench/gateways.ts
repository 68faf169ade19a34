import { type ChildProcess, execFileSync, spawn, spawnSync } from "node:child_process";
import { randomBytes } from "node:crypto";
import { existsSync, mkdirSync, openSync, readFileSync, writeFileSync, mkdtempSync } from "node:fs";
import { createServer, connect, type AddressInfo } from "node:net";
import { join } from "node:path";

/** A gateway that runs in front of the upstream, as a child with its files in a folder of its own. */
export interface RunningGateway {
  readonly name: string;
  readonly version: string;
  readonly pid: number;
  readonly port: number;
  /** What its callers must send. */
  readonly headers: Readonly<Record<string, string>>;
  stop(): Promise<void>;
}

export interface Surroundings {
  readonly upstreamPort: number;
  /** For databases, logs, configs; thrown away afterwards. */
  readonly folder: string;
}

/** Thrown when a peer is not there; the message tells how to get it. */
export class PeerMissing extends Error {
  override readonly name = "PeerMissing";
}

const root = join(import.meta.dirname, "..");

/** A bare reverse proxy: one worker, kept-alive connections on both sides, no log, nothing held back. */
export async function startNginx({ upstreamPort, folder }: Surroundings): Promise<RunningGateway> {
  const binary = ["/usr/sbin/nginx", "/usr/local/sbin/nginx", "/usr/bin/nginx"].find(existsSync);
  if (!binary) throw new PeerMissing("nginx is not installed (Debian: apt-get install -y nginx-light)");
  const home = folderIn(folder, "nginx");
  const port = await freePort();
  writeFileSync(
    join(home, "nginx.conf"),
    `${process.getuid?.() === 0 ? "user root;\n" : ""}worker_processes 1;
daemon off;
pid ${home}/nginx.pid;
error_log ${home}/error.log warn;
events { worker_connections 1024; }
http {
  access_log off;
  client_body_temp_path ${home}/body; proxy_temp_path ${home}/proxy; fastcgi_temp_path ${home}/fastcgi; uwsgi_temp_path ${home}/uwsgi; scgi_temp_path ${home}/scgi;
  keepalive_requests 100000000;
  upstream provider { server 127.0.0.1:${upstreamPort}; keepalive 128; keepalive_requests 100000000; }
  server {
    listen 127.0.0.1:${port};
    location / {
      proxy_pass http://provider;
      proxy_http_version 1.1;
      proxy_set_header Connection "";
      proxy_buffering off;
    }
  }
}
`,
  );
  const child = spawn(binary, ["-p", home, "-e", join(home, "error.log"), "-c", join(home, "nginx.conf")], {
    stdio: ["ignore", "ignore", openSync(join(home, "stderr.log"), "a")],
  });
  const version = spawnSync(binary, ["-v"], { encoding: "utf8" }).stderr.trim().replace("nginx version: nginx/", "");
  return ready({ name: "nginx", version, port, headers: {} }, child, home);
}

/** Portkey's gateway as npm has it, on the same Node as Brikk. */
export async function startPortkey({ upstreamPort, folder }: Surroundings): Promise<RunningGateway> {
  const home = join(import.meta.dirname, "portkey");
  const main = join(home, "node_modules/@portkey-ai/gateway/build/start-server.js");
  if (!existsSync(main)) {
    process.stderr.write("Installing Portkey's gateway into bench/portkey ...\n");
    const installed = spawnSync("npm", ["ci", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"], {
      cwd: home,
      stdio: ["ignore", 2, 2],
    });
    if (installed.status !== 0)
      throw new PeerMissing("Portkey's gateway could not be installed (npm ci in bench/portkey)");
  }
  const logs = folderIn(folder, "portkey");
  const port = await freePort();
  const child = spawn(process.execPath, [main, `--port=${port}`, "--headless"], {
    cwd: home,
    stdio: ["ignore", openSync(join(logs, "stdout.log"), "a"), openSync(join(logs, "stderr.log"), "a")],
  });
  const { version } = JSON.parse(readFileSync(join(home, "node_modules/@portkey-ai/gateway/package.json"), "utf8")) as {
    version: string;
  };
  const headers = {
    "x-portkey-provider": "openai",
    "x-portkey-custom-host": `http://127.0.0.1:${upstreamPort}/v1`,
    authorization: "Bearer bench",
  };
  return ready({ name: "Portkey", version, port, headers }, child, logs);
}

/** Brikk with everything on: a key of its own with limit and caps, ledger, metrics, and a log line per request into a file. */
export async function startBrikk(
  { upstreamPort, folder }: Surroundings,
  { nodeFlags = [], databaseUrl }: { nodeFlags?: readonly string[]; databaseUrl?: string } = {},
): Promise<RunningGateway> {
  const home = mkdtempSync(join(folder, "brikk-"));
  const port = await freePort();
  const environment = {
    PATH: process.env["PATH"],
    HOST: "127.0.0.1",
    PORT: String(port),
    NODE_ENV: "production",
    DATABASE_URL: databaseUrl ?? `sqlite:${join(home, "brikk.db")}`,
    OPENAI_API_KEY: "bench",
    OPENAI_BASE_URL: `http://127.0.0.1:${upstreamPort}/v1`,
    BRIKK_REQUIRE_AUTH: "true",
    BRIKK_ENCRYPTION_KEY: randomBytes(32).toString("base64url"),
    // The upstream is on loopback.
    BRIKK_ALLOW_PRIVATE_ADDRESSES: "true",
    LOG_LEVEL: "info",
  };
  const created = execFileSync(
    process.execPath,
    [
      "server/src/cli.ts",
      "keys",
      "create",
      "--name",
      "bench",
      "--soft-cap-usd",
      "100000",
      "--hard-cap-usd",
      "100000",
      "--rate-limit-per-min",
      "1000000",
      "--json",
    ],
    { cwd: root, env: environment, encoding: "utf8" },
  );
  const { key } = JSON.parse(created) as { key: string };
  const child = spawn(process.execPath, [...nodeFlags, "server/src/main.ts"], {
    cwd: root,
    env: environment,
    stdio: ["ignore", openSync(join(home, "stdout.log"), "a"), openSync(join(home, "stderr.log"), "a")],
  });
  const { version } = JSON.parse(readFileSync(join(root, "server/package.json"), "utf8")) as { version: string };
  return ready({ name: "Brikk", version, port, headers: { authorization: `Bearer ${key}` } }, child, home);
}

const START_TIMEOUT_MS = 15_000;

async function ready(
  about: Omit<RunningGateway, "pid" | "stop">,
  child: ChildProcess,
  logs: string,
): Promise<RunningGateway> {
  const exited = new Promise<void>((resolve) => void child.once("exit", () => resolve()));
  const deadline = performance.now() + START_TIMEOUT_MS;
  while (!(await accepts(about.port))) {
    if (child.exitCode !== null || performance.now() > deadline) {
      child.kill("SIGKILL");
      throw new Error(
        `${about.name} did not start; what it said is in ${logs}: ${readFileSync(join(logs, "stderr.log"), "utf8").slice(-500)}`,
      );
    }
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
  const stopWithRun = (): void => void child.kill("SIGKILL");
  process.once("exit", stopWithRun);
  return {
    ...about,
    pid: child.pid!,
    stop: async () => {
      process.off("exit", stopWithRun);
      child.kill("SIGTERM");
      await exited;
    },
  };
}

function accepts(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect(port, "127.0.0.1");
    socket.once("connect", () => resolve((socket.destroy(), true)));
    socket.once("error", () => resolve(false));
  });
}

function freePort(): Promise<number> {
  return new Promise((resolve) => {
    const server = createServer().listen(0, "127.0.0.1", () => {
      const { port } = server.address() as AddressInfo;
      server.close(() => resolve(port));
    });
  });
}

function folderIn(folder: string, name: string): string {
  const path = join(folder, name);
  mkdirSync(path, { recursive: true });
  return path;
}
