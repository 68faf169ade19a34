import type { ApiKey } from "./api-key.ts";

/**
 * One decision for each request, before its body is read:
 *
 *   admit -> allowed:  charge(tokens) once its usage is settled, release() once its answer is over
 *         -> refused:  nothing was counted, by any rule
 *
 * All rules that apply are decided together, all or nothing, so a request that one rule refuses uses up none of the others. The
 * rules count in this process's memory (memory-rate-limiter.ts), or in Redis for all instances (shared-rate-limiter.ts).
 */
export interface RateLimiter {
  /** Synchronous where memory can tell, so that the common case costs no promise. Never throws, never rejects. */
  admit(caller: Caller): Admission | Promise<Admission>;
  /** What `admit` would decide right now. Counts nothing. */
  peek(caller: Caller): RateVerdict | Promise<RateVerdict>;
  /** Where the counts are kept right now. */
  readonly place: "memory" | "redis" | "memory-while-redis-is-down";
  close(): Promise<void>;
}

export interface Caller {
  readonly key: ApiKey;
  /** The other end of the socket; undefined when it is gone. */
  readonly remoteAddress: string | undefined;
  /** What is asked takes no slot of the key's, and needs none to be free. */
  readonly withoutSlot?: true | undefined;
}

export type RateVerdict = Passed | Refused;
export type Admission = Admitted | Refused;

interface Passed {
  readonly allowed: true;
  readonly rules: readonly RateRule[];
}

export interface Admitted extends Passed {
  /** There when the request holds one of the key's slots. To be called when its answer is over; a second call does nothing. */
  readonly release: (() => void) | undefined;
  /** Counts what the request used against the key's tokens per minute, if it has such a limit. */
  readonly charge: (tokens: number) => void;
}

export interface Refused {
  readonly allowed: false;
  readonly rules: readonly RateRule[];
  /** Of the rules that refuse, the one that does so for longest. */
  readonly refusedBy: RateRule;
}

/** The rules there are, under the names by which headers and refusals speak of them. */
export type RateRuleName = "key-rpm" | "key-tpm" | "ip-rpm" | "key-concurrency";

/** Where a rule stands after a decision, and after its counting if it counted. Times are whole milliseconds, rounded up. */
export interface RateRule {
  readonly name: RateRuleName;
  /** Per minute, and the most at once; of `key-concurrency`, the most in hand. */
  readonly limit: number;
  /** How many more would pass right now. */
  readonly remaining: number;
  /** Until the whole limit is there again, if nothing more comes. */
  readonly resetMs: number;
  /** Until a request would pass; 0 when one would pass now. */
  readonly waitMs: number;
}
