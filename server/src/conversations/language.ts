import { detect } from "tinyld";

const JAPANESE = /[\u3040-\u30ff]/;
const ARABIC = /[\u0600-\u06ff]/;

/** The language of a text as a BCP 47 primary subtag; undefined when it is too short or mixed to tell. */
export function detectLanguage(text: string): string | undefined {
  const sample = text.slice(0, 2_000);
  if (JAPANESE.test(sample)) return "ja";
  if (ARABIC.test(sample)) return "ar";
  return detect(sample) || undefined;
}

/** The language's English name, as a model understands it best; the tag itself when it has none. */
export function languageName(tag: string): string {
  try {
    return new Intl.DisplayNames(["en"], { type: "language" }).of(tag) ?? tag;
  } catch {
    return tag;
  }
}
