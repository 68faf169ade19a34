import { hashText, seededRandom } from "./seeded-random.ts";

const MOST_WORDS = 64;
const PLACES_PER_WORD = 48;
const NOISE = 0.15;

/**
 * A unit vector for a text: always the same for the same text, and closer for texts that share words. Its values are
 * rounded to eight decimals, as the vendors send them.
 */
export function embedText(text: string, dimensions: number): Float64Array {
  const vector = new Float64Array(dimensions);
  const noise = seededRandom(hashText(text));
  for (let place = 0; place < dimensions; place += 1) vector[place] = (noise() - 0.5) * NOISE;
  const words =
    text
      .slice(0, 4000)
      .toLowerCase()
      .match(/[\p{L}\p{N}]+/gu) ?? [];
  for (const word of words.slice(0, MOST_WORDS)) addWord(vector, word);
  return toUnitLength(vector);
}

function addWord(vector: Float64Array, word: string): void {
  const random = seededRandom(hashText(word));
  for (let count = 0; count < PLACES_PER_WORD; count += 1) {
    const place = Math.floor(random() * vector.length);
    vector[place] = (vector[place] ?? 0) + (random() < 0.5 ? -1 : 1);
  }
}

function toUnitLength(vector: Float64Array): Float64Array {
  const length = Math.hypot(...vector);
  return vector.map((value) => Math.round((value / length) * 1e8) / 1e8);
}

/** Little-endian 32-bit floats in base64: what `encoding_format: "base64"` means to both vendors. */
export function encodeVector(vector: Float64Array): string {
  const bytes = Buffer.allocUnsafe(vector.length * 4);
  vector.forEach((value, place) => bytes.writeFloatLE(value, place * 4));
  return bytes.toString("base64");
}
