import { countTokens as countWhole, decode, encode } from "gpt-tokenizer/encoding/o200k_base";

/** A stretch of text that is whole characters, with the tokens it took: more than one when a character spans tokens. */
export interface TokenPiece {
  readonly text: string;
  readonly tokens: number;
  /** The text as a JSON string, kept because every stream of this answer needs it. */
  readonly json: string;
}

// Byte-pair merging is quadratic in the length of a run without a boundary, so no run longer than this is merged.
const PIECE_CHARS = 2048;
const BOUNDARY_SEARCH_CHARS = 256;
const PLAIN = { disallowedSpecial: new Set<string>() };

/** Texts of at most 2,048 UTF-16 units that join to the whole, cut before a space where there is one nearby. */
export function* cutText(text: string): Generator<string> {
  let start = 0;
  while (text.length - start > PIECE_CHARS) {
    let end = start + PIECE_CHARS;
    const space = text.lastIndexOf(" ", end);
    if (space > end - BOUNDARY_SEARCH_CHARS) end = space;
    else if (isLowSurrogate(text.charCodeAt(end))) end -= 1;
    yield text.slice(start, end);
    start = end;
  }
  if (start < text.length) yield text.slice(start);
}

/** o200k tokens of a text, counted no further than the first piece that passes `limit`. */
export function countTokens(text: string, limit = Number.POSITIVE_INFINITY): number {
  if (text.length <= PIECE_CHARS) return text === "" ? 0 : countWhole(text, PLAIN);
  let total = 0;
  for (const piece of cutText(text)) {
    total += countWhole(piece, PLAIN);
    if (total > limit) return total;
  }
  return total;
}

/** The text as a stream would send it: one token a piece, characters kept whole. The pieces join to the text. */
export function splitIntoTokens(text: string): TokenPiece[] {
  const pieces: TokenPiece[] = [];
  for (const part of cutText(text.toWellFormed())) {
    let position = 0;
    let pending = 0;
    for (const token of encode(part, PLAIN)) {
      pending += 1;
      // The library decodes as a stream: half a character gives '', and its other half gives the whole character.
      const decoded = decode([token]);
      if (decoded === "" || !part.startsWith(decoded, position)) continue;
      pieces.push(tokenPiece(decoded, pending));
      position += decoded.length;
      pending = 0;
    }
    if (position < part.length) pieces.push(tokenPiece(part.slice(position), Math.max(1, pending)));
  }
  return pieces;
}

export function sumTokens(pieces: readonly TokenPiece[]): number {
  let total = 0;
  for (const piece of pieces) total += piece.tokens;
  return total;
}

export function joinText(pieces: readonly TokenPiece[]): string {
  let text = "";
  for (const piece of pieces) text += piece.text;
  return text;
}

function tokenPiece(text: string, tokens: number): TokenPiece {
  return { text, tokens, json: JSON.stringify(text) };
}

function isLowSurrogate(unit: number): boolean {
  return unit >= 0xdc00 && unit <= 0xdfff;
}
