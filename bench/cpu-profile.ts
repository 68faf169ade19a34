import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";

/**
 * Reads what `node --cpu-prof` wrote and says where the time of a stretch of it went. Two views of the same samples: by the
 * code that ran (`areas`), and by the nearest line of Brikk's own on the stack that asked for it (`callers`).
 */
export interface TimeShares {
  /** Not idle. */
  readonly busyUs: number;
  readonly areas: ReadonlyMap<string, number>;
  readonly callers: ReadonlyMap<string, number>;
  readonly functions: ReadonlyMap<string, number>;
}

interface Profile {
  readonly nodes: readonly ProfileNode[];
  readonly startTime: number;
  readonly samples: readonly number[];
  readonly timeDeltas: readonly number[];
}

interface ProfileNode {
  readonly id: number;
  readonly callFrame: { readonly functionName: string; readonly url: string; readonly lineNumber: number };
  readonly children?: readonly number[];
}

/** The profiles of a process, one for each of its threads that were sampled. */
export const readProfiles = (folder: string): Profile[] =>
  readdirSync(folder)
    .filter((name) => name.endsWith(".cpuprofile"))
    .map((name) => JSON.parse(readFileSync(join(folder, name), "utf8")) as Profile);

/** Now, on the clock of the profiles (CLOCK_MONOTONIC, the same for all processes). */
export const profileClockUs = (): number => Number(process.hrtime.bigint() / 1_000n);

export function timeShares(profile: Profile, fromUs: number, toUs: number): TimeShares {
  const parents = new Map<number, number>();
  const nodes = new Map(profile.nodes.map((node) => [node.id, node]));
  for (const node of profile.nodes) for (const child of node.children ?? []) parents.set(child, node.id);
  const parentOf = (node: ProfileNode): ProfileNode | undefined => nodes.get(parents.get(node.id) ?? -1);

  const selfUs = new Map<number, number>();
  let nowUs = profile.startTime;
  profile.samples.forEach((id, index) => {
    const deltaUs = profile.timeDeltas[index]!;
    nowUs += deltaUs;
    if (nowUs >= fromUs && nowUs <= toUs) selfUs.set(id, (selfUs.get(id) ?? 0) + deltaUs);
  });

  let busyUs = 0;
  const areas = new Map<string, number>();
  const callers = new Map<string, number>();
  const functions = new Map<string, number>();
  const add = (sums: Map<string, number>, name: string, us: number): void =>
    void sums.set(name, (sums.get(name) ?? 0) + us);
  for (const [id, us] of selfUs) {
    const node = nodes.get(id)!;
    if (node.callFrame.functionName === "(idle)") continue;
    busyUs += us;
    add(areas, areaOf(node, parentOf), us);
    add(functions, describe(node), us);
    let caller: ProfileNode | undefined = node;
    while (caller && !ownPath(caller)) caller = parentOf(caller);
    add(callers, caller ? describe(caller) : callerless(node, parentOf), us);
  }
  return { busyUs, areas, callers, functions };
}

const ownPath = (node: ProfileNode): string | undefined => /\/server\/src\/(.+)$/.exec(node.callFrame.url)?.[1];

function describe(node: ProfileNode): string {
  const { functionName, url, lineNumber } = node.callFrame;
  const place = ownPath(node) ?? /\/node_modules\/(.+)$/.exec(url)?.[1] ?? url;
  return place === "" ? functionName : `${functionName || "(anonymous)"} ${place}:${lineNumber + 1}`;
}

/** Work that no function of Brikk's is waiting for: the area of whatever stands at the root. */
const callerless = (node: ProfileNode, parentOf: (node: ProfileNode) => ProfileNode | undefined): string =>
  `(no caller of ours) ${areaOf(node, parentOf)}`;

const NODE_AREAS: readonly (readonly [RegExp, string])[] = [
  [/^node:_http|^node:internal\/http/, "node: http"],
  [/^node:net|^node:internal\/(stream_base_commons|net|dtrace)/, "node: sockets"],
  [/^node:internal\/(streams|webstreams)|^node:stream/, "node: streams"],
  [/^node:internal\/(abort_controller|event_target)/, "node: AbortController"],
  [/^node:internal\/(timers)|^node:timers/, "node: timers"],
  [/^node:events/, "node: events"],
  [/^node:internal\/(worker|per_context\/messageport)|^node:worker/, "node: messages between threads"],
  [/^node:(internal\/)?(buffer|crypto|url|util)/, "node: buffers, crypto, url"],
  [
    /^node:(internal\/)?(async_hooks|process|diagnostics|async_local)|^node:internal\/async/,
    "node: ticks and async hooks",
  ],
  [/^node:(internal\/)?fs/, "node: fs"],
];

function areaOf(node: ProfileNode, parentOf: (node: ProfileNode) => ProfileNode | undefined): string {
  const { functionName, url } = node.callFrame;
  if (functionName === "(garbage collector)") return "garbage collector";
  if (functionName === "(program)" || functionName === "(root)") return "outside JavaScript (event loop, kernel)";
  if (url === "") {
    // A function of the engine or of Node's C++: its caller's affair.
    const parent = parentOf(node);
    return parent ? areaOf(parent, parentOf) : "outside JavaScript (event loop, kernel)";
  }
  const own = ownPath(node);
  if (own !== undefined) return `server/src/${own.includes("/") ? own.slice(0, own.indexOf("/")) : own}`;
  const packaged = /\/node_modules\/((?:@[^/]+\/)?[^/]+)\//.exec(url)?.[1];
  if (packaged !== undefined) return packaged;
  if (url.startsWith("node:")) return NODE_AREAS.find(([pattern]) => pattern.test(url))?.[1] ?? "node: other";
  return "other";
}
