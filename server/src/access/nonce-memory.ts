import type { Clock } from "../lib/clock.ts";

/** A signature that was created longer ago is too old. */
export const WINDOW_S = 300;
/** How far a caller's clock may be ahead of the server's. */
export const AHEAD_S = 30;

export interface NonceUse {
  readonly keyId: string;
  readonly nonce: string;
  /** When the signature was created, by the caller's clock, in seconds since the epoch. */
  readonly createdS: number;
}

export type NonceVerdict =
  | { readonly kind: "new" }
  | { readonly kind: "used" }
  /** Nonces of signatures that were created before this second are not known here, or no longer. */
  | { readonly kind: "not-known"; readonly knownFromS: number }
  | { readonly kind: "full" };

/**
 * Which nonces of a key were used; each is taken once within the window in which its signature could be sent again. Take one
 * only when its signature is proven, else anybody could use up another's.
 */
export interface NonceMemory {
  /** A promise, where the memory is shared; rejects when it cannot be asked. */
  take(use: NonceUse): NonceVerdict | Promise<NonceVerdict>;
  close(): Promise<void>;
}

const BUCKET_S = 30;
/** Of 100 bytes or so each. */
const MOST_NONCES = 1_000_000;

/**
 * Nonces in this process's memory.
 *
 * They stand in buckets by when their signatures were created, and a bucket is dropped whole when all in it are too old. From
 * then on nothing of its time is taken, also when the clock is set back; and nothing that was created before this process
 * began, since the one before it may have taken it.
 *
 * A key may hold as many as there is room for yet: one alone half of all, a second beside it a quarter. So no key can use up
 * another's room, a newcomer finds some beside many who take all they can, and there are never more than `mostNonces`.
 */
export function createNonceMemory(options: { readonly clock: Clock; readonly mostNonces?: number }): NonceMemory {
  const { clock, mostNonces = MOST_NONCES } = options;
  const buckets = new Map<number, Map<string, Set<string>>>();
  const counts = new Map<string, number>();
  let total = 0;
  const begunMs = clock.monotonicMs();
  let droppedToS = 0;

  /** By the present clock, which may have been set since: a wrong one at the start refuses nobody for long. */
  const begunAtS = (): number => Math.ceil((clock.now() - (clock.monotonicMs() - begunMs)) / 1_000);

  function forgetOld(): void {
    const oldestS = Math.floor(clock.now() / 1_000) - WINDOW_S;
    for (const [startS, bucket] of buckets) {
      const endS = startS + BUCKET_S;
      if (endS > oldestS) continue;
      buckets.delete(startS);
      droppedToS = Math.max(droppedToS, endS);
      for (const [keyId, nonces] of bucket) {
        total -= nonces.size;
        const left = counts.get(keyId)! - nonces.size;
        if (left === 0) counts.delete(keyId);
        else counts.set(keyId, left);
      }
    }
  }

  function isUsed(keyId: string, nonce: string): boolean {
    for (const bucket of buckets.values()) if (bucket.get(keyId)?.has(nonce) === true) return true;
    return false;
  }

  function noncesOf(keyId: string, createdS: number): Set<string> {
    const startS = createdS - (createdS % BUCKET_S);
    let bucket = buckets.get(startS);
    if (bucket === undefined) buckets.set(startS, (bucket = new Map()));
    let nonces = bucket.get(keyId);
    if (nonces === undefined) bucket.set(keyId, (nonces = new Set()));
    return nonces;
  }

  return {
    take({ keyId, nonce, createdS }) {
      forgetOld();
      const knownFromS = Math.max(droppedToS, begunAtS());
      if (createdS < knownFromS) return { kind: "not-known", knownFromS };
      if (isUsed(keyId, nonce)) return { kind: "used" };
      const held = counts.get(keyId) ?? 0;
      if (held >= mostNonces - total) return { kind: "full" };
      // A copy: a piece of a header would keep the whole header in memory.
      noncesOf(keyId, createdS).add(Buffer.from(nonce, "latin1").toString("latin1"));
      counts.set(keyId, held + 1);
      total += 1;
      return { kind: "new" };
    },
    close: () => Promise.resolve(),
  };
}
