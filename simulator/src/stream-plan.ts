/**
 * A streamed answer before it is sent: the events in order, and what happens after the last. A fault rewrites the plan
 * and the player plays whatever it is given, so neither knows the other.
 */
import type { Fault } from "./faults.ts";
import { COMMENT, type Heartbeats } from "./heartbeats.ts";

export interface StreamEvent {
  /** `done` is the end mark; `end` and `usage` close an answer; `broken` carries what a fault put in. */
  readonly kind: "start" | "token" | "end" | "usage" | "done" | "broken";
  /** The bytes on the wire, blank line included. */
  readonly data: string;
  /** Completion tokens that this event brings, reasoning included. */
  readonly tokens: number;
  readonly reasoningTokens: number;
}

export interface StreamPlan {
  readonly events: readonly StreamEvent[];
  readonly ending: Ending;
}

/**
 * What becomes of the connection: the answer's proper end; its close in the middle of the HTTP message (FIN); its reset
 * (RST); nothing any more, until the client leaves; or heartbeats and then the proper end.
 */
export type Ending = "close" | "destroy" | "reset" | "silence" | Heartbeats;

export function streamEvent(kind: StreamEvent["kind"], json: string, tokens = 0): StreamEvent {
  return { kind, data: `data: ${json}\n\n`, tokens, reasoningTokens: 0 };
}

export const DONE_EVENT: StreamEvent = streamEvent("done", "[DONE]");

/** The reasoning tokens are spent before the first event that shows anything, and are counted with it. */
export function withReasoning(events: readonly StreamEvent[], reasoningTokens: number): StreamEvent[] {
  const first = events.findIndex((event) => event.kind !== "start");
  return events.map((event, index) =>
    index === first ? { ...event, tokens: event.tokens + reasoningTokens, reasoningTokens } : event,
  );
}

/** The plan as the fault spoils it. `errorJson` is the vendor's error for `error-event`. */
export function spoilPlan(plan: StreamPlan, fault: Fault | undefined, errorJson: string): StreamPlan {
  switch (fault?.kind) {
    case "stall":
      return { events: firstTokens(plan, fault.afterTokens), ending: "silence" };
    case "cut":
      return { events: firstTokens(plan, fault.afterTokens), ending: "destroy" };
    case "goodbye":
      return { events: firstTokens(plan, fault.afterTokens), ending: "close" };
    case "reset":
      return { events: firstTokens(plan, fault.afterTokens ?? 0), ending: "reset" };
    case "heartbeat":
      return { events: [], ending: { ...fault, beats: [COMMENT, ...roleOnly(plan)] } };
    case "trickle":
      return { events: firstTokens(plan, fault.afterTokens), ending: { ...fault, beats: [COMMENT] } };
    case "error-event": {
      const json = fault.body === undefined ? errorJson : JSON.stringify(fault.body);
      return { events: [...firstTokens(plan, fault.afterTokens), streamEvent("broken", json)], ending: "close" };
    }
    case "error-body":
      return { events: [streamEvent("broken", errorJson)], ending: "close" };
    case "malformed-chunk": {
      const before = firstTokens(plan, fault.afterTokens);
      const next = plan.events[before.length]?.data ?? DONE_EVENT.data;
      const half = next.slice("data: ".length, "data: ".length + Math.floor(next.length / 2));
      return { events: [...before, streamEvent("broken", half), ...plan.events.slice(before.length)], ending: "close" };
    }
    case "missing-done":
      return { events: plan.events.filter((event) => event.kind !== "done"), ending: "close" };
    case "empty-stream":
      return { events: [], ending: "close" };
    default:
      return plan;
  }
}

/** The delta that says who speaks and no more; a tool call's says what is called as well. */
function roleOnly(plan: StreamPlan): readonly string[] {
  const start = plan.events.find((event) => event.kind === "start" && event.tokens === 0);
  return start === undefined ? [] : [start.data];
}

/** The events up to so many tokens of text; never the end of the answer. */
function firstTokens(plan: StreamPlan, tokens: number): readonly StreamEvent[] {
  let shown = 0;
  const beyond = plan.events.findIndex((event) => (shown += event.tokens - event.reasoningTokens) > tokens);
  const end = plan.events.findLastIndex((event) => event.kind === "end");
  return plan.events.slice(0, beyond < 0 || beyond > end ? end : beyond);
}
