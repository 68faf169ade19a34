import { spawnSync } from "node:child_process";
import { repositoryRoot } from "./checks/repository.ts";
import { productionPackages, readLockfile } from "./supply/lockfile.ts";
import { type Advisory, isGrave, readAudit } from "./supply/read-audit.ts";

/**
 * npm run advisories: asks the registry for known weaknesses of the locked packages. Ends with 1 for one that is high or
 * critical, wherever it is; with 0 for lesser ones, and where the registry cannot be asked, which is said.
 */
const npm = process.env["npm_execpath"];
const [command, ...before] =
  npm !== undefined && /\.c?js$/.test(npm) ? [process.env["npm_node_execpath"] ?? process.execPath, npm] : ["npm"];
const { stdout, error } = spawnSync(command, [...before, "audit", "--json"], {
  cwd: repositoryRoot,
  encoding: "utf8",
  maxBuffer: 64 * 1024 * 1024,
  timeout: 120_000,
  shell: command === "npm" && process.platform === "win32",
});

const production = new Set(productionPackages(readLockfile()).map(({ name }) => name));
const reading = error ? ({ kind: "unknown", reason: error.message } as const) : readAudit(stdout, production);
switch (reading.kind) {
  case "unknown":
    console.log(
      `The registry could not be asked for advisories (${reading.reason}), so nothing is known. Ask again from elsewhere.`,
    );
    break;
  case "answered": {
    tell("in production", reading.inProduction);
    tell("in development only", reading.inDevelopment);
    if ([...reading.inProduction, ...reading.inDevelopment].some(isGrave)) process.exitCode = 1;
    break;
  }
  default:
    reading satisfies never;
}

function tell(where: string, advisories: readonly Advisory[]): void {
  console.log(`${advisories.length} known weaknesses of packages ${where}`);
  for (const { package: name, severity, title, url } of advisories)
    console.log(`  ${severity.padEnd(8)} ${name}: ${title} (${url})`);
}
