import { type Dictionary, parseDictionary, serializeDictionary } from "structured-headers";

/**
 * A dictionary of structured fields (RFC 9651 §3.2) in the one form in which they are written; undefined for any other text.
 *
 * A parser takes a name that stands twice for its last value, and short forms for long ones. What is signed is the strict form
 * (RFC 9421 §2.3), so a text that is not in it was not written by a signer: two readers might take it for two things. Only the
 * whitespace may differ, as whoever joins two lines of a header puts some between them.
 */
export function parseStrictDictionary(text: string): Dictionary | undefined {
  let dictionary: Dictionary;
  try {
    dictionary = parseDictionary(text);
  } catch {
    return undefined;
  }
  const strict = serializeDictionary(dictionary);
  return strict === text || withoutWhitespace(strict) === withoutWhitespace(text) ? dictionary : undefined;
}

const withoutWhitespace = (text: string): string => text.replaceAll(/[ \t]/g, "");
