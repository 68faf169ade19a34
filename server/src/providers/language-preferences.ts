/** Which vendor is asked first for a language, by its BCP 47 primary subtag. A first plain table; the others have no preference. */
export const languagePreferences: Readonly<Record<string, string>> = {
  es: "mistral",
  en: "openai",
  ja: "openai",
  ar: "openai",
};
