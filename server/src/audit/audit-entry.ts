import type { Actor } from "./actor.ts";
import type { AuditedAct, AuditedRequest } from "./audit-trail.ts";

export const ENTRY_KINDS = ["request", "refusal", "act", "notice"] as const;

export type EntryKind = (typeof ENTRY_KINDS)[number];

/** What an entry says, before it has its place in the chain. */
export interface AuditEntry {
  readonly occurredAtMs: number;
  readonly kind: EntryKind;
  readonly actor: Actor;
  readonly action?: string | undefined;
  readonly method?: string | undefined;
  readonly route?: string | undefined;
  readonly target?: string | undefined;
  readonly status?: number | undefined;
  readonly code?: string | undefined;
  readonly details?: Readonly<Record<string, unknown>> | undefined;
}

export const entryOfRequest = (request: AuditedRequest, occurredAtMs: number): AuditEntry => ({
  ...request,
  occurredAtMs,
});

export const entryOfAct = ({ actor, action, target, before, after }: AuditedAct, occurredAtMs: number): AuditEntry => ({
  occurredAtMs,
  kind: "act",
  actor,
  action,
  target,
  ...((before ?? after) && { details: { ...(before && { before }), ...(after && { after }) } }),
});

/** What the gateway says of itself and of the trail. The verification reads some of these; see NOTICES. */
export const notice = (
  action: string,
  occurredAtMs: number,
  details: Readonly<Record<string, unknown>>,
): AuditEntry => ({ occurredAtMs, kind: "notice", actor: { kind: "system" }, action, details });

export const NOTICES = {
  instanceStart: "instance.start",
  instanceStop: "instance.stop",
  /** Entries that the queue could not take. */
  dropped: "audit.dropped",
  /** Old entries were deleted, and which was the last. */
  retention: "audit.retention",
  /** The head was not what its seal says: the chain was written anew by somebody without the key. */
  sealBroken: "audit.seal_broken",
  /** The head was sealed under a key that the writer does not have. */
  sealUnknown: "audit.seal_unknown",
  /** There was less of the trail than this process had written. */
  cutBack: "audit.cut_back",
} as const;
