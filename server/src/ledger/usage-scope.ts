import type { SqlValue } from "../storage/database.ts";

/** Whose usage is read. All keys is said in so many words, so that a missing id can never mean it. */
export type UsageScope = { readonly keyId: string } | "all-keys";

/** A condition on `key_id`, to stand behind `where`. */
export function scopeCondition(scope: UsageScope): { readonly sql: string; readonly params: readonly SqlValue[] } {
  return scope === "all-keys" ? { sql: "true", params: [] } : { sql: "key_id = ?", params: [scope.keyId] };
}
