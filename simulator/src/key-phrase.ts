const MOST_WORDS = 8;
const MOST_CHARS = 56;
const MOST_CHARS_WITHOUT_SPACES = 26;

/** The part of a prompt that an answer quotes: the start of its first sentence, without quotation marks. Empty when there is none. */
export function keyPhrase(prompt: string): string {
  const sentences = prompt
    .slice(0, 2000)
    .toWellFormed()
    .split(/[.!?。！？؟\n\r]+/u)
    .map((sentence) =>
      sentence
        .replaceAll(/[“”„«»「」"\p{Cc}\uFFFD]/gu, " ")
        .replaceAll(/\s+/gu, " ")
        .replace(/^[\s¿¡,;:]+/u, "")
        .trim(),
    );
  const sentence = sentences.find((candidate) => candidate.length > 1) ?? "";
  const words = sentence.split(" ");
  const start = words.slice(0, MOST_WORDS).join(" ");
  const most = words.length === 1 ? MOST_CHARS_WITHOUT_SPACES : MOST_CHARS;
  if (start.length <= most) return start;
  const room = [...start].slice(0, most).join("");
  const space = room.lastIndexOf(" ");
  return space > 0 ? room.slice(0, space) : room;
}
