/**
 * The steps of the money's way at which a test may end the process or hold it up: before and after everything that another
 * process, the disk or the caller can see. docs/decisions/0006-leases.md says what is left when a process dies at each.
 */
export const FAULT_POINTS = [
  "lease-wanted",
  "lease-granted",
  "reserved",
  "answer-begun",
  "answer-received",
  "commit-wanted",
  "committed",
  "settled",
  "alert-wanted",
  "alert-written",
  "release-wanted",
  "released",
  "write-off-wanted",
  "written-off",
] as const;

export type MoneyPoint = (typeof FAULT_POINTS)[number];

/** `rotated`: a key has a new secret, and nobody has been told. */
export type FaultPoint = MoneyPoint | "rotated";

let hook: ((point: FaultPoint) => void) | undefined;

/** Nothing but a module that a test loads into the process sets the hook, so in production a step is one comparison. */
export function reach(point: FaultPoint): void {
  if (hook !== undefined) hook(point);
}

/** For tests only. */
export function onFaultPoint(act: (point: FaultPoint) => void): void {
  hook = act;
}
