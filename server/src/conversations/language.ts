import { detectAll } from "tinyld";

/**
 * The language of a text as a BCP 47 primary subtag; undefined when that is not sure.
 *
 * What nobody reads as language is left out first: code, addresses, identifiers. Then the script that most letters are of
 * decides: by itself where one language writes in it, by letters that only one of its languages has (Arabic), or by what its
 * sentences look like, which vote with their letters, so that a quotation does not speak for the text around it.
 */
export function detectLanguage(text: string): string | undefined {
  const spoken = withoutCode(text.slice(0, SAMPLE_CHARACTERS));
  const script = mainScript(spoken);
  switch (script) {
    case undefined:
      return undefined;
    case "Han":
      return chineseOrJapanese(spoken);
    case "Arabic":
      return languageOfArabicScript(spoken);
    case "Latin":
    case "Cyrillic":
    case "Devanagari":
      return voteOfSentences(spoken, script);
    default:
      return ONE_LANGUAGE[script];
  }
}

/** The language's English name, as a model understands it best; the tag itself when it has none. */
export function languageName(tag: string): string {
  try {
    return new Intl.DisplayNames(["en"], { type: "language" }).of(tag) ?? tag;
  } catch {
    return tag;
  }
}

const SAMPLE_CHARACTERS = 2_000;

/** Scripts that one language of wide use writes in. */
const ONE_LANGUAGE = {
  Hangul: "ko",
  Hebrew: "he",
  Greek: "el",
  Thai: "th",
  Armenian: "hy",
  Georgian: "ka",
  Bengali: "bn",
  Gurmukhi: "pa",
  Gujarati: "gu",
  Tamil: "ta",
  Telugu: "te",
  Kannada: "kn",
  Malayalam: "ml",
  Sinhala: "si",
  Khmer: "km",
  Lao: "lo",
  Myanmar: "my",
  Ethiopic: "am",
} as const;

/** Languages that may be meant in a script. The detector knows others too, and mistakes short texts for them. */
const LANGUAGES = {
  Latin: "en es fr de pt it nl sv da no fi is pl cs sk hu ro et lv lt tr vi id tl".split(" "),
  Cyrillic: "ru uk be bg sr mk kk mn".split(" "),
  Devanagari: ["hi"],
};

type ManyLanguagesScript = keyof typeof LANGUAGES;
/** "Han" counts kana as well, as Japanese mixes both. */
type Script = keyof typeof ONE_LANGUAGE | ManyLanguagesScript | "Han" | "Arabic";

const KANA = /[\p{Script=Hiragana}\p{Script=Katakana}]/gu;
const LETTERS = Object.fromEntries([
  ...[...Object.keys(ONE_LANGUAGE), ...Object.keys(LANGUAGES), "Arabic"].map((name) => [
    name,
    new RegExp(`(?=\\p{L})\\p{Script=${name}}`, "gu"),
  ]),
  ["Han", /[\p{Script=Han}\p{Script=Hiragana}\p{Script=Katakana}]/gu],
]) as Readonly<Record<Script, RegExp>>;
const SCRIPTS = Object.keys(LETTERS) as readonly Script[];
/** One of these signs says about as much as two letters. */
const DENSE: ReadonlySet<Script> = new Set(["Han", "Hangul"]);
/** Two signs or four letters; less is a name, a unit, or "ok". */
const LEAST_WEIGHT = 4;

/** Each is replaced by the end of a sentence: what stood around it does not belong together. */
const CODE: readonly RegExp[] = [
  /```[\s\S]*?(?:```|$)/g,
  /`[^`\n]*`/g,
  /\b[a-z][a-z\d+.-]*:\/\/\S+|\bwww\.\S+/gi,
  /<\/?[a-z][^<>\n]{0,200}>/gi,
];
/** Whatever stands together in Latin letters and signs; in Japanese it stands within a sentence. */
const LATIN_RUN = /[\x21-\x7e\u00c0-\u024f]+/g;
/** A digit, a sign that only code has, a capital inside, a call, a path. */
const IDENTIFIER = /[\d_{}<>$#@\\=|]|\p{Ll}\p{Lu}|\p{L}\(|\w[./]\w/u;
const ABBREVIATION = /(?<!\p{L})\p{Lu}{2,}(?!\p{L})/gu;

function withoutCode(text: string): string {
  let spoken = text;
  for (const pattern of CODE) spoken = spoken.replace(pattern, " . ");
  spoken = spoken.replace(LATIN_RUN, (run) => (IDENTIFIER.test(run) ? "." : run));
  // Where everything is in capitals, somebody shouts.
  return /\p{Ll}/u.test(spoken) ? spoken.replace(ABBREVIATION, " ") : spoken;
}

const countOf = (text: string, pattern: RegExp): number => text.match(pattern)?.length ?? 0;

/** The script of more than half of what is written; undefined when there is none, or hardly anything is written. */
function mainScript(text: string): Script | undefined {
  let total = 0;
  let main: Script | undefined;
  let most = 0;
  for (const script of SCRIPTS) {
    const weight = countOf(text, LETTERS[script]) * (DENSE.has(script) ? 2 : 1);
    total += weight;
    if (weight > most) {
      most = weight;
      main = script;
    }
  }
  return most >= LEAST_WEIGHT && most * 2 > total ? main : undefined;
}

/** Japanese is hardly written without kana, and three signs without any may be a name in either. */
function chineseOrJapanese(text: string): string | undefined {
  const signs = countOf(text, LETTERS.Han);
  if (countOf(text, KANA) * 20 >= signs) return "ja";
  return signs >= 4 ? "zh" : undefined;
}

/** Letters that one language has and the others spell otherwise. */
const ARABIC_ONLY = /[\u0629\u0643\u0649\u064a\u0623\u0625]/g;
const PERSIAN_AND_URDU = /[\u067e\u0686\u0698\u06a9\u06af\u06cc]/g;
const URDU_ONLY = /[\u0679\u0688\u0691\u06ba\u06be\u06c1\u06d2]/g;
/** Pashto, Kurdish, Uyghur, Sindhi. */
const OTHERS =
  /[\u067a-\u067d\u067f-\u0685\u0689\u068a\u068c-\u068f\u0693-\u0697\u0699-\u06a6\u06ab\u06b1\u06b3\u06b5\u06bb\u06bc\u06c6-\u06cb\u06cd\u06ce\u06d0\u06d5]/g;

/** A word with the article: the others have borrowed a few, and shorter ones. */
const ARABIC_ARTICLE = /(?<!\p{L})[\u0648\u0641\u0628\u0643]?\u0627\u0644\p{L}{4,}/u;

/** By the letters, which tell short texts apart as well; what has none of them and no Arabic article may be any. */
function languageOfArabicScript(text: string): string | undefined {
  const letters = countOf(text, LETTERS.Arabic);
  if (countOf(text, OTHERS) * 50 > letters) return undefined;
  const arabic = countOf(text, ARABIC_ONLY);
  const urdu = countOf(text, URDU_ONLY);
  const eastern = countOf(text, PERSIAN_AND_URDU) + urdu;
  if (arabic === 0 && eastern === 0) return ARABIC_ARTICLE.test(text) ? "ar" : undefined;
  if (arabic === eastern) return undefined;
  if (arabic > eastern) return "ar";
  return urdu * 20 >= letters ? "ur" : "fa";
}

/** A sentence is sure of a language by one telltale word, which may be a name: beyond this it is not believed. */
const MOST_ACCURACY = 0.3;
/** In letters that are surely of the language: what fewer look like is chance. */
const LEAST_EVIDENCE = 2.5;
/** How much more a text must look like its language than like any other. */
const LEAST_LEAD = 1.4;
const FEWEST_WORDS = 2;
const FEWEST_LETTERS = 8;
/** Shorter sentences are read together with the next. */
const SENTENCE_LETTERS = 20;

function voteOfSentences(text: string, script: ManyLanguagesScript): string | undefined {
  const votes = new Map<string, number>();
  for (const sentence of sentencesOf(text)) {
    const letters = countOf(sentence, LETTERS[script]);
    if (letters < FEWEST_LETTERS || countOf(sentence, /\p{L}+/gu) < FEWEST_WORDS) continue;
    for (const { lang, accuracy } of detectAll(sentence, { only: LANGUAGES[script] }))
      votes.set(lang, (votes.get(lang) ?? 0) + letters * Math.min(accuracy, MOST_ACCURACY));
  }
  const [first, second] = [...votes].sort(([, a], [, b]) => b - a);
  if (!first || first[1] < LEAST_EVIDENCE) return undefined;
  return first[1] >= (second?.[1] ?? 0) * LEAST_LEAD ? first[0] : undefined;
}

function sentencesOf(text: string): string[] {
  const sentences: string[] = [];
  let begun = "";
  for (const piece of text.split(/(?<=[.!?:;\n\u0964])\s*/u)) {
    begun += ` ${piece}`;
    if (countOf(begun, /\p{L}/gu) < SENTENCE_LETTERS) continue;
    sentences.push(begun);
    begun = "";
  }
  return begun.trim() === "" ? sentences : [...sentences, begun];
}
