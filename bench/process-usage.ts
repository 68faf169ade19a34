import { readdirSync, readFileSync } from "node:fs";

/** What a process and its children have used, as Linux counts it (proc(5)). */
export interface ProcessUsage {
  readonly cpuUs: number;
  /** Of which inside the kernel. */
  readonly kernelUs: number;
  /** Of which each kind of thread, by its name without a number. */
  readonly threadsUs: ReadonlyMap<string, number>;
}

export interface ProcessMemory {
  readonly rssMb: number;
  readonly peakRssMb: number;
}

/** USER_HZ, which is 100 on every Linux that Node runs on. */
const US_PER_TICK = 10_000;

export function readUsage(pid: number): ProcessUsage {
  let cpuUs = 0;
  let kernelUs = 0;
  const threadsUs = new Map<string, number>();
  for (const member of treeOf(pid)) {
    const { user, kernel } = ticksOf(`/proc/${member}/stat`);
    cpuUs += (user + kernel) * US_PER_TICK;
    kernelUs += kernel * US_PER_TICK;
    for (const thread of readdirSync(`/proc/${member}/task`)) {
      const name = readFileSync(`/proc/${member}/task/${thread}/comm`, "utf8")
        .trim()
        .replace(/[-:/ ]*\d+$/, "");
      // Run time in nanoseconds; finer than ticks, and threads are short of those.
      const [runNs = "0"] = readFileSync(`/proc/${member}/task/${thread}/schedstat`, "utf8").split(" ");
      threadsUs.set(name, (threadsUs.get(name) ?? 0) + Number(runNs) / 1_000);
    }
  }
  return { cpuUs, kernelUs, threadsUs };
}

export function usedBetween(before: ProcessUsage, after: ProcessUsage): ProcessUsage {
  return {
    cpuUs: after.cpuUs - before.cpuUs,
    kernelUs: after.kernelUs - before.kernelUs,
    threadsUs: new Map([...after.threadsUs].map(([name, us]) => [name, us - (before.threadsUs.get(name) ?? 0)])),
  };
}

export function readMemory(pid: number): ProcessMemory {
  const total = { rssMb: 0, peakRssMb: 0 };
  for (const member of treeOf(pid)) {
    const status = readFileSync(`/proc/${member}/status`, "utf8");
    const kb = (field: string): number => Number(new RegExp(`^${field}:\\s+(\\d+) kB`, "m").exec(status)?.[1] ?? 0);
    total.rssMb += kb("VmRSS") / 1_024;
    total.peakRssMb += kb("VmHWM") / 1_024;
  }
  return total;
}

/** utime and stime, all threads included. The name in brackets may hold spaces, so fields count from behind it. */
function ticksOf(path: string): { user: number; kernel: number } {
  const stat = readFileSync(path, "utf8");
  const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
  return { user: Number(fields[11]), kernel: Number(fields[12]) };
}

/** The process, its children, and theirs. */
function treeOf(root: number): number[] {
  const parents = readdirSync("/proc")
    .filter((name) => /^\d+$/.test(name))
    .map((name) => [Number(name), parentOf(Number(name))] as const);
  const withChildren = (pid: number): number[] => [
    pid,
    ...parents.filter(([, parent]) => parent === pid).flatMap(([child]) => withChildren(child)),
  ];
  return withChildren(root);
}

function parentOf(pid: number): number | undefined {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, "utf8");
    return Number(stat.slice(stat.lastIndexOf(")") + 2).split(" ")[1]);
  } catch {
    // It ended between the listing and the reading, so it is nobody's child any more.
    return undefined;
  }
}
