import { BrikkError } from "../errors.ts";

/**
 * Where a page ended, as callers hand it back to have the next one. A cursor says where to go on and grants nothing: whoever reads
 * the page asks as always what the caller may see.
 */
export interface Cursor<Position> {
  /** Null at the end of the list. */
  write(position: Position | undefined): string | null;
  /** Undefined: from the beginning. Throws invalid_request for what this list never gave. */
  read(cursor: string | undefined): Position | undefined;
}

/** A position of a number and a text, of which `form` says how they stand: the number in its first group, the text in its second. */
export function cursorOver<Position>(
  form: RegExp,
  partsOf: (position: Position) => readonly [number: number | bigint, text: string | number],
  positionOf: (number: string, text: string) => Position,
): Cursor<Position> {
  const format = (position: Position): string => Buffer.from(partsOf(position).join(".")).toString("base64url");
  return {
    write: (position) => (position === undefined ? null : format(position)),
    read(cursor) {
      if (cursor === undefined) return undefined;
      const match = form.exec(Buffer.from(cursor, "base64url").toString("utf8"));
      const position = match === null ? undefined : positionOf(match[1]!, match[2]!);
      // Decoding is forgiving, and every place has one spelling.
      if (position !== undefined && format(position) === cursor) return position;
      throw new BrikkError(
        "invalid_request",
        "cursor is none of ours; send the next_cursor of the page before as it is.",
        {
          param: "cursor",
        },
      );
    },
  };
}
