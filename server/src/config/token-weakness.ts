/** What stands in templates and guides in the place of a secret that somebody was to make, and around it. */
const PLACEHOLDERS =
  /change|replace|please|me|your|here|my|place.?holder|example|sample|dummy|foo|bar|super|password|passw0rd|passwd|pass|letmein|qwerty|insecure|secret|admin|token|bearer|api|key|brikk|test|dev|local|prod/gi;
/** Fewer letters and digits beside those leave little to guess. */
const LEAST_OF_ITS_OWN = 8;

const LEAST_VARIETY = 6;
const LONGEST_REPEATED = 8;

/** Why a secret that a person chose is too easy to guess, as the end of a sentence about it; undefined: it is not. */
export function tokenWeakness(token: string, leastLength: number): string | undefined {
  if (token.length < leastLength) return `is shorter than ${leastLength} characters`;
  if (new Set(token).size < LEAST_VARIETY) return `has fewer than ${LEAST_VARIETY} different characters`;
  if (repeats(token)) return "is one short piece over and over";
  if (counts(token)) return "is little but characters in a row";
  if (token.replace(PLACEHOLDERS, "").replace(/[^A-Za-z0-9]/g, "").length < LEAST_OF_ITS_OWN)
    return "is made of words that stand in examples";
  return undefined;
}

function repeats(token: string): boolean {
  for (let length = 1; length <= Math.min(LONGEST_REPEATED, token.length / 2); length += 1) {
    const piece = token.slice(0, length);
    if (piece.repeat(Math.ceil(token.length / length)).slice(0, token.length) === token) return true;
  }
  return false;
}

/** As "0123456789abcdef" and "abcdefghijklmnop": three of four steps go to the same or the next character. */
function counts(token: string): boolean {
  let small = 0;
  for (let index = 1; index < token.length; index += 1)
    if (Math.abs(token.charCodeAt(index) - token.charCodeAt(index - 1)) <= 1) small += 1;
  return small >= (token.length - 1) * 0.75;
}
