/**
 * Faults that can be put on the simulated vendors. A rule names a vendor, a share of its requests and how many times it
 * may strike; the first rule that applies to a request and is drawn decides it. Only requests that the vendor would have
 * answered draw: a refused one never uses a fault up. Faults that only a stream can show are skipped by plain requests.
 */
import { z } from "zod";
import { seededRandom } from "./seeded-random.ts";
import type { Random } from "./seeded-random.ts";
import { VENDORS } from "./vendor.ts";
import type { Vendor } from "./vendor.ts";

export { VENDORS } from "./vendor.ts";

/** Tokens of text that come before the fault does. */
const afterTokens = z.int().min(0);
const everyMs = z.int().min(1).max(3_600_000);
const headerFields = z.record(z.string().regex(/^[\w-]+$/u), z.string().regex(/^[\x20-\x7e]*$/u));

export const faultSchema = z.discriminatedUnion("kind", [
  z.strictObject({
    kind: z.literal("status"),
    status: z.int().min(400).max(599),
    /** A string is sent as it is, anything else as JSON; without one the vendor's own error body is sent. */
    body: z.unknown().optional(),
    /** Seconds. */
    retryAfter: z.number().min(0).optional(),
    /** Sent as an HTTP date, which lies so many seconds ahead, rounded up to a whole one. */
    retryAfterDate: z.number().min(0).max(31_536_000).optional(),
    /** As for `retry-after-ms`. These go before what the fault would send under the same name. */
    headers: headerFields.optional(),
  }),
  z.strictObject({ kind: z.literal("quota") }),
  z.strictObject({ kind: z.literal("no-allowance") }),
  z.strictObject({ kind: z.literal("refuse-content") }),
  z.strictObject({ kind: z.literal("context-length") }),
  z.strictObject({ kind: z.literal("reset"), afterTokens: afterTokens.optional() }),
  z.strictObject({ kind: z.literal("hang") }),
  z.strictObject({ kind: z.literal("hang-after-headers") }),
  /** With `everyMs` the wait is filled with signs of life. */
  z.strictObject({
    kind: z.literal("slow-first-token"),
    ms: z.int().min(0).max(3_600_000),
    everyMs: everyMs.optional(),
  }),
  /** Signs of life without an answer: for `ms`, then the end; without it, for ever. */
  z.strictObject({ kind: z.literal("heartbeat"), everyMs, ms: z.int().min(0).max(3_600_000).optional() }),
  z.strictObject({ kind: z.literal("trickle"), afterTokens, everyMs, ms: z.int().min(0).max(3_600_000).optional() }),
  z.strictObject({ kind: z.literal("stall"), afterTokens }),
  z.strictObject({ kind: z.literal("cut"), afterTokens }),
  z.strictObject({ kind: z.literal("goodbye"), afterTokens }),
  z.strictObject({ kind: z.literal("malformed-chunk"), afterTokens }),
  /** `body` in the place of the vendor's own error; sent as JSON. */
  z.strictObject({ kind: z.literal("error-event"), afterTokens, body: z.unknown().optional() }),
  z.strictObject({ kind: z.literal("missing-done") }),
  z.strictObject({ kind: z.literal("empty-stream") }),
  z.strictObject({ kind: z.literal("error-body") }),
  z.strictObject({ kind: z.literal("unusable-body"), body: z.enum(["null", "html"]).optional() }),
  z.strictObject({ kind: z.literal("split"), bytes: z.int().min(1) }),
  z.strictObject({ kind: z.literal("slow-body"), everyMs, bytes: z.int().min(1).optional() }),
]);

export const faultRuleSchema = z.strictObject({
  vendor: z.enum([...VENDORS, "*"]),
  /** The part of the requests it strikes, 0 to 1; 1 when left out. */
  share: z.number().min(0).max(1).optional(),
  /** How often it may strike; without end when left out. */
  count: z.int().min(1).optional(),
  fault: faultSchema,
});

export type Fault = z.infer<typeof faultSchema>;
export type FaultRule = z.infer<typeof faultRuleSchema>;
export type ActiveFault = FaultRule & { readonly id: string; readonly struck: number };

const STREAM_ONLY: ReadonlySet<Fault["kind"]> = new Set(["missing-done", "error-event", "empty-stream"]);

/** The faults in force. Which requests a share strikes follows from the seed. */
export class FaultBoard {
  readonly #random: Random;
  #rules: ActiveFault[] = [];
  #made = 0;

  constructor(seed: number) {
    this.#random = seededRandom(seed);
  }

  /** Adds a rule behind those in force. Throws a ZodError for a rule that is not one. */
  set(rule: FaultRule): ActiveFault {
    const parsed = faultRuleSchema.parse(rule);
    this.#made += 1;
    const active = { ...parsed, id: `fault-${this.#made}`, struck: 0 };
    this.#rules.push(active);
    return active;
  }

  list(): readonly ActiveFault[] {
    return [...this.#rules];
  }

  /** Takes one rule away; false when there is none of that id, any more or ever. */
  unset(id: string): boolean {
    const left = this.#rules.filter((rule) => rule.id !== id);
    const found = left.length < this.#rules.length;
    this.#rules = left;
    return found;
  }

  clear(): void {
    this.#rules = [];
  }

  /** The fault this request meets, counted as struck; undefined for a healthy answer. */
  draw(vendor: Vendor, stream: boolean): Fault | undefined {
    for (const rule of this.#rules) {
      if (rule.vendor !== "*" && rule.vendor !== vendor) continue;
      if (!stream && STREAM_ONLY.has(rule.fault.kind)) continue;
      if (rule.share !== undefined && this.#random() >= rule.share) continue;
      this.#strike(rule);
      return rule.fault;
    }
    return undefined;
  }

  #strike(rule: ActiveFault): void {
    const struck = rule.struck + 1;
    const spent = rule.count !== undefined && struck >= rule.count;
    this.#rules = spent
      ? this.#rules.filter((other) => other !== rule)
      : this.#rules.map((other) => (other === rule ? { ...rule, struck } : other));
  }
}
