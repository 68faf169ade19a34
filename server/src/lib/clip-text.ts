/** The text's beginning, with an ellipsis where something was cut; never half a character. */
export function clipText(text: string, most: number): string {
  if (text.length <= most) return text;
  const end = isHighSurrogate(text.charCodeAt(most - 1)) ? most - 1 : most;
  return `${text.slice(0, end).trimEnd()}\u2026`;
}

/** The first half of a character outside the basic plane. */
export const isHighSurrogate = (unit: number): boolean => unit >= 0xd800 && unit <= 0xdbff;
