/**
 * A step at which a test may end the process or hold it up. Nothing but a module that a test loads into the process sets the
 * hook, so in production a step is one comparison.
 */
export type FaultPoint =
  | "lease-wanted"
  | "lease-granted"
  | "reserved"
  | "answer-begun"
  | "answer-received"
  | "commit-wanted"
  | "committed"
  | "settled"
  | "release-wanted"
  | "released";

let hook: ((point: FaultPoint) => void) | undefined;

export function reach(point: FaultPoint): void {
  if (hook !== undefined) hook(point);
}

/** For tests only. */
export function onFaultPoint(act: (point: FaultPoint) => void): void {
  hook = act;
}
