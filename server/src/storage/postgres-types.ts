import { type CustomTypesConfig, types } from "pg";
import type { SqlValue } from "./database.ts";

const { BOOL, BYTEA, FLOAT4, FLOAT8, INT2, INT4, INT8, NUMERIC } = types.builtins;

/** A sum of bigints is a numeric. What has a fraction is a number, as in SQLite. */
const wholeOrFraction = (text: string): SqlValue => (/^-?\d+$/.test(text) ? BigInt(text) : Number(text));

const parsers: ReadonlyMap<number, (text: string) => SqlValue> = new Map<number, (text: string) => SqlValue>([
  [INT2, BigInt],
  [INT4, BigInt],
  [INT8, BigInt],
  [NUMERIC, wholeOrFraction],
  [FLOAT4, Number],
  [FLOAT8, Number],
  [BOOL, (text) => (text === "t" ? 1n : 0n)],
  [BYTEA, (text) => new Uint8Array(types.getTypeParser(BYTEA)(text) as Buffer)],
]);

/** Reads columns as the SQLite side gives them: integers and truth as bigint, bytes as Uint8Array, everything else as text. */
export const postgresTypes: CustomTypesConfig = {
  getTypeParser: (oid: number) => parsers.get(oid) ?? ((text: string) => text),
};
