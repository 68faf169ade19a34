import { StatementRejected, type SqlValue } from "./database.ts";

/**
 * A parameter in the form in which both databases take it. Drivers bind undefined and NaN as NULL and numbers as floats or as
 * text; so the first are refused and whole numbers become bigints. Throws StatementRejected.
 */
export function bindable(value: SqlValue, index: number, sql: string): string | bigint | null | Uint8Array {
  if (typeof value === "number") {
    if (Number.isSafeInteger(value)) return BigInt(value);
    throw new StatementRejected(`Parameter ${index + 1} is ${value}, which is not a whole number: ${sql}`);
  }
  if (value === null || typeof value === "string" || typeof value === "bigint" || value instanceof Uint8Array)
    return value;
  throw new StatementRejected(
    `Parameter ${index + 1} is of type ${typeof value}, which the database does not hold: ${sql}`,
  );
}

/** Throws StatementRejected when there is not one parameter for each placeholder. */
export function checkCount(placeholders: number, params: readonly SqlValue[], sql: string): void {
  if (params.length === placeholders) return;
  throw new StatementRejected(
    `The statement has ${placeholders} placeholders but was given ${params.length} parameters: ${sql}`,
  );
}
