/**
 * The language of a BCP 47 tag, without script and region and in its shortest form: "es" for "es-MX", "ES" and "spa".
 * What is no tag at all comes back as its first part, in lower case.
 */
export function primaryLanguage(tag: string): string {
  try {
    return new Intl.Locale(tag).language;
  } catch {
    return tag.split("-", 1)[0]!.toLowerCase();
  }
}
