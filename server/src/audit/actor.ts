/** Who does something that is put on record. */
export interface Actor {
  /** `system` is the gateway itself, `cli` who has the database at hand. */
  readonly kind: "admin" | "cli" | "key" | "self_service" | "system";
  /** Of a key that acts. */
  readonly keyId?: string;
  readonly ip?: string;
  readonly requestId?: string;
}

export const SYSTEM: Actor = { kind: "system" };
