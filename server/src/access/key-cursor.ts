/** A place in the list of keys, which is by time of making and then by id. */
export interface KeyPosition {
  readonly createdAtMs: number;
  readonly id: string;
}

const POSITION = /^(\d{1,15})\.(bk_[0-9A-Za-z]{12})$/;

/** As callers hand it back. It says where to go on and grants nothing. */
export const formatKeyCursor = ({ createdAtMs, id }: KeyPosition): string =>
  Buffer.from(`${createdAtMs}.${id}`).toString("base64url");

/** Undefined when it is none of ours. */
export function parseKeyCursor(cursor: string): KeyPosition | undefined {
  const match = POSITION.exec(Buffer.from(cursor, "base64url").toString("latin1"));
  if (match === null) return undefined;
  const position = { createdAtMs: Number(match[1]), id: match[2]! };
  // Decoding is forgiving, and every place has one spelling.
  return formatKeyCursor(position) === cursor ? position : undefined;
}
