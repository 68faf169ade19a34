import type { Database, Row } from "../storage/database.ts";
import { BEFORE_FIRST, type ChainPlace } from "./entry-hash.ts";

export interface TrailEnds {
  /** The last entry that retention deleted; sequence 0 when there was none. */
  readonly beginning: ChainPlace;
  readonly head: ChainPlace;
  readonly seal: string | null;
  /** Of the entries that are there, whatever the marks say. */
  readonly first: number | undefined;
  readonly last: number | undefined;
}

/** Where the trail begins and ends, all at one moment. Throws StorageUnavailable. */
export async function readTrailEnds(database: Database): Promise<TrailEnds> {
  const [marks = [], [entries] = []] = await database.read([
    { sql: "select name, sequence, hash, seal from audit_marks", params: [] },
    { sql: "select min(sequence) as first, max(sequence) as last from audit_entries", params: [] },
  ]);
  const markOf = (name: string): Row | undefined => marks.find((row) => row["name"] === name);
  const placeOf = (row: Row | undefined): ChainPlace =>
    row === undefined ? BEFORE_FIRST : { sequence: Number(row["sequence"]), hash: String(row["hash"]) };
  const number = (value: unknown): number | undefined => (typeof value === "bigint" ? Number(value) : undefined);
  return {
    beginning: placeOf(markOf("beginning")),
    head: placeOf(markOf("head")),
    seal: (markOf("head")?.["seal"] ?? null) as string | null,
    first: number(entries?.["first"]),
    last: number(entries?.["last"]),
  };
}
