import { addressGroup } from "../access/address-group.ts";
import type { AuditEntry } from "./audit-entry.ts";
import type { AuditedRequest } from "./audit-trail.ts";

/**
 * Keeps a flood of wrong keys from drowning the trail: of refusals with one code from one address, the first few of a minute are
 * entries of their own, and of the others there is one entry that says how many they were.
 */
export interface RefusalCounts {
  /** Whether it is to be an entry of its own; else it is counted. */
  admit(refusal: AuditedRequest, nowMs: number): boolean;
  /** The counts of minutes that are over, as entries; each is given once. */
  ended(nowMs: number): AuditEntry[];
  /** The counts of all minutes. */
  all(): AuditEntry[];
  /** Whether there is anything that `ended` will give one day. */
  readonly pending: boolean;
}

const REFUSALS_A_MINUTE = 10;
export const MINUTE_MS = 60_000;
/** Of addresses and codes at a time; those that come later are counted together, by code. */
const MOST_SOURCES = 1_000;

interface Source {
  readonly code: string;
  /** Undefined: many. */
  readonly address: string | undefined;
  readonly sinceMs: number;
  admitted: number;
  counted: number;
  firstCountedMs: number;
  lastCountedMs: number;
}

export function createRefusalCounts(): RefusalCounts {
  const sources = new Map<string, Source>();

  function sourceOf({ actor, code = "unknown" }: AuditedRequest, nowMs: number): Source {
    const address = addressGroup(actor.ip);
    const own = sources.get(`${code} ${address}`);
    // What was counted is told first; `ended` sees to that.
    if (own !== undefined && nowMs - own.sinceMs < MINUTE_MS) return own;
    if (own !== undefined && own.counted > 0) return own;
    const isRoom = own !== undefined || sources.size < MOST_SOURCES;
    const name = isRoom ? `${code} ${address}` : code;
    let source = isRoom ? undefined : sources.get(name);
    if (source === undefined) {
      source = {
        code,
        address: isRoom ? address : undefined,
        sinceMs: nowMs,
        admitted: 0,
        counted: 0,
        firstCountedMs: 0,
        lastCountedMs: 0,
      };
      sources.set(name, source);
    }
    return source;
  }

  function take(isOver: (source: Source) => boolean): AuditEntry[] {
    const entries: AuditEntry[] = [];
    for (const [name, source] of sources) {
      if (!isOver(source)) continue;
      sources.delete(name);
      if (source.counted > 0) entries.push(entryOf(source));
    }
    return entries;
  }

  return {
    admit(refusal, nowMs) {
      const source = sourceOf(refusal, nowMs);
      if (source.address !== undefined && source.admitted < REFUSALS_A_MINUTE) {
        source.admitted += 1;
        return true;
      }
      if (source.counted === 0) source.firstCountedMs = nowMs;
      source.lastCountedMs = nowMs;
      source.counted += 1;
      return false;
    },
    ended: (nowMs) => take(({ sinceMs }) => nowMs - sinceMs >= MINUTE_MS),
    all: () => take(() => true),
    get pending() {
      return sources.size > 0;
    },
  };
}

const entryOf = ({ code, address, counted, firstCountedMs, lastCountedMs }: Source): AuditEntry => ({
  occurredAtMs: lastCountedMs,
  kind: "refusal",
  actor: { kind: "unknown", ...(address !== undefined && { ip: address }) },
  code,
  details: {
    more_refusals: counted,
    from: new Date(firstCountedMs).toISOString(),
    to: new Date(lastCountedMs).toISOString(),
  },
});
