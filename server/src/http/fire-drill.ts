import type { ActiveFault, Fault, FaultRule } from "@brikk/simulator/faults";

/** The faults of the simulator that serves in the providers' place. */
export interface FireDrill {
  set(rule: FaultRule): ActiveFault;
  list(): readonly ActiveFault[];
  /** False when no fault in force has that id. */
  unset(id: string): boolean;
  clear(): void;
}

interface Preset {
  readonly description: string;
  readonly fault: Fault;
}

/** Bad days that providers have, by name. */
export const presets = {
  errors: { description: "Every answer is an error 500.", fault: { kind: "status", status: 500 } },
  overloaded: {
    description: "Every answer is an error 503, as from a vendor with too much to do.",
    fault: { kind: "status", status: 503 },
  },
  unreachable: { description: "Connections are reset before an answer.", fault: { kind: "reset" } },
  hang: { description: "No answer at all on an open connection.", fault: { kind: "hang" } },
  "hang-after-headers": {
    description: "Status 200 and its headers, then nothing.",
    fault: { kind: "hang-after-headers" },
  },
  "slow-first-token": {
    description: "The first token takes 15 s, longer than is waited for it unless the settings say otherwise.",
    fault: { kind: "slow-first-token", ms: 15_000 },
  },
  heartbeat: {
    description: "Comments and empty deltas every second, and never any output.",
    fault: { kind: "heartbeat", everyMs: 1_000 },
  },
  "rate-limit": {
    description: "429 that asks to be left alone for 5 s.",
    fault: { kind: "status", status: 429, retryAfter: 5 },
  },
  quota: { description: "429 because the account has nothing left; waiting does not help.", fault: { kind: "quota" } },
  "credentials-refused": {
    description: "401: the vendor does not take the gateway's own key.",
    fault: { kind: "status", status: 401 },
  },
  "cut-mid-stream": {
    description: "The connection closes after 20 tokens.",
    fault: { kind: "cut", afterTokens: 20 },
  },
  "stall-mid-stream": {
    description: "Silence on an open connection after 20 tokens.",
    fault: { kind: "stall", afterTokens: 20 },
  },
  "trickle-mid-stream": {
    description: "After 20 tokens only comments, every second, and never output again.",
    fault: { kind: "trickle", afterTokens: 20, everyMs: 1_000 },
  },
  "error-mid-stream": {
    description: "The vendor's own error inside the stream, after 20 tokens.",
    fault: { kind: "error-event", afterTokens: 20 },
  },
  "garbage-mid-stream": {
    description: "One event that is not JSON, after 20 tokens.",
    fault: { kind: "malformed-chunk", afterTokens: 20 },
  },
  garbage: { description: "Status 200 and an HTML page in the answer's place.", fault: { kind: "unusable-body" } },
  "error-in-200": { description: "Status 200 with an error and no answer.", fault: { kind: "error-body" } },
  "empty-stream": { description: "Streams of status 200 without an event.", fault: { kind: "empty-stream" } },
  "content-refused": {
    description: "400: the content goes against the vendor's policy. The caller's to mend, so nobody else is asked.",
    fault: { kind: "refuse-content" },
  },
} as const satisfies Readonly<Record<string, Preset>>;

export type PresetName = keyof typeof presets;

export const presetNames = Object.keys(presets) as [PresetName, ...PresetName[]];
