import type { ChildProcess } from "node:child_process";
import type { RunningGateway } from "./gateways.ts";
import type { Job, JobResult } from "./load.ts";
import { type ProcessUsage, readUsage, usedBetween } from "./process-usage.ts";
import type { Workload } from "./workload.ts";

/** One load on one gateway, and what it cost. */
export interface Measurement {
  readonly load: JobResult;
  readonly used: ProcessUsage;
}

export interface LoadShape {
  readonly workload: Workload;
  readonly connections: number;
  readonly maxRequests: number;
  readonly maxMs: number;
  readonly ratePerSecond?: number;
}

/** Where a load goes: a gateway, or the upstream itself. */
export type Target = Pick<RunningGateway, "name" | "port" | "headers">;

export async function measure(
  generator: ChildProcess,
  gateway: RunningGateway,
  shape: LoadShape,
): Promise<Measurement> {
  const before = readUsage(gateway.pid);
  const load = await send(generator, gateway, shape);
  return { load, used: usedBetween(before, readUsage(gateway.pid)) };
}

/** Throws when an answer was wrong: figures of a gateway that fails are worth nothing. */
export async function send(generator: ChildProcess, target: Target, shape: LoadShape): Promise<JobResult> {
  const job: Job = { port: target.port, path: "/v1/chat/completions", headers: target.headers, ...shape };
  const result = await new Promise<JobResult>((resolve, reject) => {
    const died = (): void => reject(new Error("the load generator died"));
    generator.once("exit", died);
    generator.once("message", (message) => {
      generator.off("exit", died);
      resolve(message as JobResult);
    });
    generator.send(job);
  });
  if (result.failures > 0)
    throw new Error(
      `${target.name}, ${shape.workload.name}: ${result.failures} of ${result.requests} answers were wrong; the first: ${result.firstFailure}`,
    );
  return result;
}

export const cpuPerRequestUs = ({ load, used }: Measurement): number => used.cpuUs / load.requests;

export function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  const middle = Math.floor(sorted.length / 2);
  return sorted.length % 2 === 1 ? sorted[middle]! : (sorted[middle - 1]! + sorted[middle]!) / 2;
}
