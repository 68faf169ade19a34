import type { Database, Row } from "../storage/database.ts";
import { NOTICES } from "./audit-entry.ts";
import { BEFORE_FIRST, type ChainPlace, contentOfRow, entryHash } from "./entry-hash.ts";
import type { HeadSeals } from "./head-seals.ts";
import { readTrailEnds, type TrailEnds } from "./trail-ends.ts";

/**
 * Proves the audit trail from its own rows, oldest first, in pages, so that neither its length nor a server that goes on writing
 * matters. What has to hold:
 *
 * - every entry's hash is that of its content, its number and the hash before it (`changed`, `unlinked`), and numbers have no gap
 *   (`missing`);
 * - it begins where its newest notice of retention says, or at 1 (`beginning`);
 * - it ends at the head (`missing`, `beyond-head`, `head`), whose seal was made by who has an encryption key (`seal`);
 * - no instance found it otherwise than it was left (`suspicion`);
 * - a head that was noted elsewhere is in it (`expected-head`).
 *
 * What this cannot find without such a head: that all of it was put back to an earlier state that had been sealed.
 */
export interface TrailVerification {
  readonly entries: number;
  /** The last entry that retention deleted; sequence 0 when there was none. */
  readonly beginning: ChainPlace;
  readonly head: ChainPlace;
  readonly faults: readonly TrailFault[];
  /** `faults` has at most FAULTS_SHOWN of them. */
  readonly faultCount: number;
  /** The newest instances that started and did not stop: killed, or running still. */
  readonly unstopped: readonly {
    readonly instance: string;
    readonly sequence: number;
    readonly occurredAtMs: number;
  }[];
  /** Entries that queues could not take, as the trail says itself. */
  readonly dropped: number;
}

export type TrailRule =
  | "changed"
  | "unlinked"
  | "missing"
  | "beginning"
  | "beyond-head"
  | "head"
  | "seal"
  | "suspicion"
  | "expected-head";

export interface TrailFault {
  readonly rule: TrailRule;
  /** The entry that it is about. */
  readonly sequence: number;
  /** A sentence without its full stop. */
  readonly what: string;
}

const FAULTS_SHOWN = 50;
const UNSTOPPED_SHOWN = 20;
const PAGE = 1_000;

export interface VerifyTrailOptions {
  readonly database: Database;
  /** Undefined: no encryption key is at hand, so that seals cannot be checked, which is a fault. */
  readonly seals: HeadSeals | undefined;
  readonly expectedHead?: ChainPlace;
  /** Called after every page. */
  readonly onProgress?: (entries: number, head: number) => void;
}

/** Throws StorageUnavailable. */
export async function verifyTrail(options: VerifyTrailOptions): Promise<TrailVerification> {
  const { database, seals, expectedHead, onProgress } = options;
  const faults: TrailFault[] = [];
  let faultCount = 0;
  const fault = (rule: TrailRule, sequence: number, what: string): void => {
    faultCount += 1;
    if (faults.length < FAULTS_SHOWN) faults.push({ rule, sequence, what });
  };

  let bounds = await readTrailEnds(database);
  let place = bounds.beginning;
  let entries = 0;
  let dropped = 0;
  let lastDeleted: ChainPlace = BEFORE_FIRST;
  const unstopped = new Map<string, TrailVerification["unstopped"][number]>();
  let expectation = "open" as "open" | "met" | "failed";
  const meet = (at: ChainPlace): void => {
    if (expectedHead === undefined || at.sequence !== expectedHead.sequence) return;
    expectation = at.hash === expectedHead.hash ? "met" : "failed";
  };
  meet(place);

  const readNotice = (row: Row, sequence: number): void => {
    const details = detailsOf(row);
    switch (row["action"]) {
      case NOTICES.instanceStart:
        unstopped.set(String(details["instance"]), {
          instance: String(details["instance"]),
          sequence,
          occurredAtMs: Number(row["occurred_at_ms"]),
        });
        if (unstopped.size > UNSTOPPED_SHOWN) unstopped.delete(unstopped.keys().next().value!);
        return;
      case NOTICES.instanceStop:
        unstopped.delete(String(details["instance"]));
        return;
      case NOTICES.dropped:
        dropped += Number(details["entries"]) || 0;
        return;
      case NOTICES.retention:
        lastDeleted = placeOf(details["last_deleted"]);
        return;
      case NOTICES.sealBroken:
        return fault(
          "suspicion",
          sequence,
          `an instance found that the seal of entry ${placeOf(details["found"]).sequence} was not made with an encryption key: entries up to it may have been written anew`,
        );
      case NOTICES.sealUnknown: {
        const found = placeOf(details["found"]);
        const seal = String(details["seal"]);
        // Whoever has that key now can tell after all.
        if (seals?.check(found, seal) === "holds") return;
        return fault(
          "suspicion",
          sequence,
          `an instance found entry ${found.sequence} sealed under the key ${seal.split(".", 1)[0]}, which it did not have: verify with a BRIKK_ENCRYPTION_KEY that holds it as well, or take it that entries up to there may have been written anew`,
        );
      }
      case NOTICES.cutBack:
        return fault(
          "suspicion",
          sequence,
          `an instance that had written up to entry ${placeOf(details["written"]).sequence} found the trail ending at ${placeOf(details["found"]).sequence}: entries were taken away or replaced`,
        );
      default:
    }
  };

  const readRow = (row: Row): void => {
    const sequence = Number(row["sequence"]);
    const hash = String(row["hash"]);
    const previousHash = String(row["previous_hash"]);
    if (sequence !== place.sequence + 1)
      fault("missing", place.sequence + 1, missing(place.sequence + 1, sequence - 1));
    else if (previousHash !== place.hash)
      fault(
        "unlinked",
        sequence,
        sequence === bounds.beginning.sequence + 1
          ? `entry ${sequence} does not follow the one that is said to be the last deleted`
          : `entry ${sequence} does not follow entry ${place.sequence} as that is now: one was put in, taken out, moved or changed here`,
      );
    if (entryHash(sequence, contentOfRow(row), previousHash) !== hash)
      fault(
        "changed",
        sequence,
        `entry ${sequence} is not what its hash was made of: it was changed, moved or made up`,
      );
    if (row["kind"] === "notice") readNotice(row, sequence);
    place = { sequence, hash };
    entries += 1;
    meet(place);
  };

  /** Reads on to the head of the bounds, which there may be newer ones of meanwhile. */
  const walk = async (): Promise<void> => {
    while (place.sequence < bounds.head.sequence) {
      const rows = await database.all({
        sql: "select * from audit_entries where sequence > ? and sequence <= ? order by sequence limit ?",
        params: [place.sequence, bounds.head.sequence, PAGE],
      });
      const next = rows[0] === undefined ? undefined : Number(rows[0]["sequence"]);
      if (next !== place.sequence + 1) {
        // Retention may have passed by.
        const now = await readTrailEnds(database);
        if (now.beginning.sequence > place.sequence) {
          bounds = now;
          place = now.beginning;
          meet(place);
          continue;
        }
      }
      if (next === undefined) {
        fault("missing", place.sequence + 1, missing(place.sequence + 1, bounds.head.sequence));
        return;
      }
      for (const row of rows) readRow(row);
      onProgress?.(entries, bounds.head.sequence);
    }
  };

  await walk();
  // What was written meanwhile; then all is compared with one state of the marks.
  if (faultCount === 0) {
    bounds = await readTrailEnds(database);
    await walk();
  }
  const { beginning, head, seal, first, last } = bounds;
  if (first !== undefined && first <= beginning.sequence)
    fault(
      "beginning",
      first,
      `entry ${first} is there, and the mark says that entries up to ${beginning.sequence} were deleted`,
    );
  if (last !== undefined && last > head.sequence)
    fault(
      "beyond-head",
      head.sequence + 1,
      `entry ${last} is there, and the head is entry ${head.sequence}: somebody else added to the trail`,
    );
  if (place.sequence === head.sequence && place.hash !== head.hash)
    fault("head", head.sequence, `the head's hash is not that of entry ${head.sequence}`);
  if (lastDeleted.sequence !== beginning.sequence || (beginning.sequence > 0 && lastDeleted.hash !== beginning.hash))
    fault(
      "beginning",
      beginning.sequence,
      `the mark says that entries up to ${beginning.sequence} were deleted, and the trail's newest notice of retention says ${lastDeleted.sequence === 0 ? "nothing of it" : `up to ${lastDeleted.sequence}`}: entries were taken out by hand`,
    );
  const sealFault = sealFaultOf(seals, head, seal);
  if (sealFault !== undefined) fault("seal", head.sequence, sealFault);
  if (expectedHead !== undefined && expectation !== "met")
    fault("expected-head", expectedHead.sequence, expectationFault(expectedHead, expectation, bounds));
  return {
    entries,
    beginning,
    head,
    faults,
    faultCount,
    unstopped: [...unstopped.values()],
    dropped,
  };
}

function sealFaultOf(seals: HeadSeals | undefined, head: ChainPlace, seal: string | null): string | undefined {
  if (seals === undefined) {
    return head.sequence === 0 && seal === null
      ? undefined
      : "there is no encryption key here to check the head's seal with; set BRIKK_ENCRYPTION_KEY as the server has it";
  }
  const standing = seals.check(head, seal);
  switch (standing) {
    case "holds":
      return undefined;
    case "broken":
      return "the head's seal was not made with an encryption key of this server: the chain may have been written anew, from anywhere on";
    case "unknown-key":
      return `the head was sealed under the key ${seal?.split(".", 1)[0]}, which BRIKK_ENCRYPTION_KEY does not hold, so nothing vouches for the chain`;
    default:
      return standing satisfies never;
  }
}

function expectationFault({ sequence }: ChainPlace, expectation: "open" | "met" | "failed", bounds: TrailEnds): string {
  if (expectation === "failed") return `entry ${sequence} has another hash than the one that was noted`;
  if (sequence > bounds.head.sequence)
    return `the trail ends at entry ${bounds.head.sequence}, before the head that was noted: entries were taken away, or an earlier state was put back`;
  return sequence < bounds.beginning.sequence
    ? `entry ${sequence} was deleted by retention, so nothing can be said about it; note a newer head`
    : `entry ${sequence}, the head that was noted, is not there`;
}

const missing = (from: number, to: number): string =>
  from === to ? `entry ${from} is missing` : `entries ${from} to ${to} are missing`;

/** What somebody changed may be anything, and is found by its hash. */
function detailsOf(row: Row): Record<string, unknown> {
  try {
    const details: unknown = JSON.parse(String(row["details"]));
    return typeof details === "object" && details !== null ? (details as Record<string, unknown>) : {};
  } catch {
    return {};
  }
}

function placeOf(value: unknown): ChainPlace {
  const { sequence, hash } = (value ?? {}) as { sequence?: unknown; hash?: unknown };
  return { sequence: Number(sequence) || 0, hash: String(hash) };
}
