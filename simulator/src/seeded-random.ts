import { hash } from "node:crypto";

/** A number in [0, 1) per call; the same seed gives the same sequence. */
export type Random = () => number;

/** 32 bits that stand for a text: the same on every machine and in every run. */
export function hashText(text: string): number {
  return hash("sha1", text, "buffer").readUInt32LE(0);
}

/** A Weyl sequence passed through a 32-bit finaliser: fast, and even enough for choosing sentences and faults. */
export function seededRandom(seed: number): Random {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x9e3779b9) >>> 0;
    let mixed = state ^ (state >>> 16);
    mixed = Math.imul(mixed, 0x21f0aaad);
    mixed ^= mixed >>> 15;
    mixed = Math.imul(mixed, 0x735a2d97);
    mixed ^= mixed >>> 15;
    return (mixed >>> 0) / 4_294_967_296;
  };
}

/** One of the items. Throws a RangeError when there are none. */
export function pick<T>(random: Random, items: readonly T[]): T {
  const item = items[Math.floor(random() * items.length)];
  if (item === undefined) throw new RangeError("cannot pick from an empty list");
  return item;
}

/** The items in another order; the input is left as it was. */
export function shuffle<T>(random: Random, items: readonly T[]): T[] {
  return items
    .map((item) => ({ item, order: random() }))
    .sort((left, right) => left.order - right.order)
    .map(({ item }) => item);
}
