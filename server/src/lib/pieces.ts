/** Powers of two, the largest first. */
const SIZES = [16, 8, 4, 2, 1] as const;

/**
 * Cuts rows into pieces of few different lengths, in order. Each length is a statement of its own text, and the databases
 * remember a bounded number of texts.
 */
export function inPieces<T>(rows: readonly T[]): T[][] {
  const pieces: T[][] = [];
  let start = 0;
  for (const size of SIZES)
    for (; rows.length - start >= size; start += size) pieces.push(rows.slice(start, start + size));
  return pieces;
}
