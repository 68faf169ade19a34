const RIGHT_TO_LEFT: ReadonlySet<string | undefined> = new Set([
  "Arab",
  "Hebr",
  "Thaa",
  "Syrc",
  "Nkoo",
  "Adlm",
  "Rohg",
]);

/** Which way a language (BCP 47) is written, by the script that it is mostly written in. */
export function textDirection(language: string): "ltr" | "rtl" {
  try {
    return RIGHT_TO_LEFT.has(new Intl.Locale(language).maximize().script) ? "rtl" : "ltr";
  } catch {
    return "ltr";
  }
}
