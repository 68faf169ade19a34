import { detectAll } from "tinyld";

export const LANGUAGES = ["en", "es", "fr", "de", "ja", "ar"] as const;
export type Language = (typeof LANGUAGES)[number];

const REQUESTED: readonly [RegExp, Language][] = [
  [/\b(?:in|into|to) english\b|\ben inglés\b|\ben anglais\b|\bauf englisch\b|英語で|بالإنجليزية/iu, "en"],
  [/\b(?:in|into|to) spanish\b|\ben español\b|\ben espagnol\b|\bauf spanisch\b|スペイン語で|بالإسبانية/iu, "es"],
  [/\b(?:in|into|to) french\b|\ben francés\b|\ben français\b|\bauf französisch\b|フランス語で|بالفرنسية/iu, "fr"],
  [/\b(?:in|into|to) german\b|\ben alemán\b|\ben allemand\b|\bauf deutsch\b|ドイツ語で|بالألمانية/iu, "de"],
  [/\b(?:in|into|to) japanese\b|\ben japonés\b|\ben japonais\b|\bauf japanisch\b|日本語で|باليابانية/iu, "ja"],
  [/\b(?:in|into|to) arabic\b|\ben árabe\b|\ben arabe\b|\bauf arabisch\b|アラビア語で|بالعربية/iu, "ar"],
];

// Short prompts give the detector too little; words that only one of these languages uses decide them.
const TELLING_WORDS: readonly [RegExp, Language][] = [
  [
    /(?<!\p{L})(?:hola|gracias|cómo|qué|cuál|cuándo|dónde|una?|los|las|del|este|esta|tres|para|puntos|frases|explica|resume)(?!\p{L})/giu,
    "es",
  ],
  [
    /(?<!\p{L})(?:bonjour|salut|merci|comment|pourquoi|quel(?:le)?|une|des|du|est-ce|dans|avec|pour|cette|explique[zr]?)(?!\p{L})/giu,
    "fr",
  ],
  [
    /(?<!\p{L})(?:hallo|danke|wie|warum|welche[rs]?|der|das|ein|eine[nrm]?|ist|und|bitte|mir|über|nicht|mit)(?!\p{L})/giu,
    "de",
  ],
  [/(?<!\p{L})(?:hello|thanks|how|why|which|the|an?|is|and|please|me|about|not|with|of|to|what|in)(?!\p{L})/giu, "en"],
];
const SHORT_CHARS = 80;

// A Japanese character says about as much as three Latin letters.
const JAPANESE_WEIGHT = 3;
const SAMPLE_CHARS = 600;
// Below this the detector guesses ("Benchmark request" comes out as Italian), and English is the better guess.
const LEAST_ACCURACY = 0.1;

/** The language an answer to this prompt is written in: the one asked for by name, else the prompt's own. */
export function detectLanguage(prompt: string): Language {
  const sample = prompt.slice(0, SAMPLE_CHARS);
  for (const [pattern, language] of REQUESTED) if (pattern.test(sample)) return language;
  const latin = sample.match(/\p{Script=Latin}/gu)?.length ?? 0;
  const arabic = sample.match(/\p{Script=Arabic}/gu)?.length ?? 0;
  const japanese = sample.match(/[\p{Script=Hiragana}\p{Script=Katakana}\p{Script=Han}]/gu)?.length ?? 0;
  if (japanese > 0 && japanese * JAPANESE_WEIGHT >= Math.max(latin, arabic)) return "ja";
  if (arabic > 0 && arabic >= latin) return "ar";
  if (/[¿¡ñ]/iu.test(sample)) return "es";
  if (/[ßäöü]/iu.test(sample)) return "de";
  const told = sample.length <= SHORT_CHARS ? tellingLanguage(sample) : undefined;
  if (told !== undefined) return told;
  const known = detectAll(sample).find(({ lang }) => (LANGUAGES as readonly string[]).includes(lang));
  return known !== undefined && known.accuracy >= LEAST_ACCURACY ? (known.lang as Language) : "en";
}

/** The language whose telling words are the most; undefined when none is ahead. */
function tellingLanguage(sample: string): Language | undefined {
  const counts = TELLING_WORDS.map(([pattern, language]) => ({
    language,
    count: sample.match(pattern)?.length ?? 0,
  })).sort((left, right) => right.count - left.count);
  const [first, second] = counts;
  return first !== undefined && first.count > (second?.count ?? 0) ? first.language : undefined;
}
