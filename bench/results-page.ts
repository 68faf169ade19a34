import { cpuPerRequestUs, type Measurement, median } from "./measurements.ts";
import type { JobResult } from "./load.ts";
import type { AccessCost } from "./access.ts";
import type { ResilienceCost } from "./resilience.ts";
import type { ProcessMemory } from "./process-usage.ts";
import { BEAT_MS } from "./workload.ts";
import type { TimeShares } from "./cpu-profile.ts";

/** Everything a run found out. */
export interface Results {
  readonly about: readonly (readonly [string, string])[];
  readonly gateways: readonly GatewayResults[];
  /** Answer times of the upstream itself, at the fixed rate. */
  readonly direct: readonly JobResult[];
  readonly missing: readonly string[];
  readonly profile: { readonly plain: ProfiledLoad; readonly streamed: ProfiledLoad };
  /** Brikk's own count of what it asked of its database. */
  readonly ledger: readonly LedgerLoad[];
  readonly resilience: ResilienceCost;
  readonly access: AccessCost;
}

export interface LedgerLoad {
  readonly storage: string;
  readonly connections: number;
  readonly measured: Measurement;
  /** Transactions that committed usage events, and those on leases. */
  readonly usageTransactions: number;
  readonly leaseTransactions: number;
}

export interface GatewayResults {
  readonly name: string;
  readonly plain: readonly Measurement[];
  readonly streamed: readonly Measurement[];
  readonly shortStreams: readonly Measurement[];
  readonly longStreams: readonly Measurement[];
  readonly atRate: readonly JobResult[];
  memory: ProcessMemory;
}

export interface ProfiledLoad {
  readonly requests: number;
  /** CPU time of the main thread, which the sampled shares divide. */
  readonly mainThreadUs: number;
  readonly shares: TimeShares;
}

export const LOAD = { connections: 16, pacedConnections: 32, chunks: 50, moreChunks: 200, ratePerSecond: 500 } as const;

export const perChunkUs = (gateway: GatewayResults): number =>
  (median(gateway.longStreams.map(cpuPerRequestUs)) - median(gateway.shortStreams.map(cpuPerRequestUs))) /
  (LOAD.moreChunks - LOAD.chunks);

export function resultsPage(results: Results): string {
  const { gateways, direct, profile, resilience, access } = results;
  const brikk = gateways.find(({ name }) => name === "Brikk")!;
  return `# Benchmarks

Written by \`npm run bench\`; not edited by hand. One upstream, which answers at once, stands behind every gateway; all of it ran
on one machine in one run, the gateways in turn.

${table(
  ["", ""],
  results.about.map((row) => [...row]),
)}
${results.missing.map((sentence) => `Left out: ${sentence}.\n`).join("")}
CPU is the figure to look at: user and system time of all of a gateway's processes and threads (/proc/PID/stat), divided by
the requests. Requests/s and latency say less, since the load generator and the upstream share the cores with the gateway. Other
programs on the machine take caches and cores away, which makes CPU figures rise too, those of Node far more than nginx's: the
spread of the rounds shows how much. Each figure is the median of the rounds, CPU with its lowest and highest round.
Every answer was checked to be right.

nginx is a bare proxy: no keys, limits, prices, ledger or log. Portkey forwards with its own hooks and no ledger. Brikk authenticates
a key, holds its rate and its budget, commits a ledger row durably before the answer is called done, counts metrics and writes a log line.

## One answer in one piece

${LOAD.connections} connections, each sends again as soon as it has its answer.

${loadTable(gateways, ({ plain }) => plain)}
## One stream of ${LOAD.chunks} chunks

The same, streamed; the upstream writes each chunk by itself, as fast as it can.

${loadTable(gateways, ({ streamed }) => streamed)}
## One chunk of a stream

${LOAD.pacedConnections} streams at a time, one chunk each ${BEAT_MS} ms on each of them, so that chunks come one by one as they do from a model. The cost of
a chunk is the difference between streams of ${LOAD.moreChunks} and of ${LOAD.chunks} chunks.

${table(
  [
    "",
    `CPU, ${LOAD.chunks} chunks`,
    `CPU, ${LOAD.moreChunks} chunks`,
    "CPU per chunk",
    "of nginx",
    "first byte p50",
    "p99",
  ],
  gateways.map((gateway) => [
    gateway.name,
    spread(gateway.shortStreams.map(cpuPerRequestUs)),
    spread(gateway.longStreams.map(cpuPerRequestUs)),
    `${perChunkUs(gateway).toFixed(1)} us`,
    ratio(perChunkUs(gateway), nginxOf(gateways, perChunkUs)),
    ms(median(gateway.shortStreams.map(({ load }) => load.firstByteMs.p50))),
    ms(median(gateway.shortStreams.map(({ load }) => load.firstByteMs.p99))),
  ]),
)}
## Latency at ${LOAD.ratePerSecond} requests/s

One answer in one piece, sent at fixed moments; what a gateway adds is its figure less the upstream's own.

${table(
  ["", "p50", "p99", "added p50", "added p99"],
  [{ name: "no gateway", atRate: direct }, ...gateways].map(({ name, atRate }) => {
    const p50 = median(atRate.map(({ latencyMs }) => latencyMs.p50));
    const p99 = median(atRate.map(({ latencyMs }) => latencyMs.p99));
    const own = {
      p50: median(direct.map(({ latencyMs }) => latencyMs.p50)),
      p99: median(direct.map(({ latencyMs }) => latencyMs.p99)),
    };
    return [
      name,
      ms(p50),
      ms(p99),
      name === "no gateway" ? "" : ms(p50 - own.p50),
      name === "no gateway" ? "" : ms(p99 - own.p99),
    ];
  }),
)}
## Brikk's database at load

Every answer is held to its key's budgets and committed before it is called done; how many share a transaction is what makes that cheap.
A transaction on leases serves all who wait for one.

${table(
  [
    "database",
    "connections",
    "CPU per request",
    "requests",
    "usage commits",
    "requests per commit",
    "transactions on leases",
  ],
  results.ledger.map(({ storage, connections, measured, usageTransactions, leaseTransactions }) => [
    storage,
    String(connections),
    us(cpuPerRequestUs(measured)),
    String(measured.load.requests),
    String(usageTransactions),
    (measured.load.requests / usageTransactions).toFixed(1),
    String(leaseTransactions),
  ]),
)}
## What access costs

Who calls, from where, whether its key asks for a signature, with 1,000 keys known: the hooks that are run for a closed route, less
those for an open one. Rate limits are not among them. To be put on record is what a request adds to the audit trail, its part of the
commit that many share included. The best of several rounds.

${table(
  ["", "CPU per request"],
  [
    ["to be let in (less than 5 us are allowed)", us(access.enterUs)],
    ["to be put on record", us(access.auditUs)],
  ],
)}
## What resilience costs

The way to a provider when nothing goes wrong, in a process of its own, with a function that answers at once as the provider. Beside
the attempt stand places and queue, breaker, cool-down, retry budget, latency windows, the vendor's rate limits, the history of attempts
and the request's deadline.

${table(
  ["", "CPU per request"],
  [
    ["an attempt by itself", us(resilience.attemptUs)],
    ["with all of that", us(resilience.callUs)],
    ["the difference (at most 10 us are allowed)", us(resilience.callUs - resilience.attemptUs)],
  ],
)}
## Memory

After all of the above.

${table(
  ["", "RSS", "peak"],
  gateways.map(({ name, memory }) => [name, `${memory.rssMb.toFixed(0)} MB`, `${memory.peakRssMb.toFixed(0)} MB`]),
)}
## Where Brikk's CPU goes

By thread, microseconds per request (from /proc/PID/task, without the profiler).

${table(
  ["thread", "plain", `${LOAD.chunks} chunks`],
  [...threadNames(brikk)].map((name) => [
    threadLabel(name),
    us(median(brikk.plain.map((one) => (one.used.threadsUs.get(name) ?? 0) / one.load.requests))),
    us(median(brikk.streamed.map((one) => (one.used.threadsUs.get(name) ?? 0) / one.load.requests))),
  ]),
)}
The main thread by the code that ran, sampled by \`node --cpu-prof\` in a run of its own (the sampling itself costs a few per cent).
What the engine and Node's C++ do counts to the code that called them. Samples are taken by the clock on the wall and scaled to the
thread's CPU time, so what calls the kernel looks too dear when other programs want the cores.

${profileTable(profile, ({ areas }) => areas, "code", 0.01)}
The same samples by the function of Brikk's own that was waiting for the work, libraries and Node included.

${profileTable(profile, ({ callers }) => callers, "asked for by", 0.012)}`;
}

function loadTable(
  gateways: readonly GatewayResults[],
  of: (gateway: GatewayResults) => readonly Measurement[],
): string {
  const cpu = (gateway: GatewayResults): number => median(of(gateway).map(cpuPerRequestUs));
  const portkey = gateways.find(({ name }) => name === "Portkey");
  return table(
    ["", "CPU per request", "in the kernel", "of nginx", "of Portkey", "requests/s", "p50", "p99"],
    gateways.map((gateway) => [
      gateway.name,
      spread(of(gateway).map(cpuPerRequestUs)),
      percent(median(of(gateway).map(({ used }) => used.kernelUs / used.cpuUs))),
      ratio(cpu(gateway), nginxOf(gateways, cpu)),
      ratio(cpu(gateway), portkey && cpu(portkey)),
      median(of(gateway).map(({ load }) => (load.requests * 1_000) / load.elapsedMs)).toFixed(0),
      ms(median(of(gateway).map(({ load }) => load.latencyMs.p50))),
      ms(median(of(gateway).map(({ load }) => load.latencyMs.p99))),
    ]),
  );
}

export function profileTable(
  profile: Results["profile"],
  of: (shares: TimeShares) => ReadonlyMap<string, number>,
  heading: string,
  leastShare: number,
): string {
  const share = ({ shares }: ProfiledLoad, name: string): number => (of(shares).get(name) ?? 0) / shares.busyUs;
  const whole = ({ mainThreadUs, requests }: ProfiledLoad): number => mainThreadUs / requests;
  const { plain, streamed } = profile;
  const names = [...new Set([...of(plain.shares).keys(), ...of(streamed.shares).keys()])];
  const shown = names
    .filter((name) => share(plain, name) >= leastShare || share(streamed, name) >= leastShare)
    .sort((a, b) => share(plain, b) - share(plain, a));
  const rest = (load: ProfiledLoad): number => 1 - shown.reduce((sum, name) => sum + share(load, name), 0);
  const cells = (load: ProfiledLoad, part: number): string[] => [us(part * whole(load)), percent(part)];
  return table(
    [heading, "plain", "", `${LOAD.chunks} chunks`, ""],
    [
      ...shown.map((name) => [name, ...cells(plain, share(plain, name)), ...cells(streamed, share(streamed, name))]),
      ["everything else", ...cells(plain, rest(plain)), ...cells(streamed, rest(streamed))],
      ["together", us(whole(plain)), "", us(whole(streamed)), ""],
    ],
  );
}

const threadNames = (gateway: GatewayResults): Set<string> =>
  new Set(
    gateway.plain.flatMap(({ used, load }) =>
      [...used.threadsUs].filter(([, spent]) => spent / load.requests >= 0.05).map(([name]) => name),
    ),
  );

const THREADS: Readonly<Record<string, string>> = {
  "node-MainThread": "main",
  "brikk-sqlite": "the ledger's (SQLite)",
  "node-V8Worker": "V8's helpers (garbage collection, compiling)",
  "libuv-worker": "libuv's pool",
};
const threadLabel = (name: string): string => THREADS[name] ?? name;

const nginxOf = (
  gateways: readonly GatewayResults[],
  figure: (gateway: GatewayResults) => number,
): number | undefined => {
  const nginx = gateways.find(({ name }) => name === "nginx");
  return nginx && figure(nginx);
};

function table(head: readonly string[], rows: readonly (readonly string[])[]): string {
  const line = (cells: readonly string[]): string =>
    `| ${cells.map((cell) => cell.replaceAll("|", "\\|")).join(" | ")} |\n`;
  return `${line(head)}${line(head.map((_, column) => (column === 0 ? "---" : "---:")))}${rows.map(line).join("")}`;
}

const us = (value: number): string => `${value.toFixed(1)} us`;
const ms = (value: number): string => `${value.toFixed(2)} ms`;
const percent = (share: number): string => `${(share * 100).toFixed(1)} %`;
const spread = (values: readonly number[]): string =>
  `${median(values).toFixed(0)} us (${Math.min(...values).toFixed(0)}-${Math.max(...values).toFixed(0)})`;
const ratio = (value: number, of: number | undefined): string =>
  of === undefined ? "" : `${(value / of).toFixed(value / of < 1 ? 2 : 1)}x`;
