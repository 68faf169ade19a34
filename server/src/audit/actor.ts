export const ACTOR_KINDS = ["admin", "cli", "key", "self_service", "system", "unknown"] as const;

/** Who does something that is put on record. */
export interface Actor {
  /** `system` is the gateway itself, `cli` who has the database at hand, `unknown` who could not show who he is. */
  readonly kind: (typeof ACTOR_KINDS)[number];
  /** Of a key that acts. */
  readonly keyId?: string;
  readonly ip?: string;
  readonly requestId?: string;
}

export const SYSTEM: Actor = { kind: "system" };
