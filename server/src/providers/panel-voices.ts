/** Who sits on the panel, in the order of speaking: the language of each (BCP 47), and which vendor is asked first for it. */
export const panelVoices = [
  { name: "Ada", language: "en", provider: "openai" },
  { name: "Lucía", language: "es", provider: "mistral" },
  { name: "ハル", language: "ja", provider: "openai" },
  { name: "نور", language: "ar", provider: "mistral" },
] as const;
