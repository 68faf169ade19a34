import type { Transaction } from "kysely";
import type { Schema } from "../storage/schema.ts";
import type { Actor } from "./actor.ts";

/** What somebody did to the gateway's keys, credentials or switches. Secrets are left out by whoever makes it. */
export interface AuditedAct {
  readonly actor: Actor;
  /** Such as `key.create`. */
  readonly action: string;
  /** What it was done to: a key's id, a provider's name. */
  readonly target?: string;
  readonly before?: Readonly<Record<string, unknown>>;
  readonly after?: Readonly<Record<string, unknown>>;
}

/** A request whose caller was known, or one that was refused at a door. */
export interface AuditedRequest {
  readonly kind: "request" | "refusal";
  readonly actor: Actor;
  /** The route's template, never the path. */
  readonly route: string;
  readonly method: string;
  /** As it was sent; undefined when the caller left before an answer began. */
  readonly status: number | undefined;
  /** Of what was not served: the error's code. */
  readonly code?: string;
}

/** The audit trail, as those who write to it see it. */
export interface AuditTrail {
  /** Never waits and never throws; what the queue cannot take is counted and said. */
  noteRequest(request: AuditedRequest): void;
  /** Written in the transaction of the act itself, so that there is never one without the other. */
  recordIn(transaction: Transaction<Schema>, act: AuditedAct): Promise<void>;
  /** For what changes nothing in the database; resolves when it is durable. */
  record(act: AuditedAct): Promise<void>;
}

export const NO_AUDIT_TRAIL: AuditTrail = {
  noteRequest: () => undefined,
  recordIn: () => Promise.resolve(),
  record: () => Promise.resolve(),
};
