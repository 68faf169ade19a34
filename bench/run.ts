import { type ChildProcess, execFileSync, fork } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { cpus, loadavg, release, tmpdir } from "node:os";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { profileClockUs, readProfiles, timeShares } from "./cpu-profile.ts";
import {
  PeerMissing,
  type RunningGateway,
  startBrikk,
  startNginx,
  startPortkey,
  type Surroundings,
} from "./gateways.ts";
import { cpuPerRequestUs, type LoadShape, measure, type Measurement, median, send } from "./measurements.ts";
import { readMemory } from "./process-usage.ts";
import { measureAccess } from "./access.ts";
import { measureResilience } from "./resilience.ts";
import {
  type GatewayResults,
  type LedgerLoad,
  LOAD,
  profileTable,
  type ProfiledLoad,
  type Results,
  resultsPage,
} from "./results-page.ts";
import { plain, streamed } from "./workload.ts";
import { launchPostgres } from "../server/test/harness/postgres-server.ts";

/**
 * npm run bench [-- --rounds 5]       all gateways in turn, round after round; writes bench/results.md
 * npm run bench -- --profile-only     only where Brikk's CPU goes, on the terminal
 * npm run bench -- --access-only      only what it costs to be let in, on the terminal
 */
const { values: options } = parseArgs({
  options: {
    rounds: { type: "string", default: "5" },
    "profile-only": { type: "boolean", default: false },
    "access-only": { type: "boolean", default: false },
  },
});
const rounds = Math.max(1, Number.parseInt(options.rounds, 10) || 5);

const shapes = {
  plain: { workload: plain, connections: LOAD.connections, maxRequests: 20_000, maxMs: 5_000 },
  streamed: {
    workload: streamed(LOAD.chunks, { paced: false }),
    connections: LOAD.connections,
    maxRequests: 5_000,
    maxMs: 5_000,
  },
  shortStreams: {
    workload: streamed(LOAD.chunks, { paced: true }),
    connections: LOAD.pacedConnections,
    maxRequests: 100_000,
    maxMs: 4_000,
  },
  longStreams: {
    workload: streamed(LOAD.moreChunks, { paced: true }),
    connections: LOAD.pacedConnections,
    maxRequests: 100_000,
    maxMs: 4_000,
  },
  atRate: {
    workload: plain,
    connections: LOAD.connections,
    maxRequests: 100_000,
    maxMs: 4_000,
    ratePerSecond: LOAD.ratePerSecond,
  },
} as const satisfies Record<string, LoadShape>;

const say = (sentence: string): void => void process.stderr.write(`${sentence}\n`);

/** Until the engine has compiled what is hot. */
async function warmUp(generator: ChildProcess, gateway: RunningGateway): Promise<void> {
  await send(generator, gateway, { ...shapes.plain, maxRequests: 8_000, maxMs: 8_000 });
  await send(generator, gateway, { ...shapes.streamed, maxRequests: 1_500, maxMs: 5_000 });
}

async function startAll(surroundings: Surroundings): Promise<{ gateways: RunningGateway[]; missing: string[] }> {
  const gateways: RunningGateway[] = [];
  const missing: string[] = [];
  for (const start of [startNginx, startPortkey, startBrikk]) {
    try {
      gateways.push(await start(surroundings));
    } catch (error) {
      if (!(error instanceof PeerMissing)) throw error;
      missing.push(error.message);
      say(`Left out: ${error.message}.`);
    }
  }
  return { gateways, missing };
}

async function compare(
  generator: ChildProcess,
  surroundings: Surroundings,
): Promise<Omit<Results, "about" | "profile" | "resilience" | "access"> & { versions: string }> {
  const { gateways, missing } = await startAll(surroundings);
  const results = gateways.map(({ name }): Mutable<GatewayResults> => ({
    name,
    plain: [],
    streamed: [],
    shortStreams: [],
    longStreams: [],
    atRate: [],
    memory: { rssMb: 0, peakRssMb: 0 },
  }));
  const direct: Results["direct"][number][] = [];
  for (const gateway of gateways) {
    say(`Warming up ${gateway.name} ...`);
    await warmUp(generator, gateway);
  }
  for (let round = 1; round <= rounds; round += 1) {
    direct.push(
      await send(generator, { name: "the upstream", port: surroundings.upstreamPort, headers: {} }, shapes.atRate),
    );
    for (const [index, gateway] of gateways.entries()) {
      const result = results[index]!;
      for (const kind of ["plain", "streamed", "shortStreams", "longStreams"] as const)
        result[kind].push(await measure(generator, gateway, shapes[kind]));
      result.atRate.push(await send(generator, gateway, shapes.atRate));
      say(
        `Round ${round} of ${rounds}, ${gateway.name}: ${cpuPerRequestUs(result.plain.at(-1)!).toFixed(0)} us of CPU per answer, ${cpuPerRequestUs(result.streamed.at(-1)!).toFixed(0)} us per stream of ${LOAD.chunks} chunks.`,
      );
    }
  }
  const brikk = gateways.find(({ name }) => name === "Brikk")!;
  say("Counting Brikk's transactions ...");
  const ledger = [
    ...(await measureLedger(generator, brikk, "SQLite")),
    ...(await measurePostgres(generator, surroundings)),
  ];
  for (const [index, gateway] of gateways.entries()) {
    results[index]!.memory = readMemory(gateway.pid);
    await gateway.stop();
  }
  return {
    gateways: results,
    ledger,
    direct,
    missing,
    versions: gateways.map(({ name, version }) => `${name} ${version}`).join(", "),
  };
}

/** How many requests share a transaction, by the gateway's own metrics. */
async function measureLedger(
  generator: ChildProcess,
  gateway: RunningGateway,
  storage: string,
): Promise<Results["ledger"]> {
  const rows: LedgerLoad[] = [];
  for (const connections of [1, 16, 200]) {
    const before = await ledgerCounts(gateway.port);
    const measured = await measure(generator, gateway, { ...shapes.plain, connections });
    const after = await ledgerCounts(gateway.port);
    rows.push({
      storage,
      connections,
      measured,
      usageTransactions: after.usage - before.usage,
      leaseTransactions: after.leases - before.leases,
    });
  }
  return rows;
}

/** The same on PostgreSQL, whose server runs beside everything else; its own CPU is not in the figures. */
async function measurePostgres(generator: ChildProcess, surroundings: Surroundings): Promise<Results["ledger"]> {
  const server = await launchPostgres();
  try {
    const gateway = await startBrikk(surroundings, { databaseUrl: server.url });
    await warmUp(generator, gateway);
    const rows = await measureLedger(generator, gateway, "PostgreSQL, without fsync");
    await gateway.stop();
    return rows;
  } finally {
    await server.close();
  }
}

async function ledgerCounts(port: number): Promise<{ usage: number; leases: number }> {
  const text = await (await fetch(`http://127.0.0.1:${port}/metrics`)).text();
  const read = (name: string): number => Number(new RegExp(`^${name} (\\S+)$`, "m").exec(text)?.[1] ?? 0);
  return { usage: read("brikk_ledger_group_events_count"), leases: read("brikk_lease_transactions_total") };
}

/** Brikk once more, sampled; its own run, so that the sampling is not in the other figures. */
async function profileBrikk(generator: ChildProcess, surroundings: Surroundings): Promise<Results["profile"]> {
  const folder = join(surroundings.folder, "profiles");
  say("Profiling Brikk ...");
  const gateway = await startBrikk(surroundings, {
    nodeFlags: ["--cpu-prof", "--cpu-prof-interval=250", `--cpu-prof-dir=${folder}`],
  });
  await warmUp(generator, gateway);
  const load = async (shape: LoadShape): Promise<{ measured: Measurement; fromUs: number; toUs: number }> => {
    const fromUs = profileClockUs();
    const measured = await measure(generator, gateway, shape);
    return { measured, fromUs, toUs: profileClockUs() };
  };
  const loads = { plain: await load(shapes.plain), streamed: await load(shapes.streamed) };
  await gateway.stop();
  // The ledger's thread, if it was sampled too, does little beside the main one.
  const profiles = readProfiles(folder);
  const sharesOf = ({ measured, fromUs, toUs }: typeof loads.plain): ProfiledLoad => ({
    requests: measured.load.requests,
    mainThreadUs: measured.used.threadsUs.get("node-MainThread") ?? 0,
    shares: profiles
      .map((profile) => timeShares(profile, fromUs, toUs))
      .reduce((a, b) => (a.busyUs >= b.busyUs ? a : b)),
  });
  return { plain: sharesOf(loads.plain), streamed: sharesOf(loads.streamed) };
}

type Mutable<T> = { -readonly [Name in keyof T]: T[Name] extends readonly (infer Item)[] ? Item[] : T[Name] };

function forked(file: string): ChildProcess {
  const child = fork(join(import.meta.dirname, file), { stdio: ["ignore", 2, 2, "ipc"] });
  process.once("exit", () => void child.kill("SIGKILL"));
  return child;
}

function commit(): string {
  try {
    const git = (...args: string[]): string =>
      execFileSync("git", args, {
        cwd: import.meta.dirname,
        encoding: "utf8",
        stdio: ["ignore", "pipe", "ignore"],
      }).trim();
    return `commit ${git("rev-parse", "--short", "HEAD")}${git("status", "--porcelain", "--", "../server") === "" ? "" : " with changes"}`;
  } catch {
    return "not from a commit";
  }
}

const folder = mkdtempSync(join(tmpdir(), "brikk-bench-"));
const startedAt = new Date();
const loadBefore = loadavg()[0]!;
const upstream = forked("upstream.ts");
const generator = forked("load.ts");
try {
  const upstreamPort = await new Promise<number>(
    (resolve) => void upstream.once("message", (message) => resolve((message as { port: number }).port)),
  );
  const surroundings = { upstreamPort, folder };
  if (options["access-only"]) {
    const { enterUs, auditUs } = await measureAccess();
    process.stdout.write(
      `${enterUs.toFixed(2)} us of CPU for a request to be let in, ${auditUs.toFixed(2)} us to be put on record.\n`,
    );
  } else if (options["profile-only"]) {
    const profile = await profileBrikk(generator, surroundings);
    process.stdout.write(
      `${profileTable(profile, ({ areas }) => areas, "code", 0.005)}\n${profileTable(profile, ({ callers }) => callers, "asked for by", 0.004)}\n${profileTable(profile, ({ functions }) => functions, "function", 0.004)}`,
    );
  } else {
    const { versions, ...compared } = await compare(generator, surroundings);
    const profile = await profileBrikk(generator, surroundings);
    say("Measuring what resilience costs ...");
    const resilience = await measureResilience();
    say("Measuring what access costs ...");
    const access = await measureAccess();
    const about: Results["about"] = [
      ["Date", startedAt.toISOString().slice(0, 16).replace("T", " ") + " UTC"],
      ["Machine", `${cpus().length} cores of ${cpus()[0]!.model.trim()}, Linux ${release()}`],
      ["Runs", `Node ${process.version}, ${versions} (${commit()})`],
      ["Command", `npm run bench -- --rounds ${rounds}`],
      [
        "Load average",
        `${loadBefore.toFixed(1)} before the run: ${loadBefore > 0.3 ? "other programs ran on this machine at the same time, so Node's CPU figures are too high, and requests/s and latency worse than they could be" : "nothing else ran"}`,
      ],
    ];
    const results: Results = { ...compared, about, profile, resilience, access };
    const path = join(import.meta.dirname, "results.md");
    writeFileSync(path, resultsPage(results));
    for (const { name, plain: whole, streamed: streams } of results.gateways)
      say(
        `${name}: ${median(whole.map(cpuPerRequestUs)).toFixed(0)} us of CPU per answer, ${median(streams.map(cpuPerRequestUs)).toFixed(0)} us per stream.`,
      );
    say(`Written to ${path}.`);
  }
} finally {
  upstream.disconnect();
  generator.disconnect();
  rmSync(folder, { recursive: true, force: true });
}
