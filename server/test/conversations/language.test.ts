import assert from "node:assert/strict";
import { test } from "node:test";
import { detectLanguage, languageName } from "../../src/conversations/language.ts";

const told: readonly (readonly [string, string])[] = [
  ["en", "Why is the sky blue?"],
  ["en", "Hello there, how are you today?"],
  ["en", "I need help with my invoice"],
  ["en", "What is the capital of France?"],
  ["es", "¿Por qué el cielo es azul?"],
  ["es", "Hola, ¿qué tal?"],
  ["es", "Quiero cancelar mi suscripción hoy mismo"],
  ["ja", "空はなぜ青いのですか？"],
  ["ja", "ありがとうございます"],
  ["ja", "はい"],
  ["ar", "لماذا السماء زرقاء في النهار؟"],
  ["ar", "أريد إلغاء اشتراكي"],
  // Not one letter in it that Persian and Urdu lack.
  ["ar", "لماذا السماء زرقاء؟"],
  ["fa", "چرا آسمان آبی است؟"],
  ["fa", "لطفا به من کمک کنید"],
  ["ur", "آسمان نیلا کیوں ہے؟"],
  ["ur", "مجھے مدد چاہیے"],
  ["fr", "Pourquoi le ciel est-il bleu ?"],
  ["fr", "Merci beaucoup"],
  ["fr", "Écris un poème sur l'automne"],
  ["de", "Warum ist der Himmel blau?"],
  ["de", "Guten Morgen, wie geht es Ihnen?"],
  ["de", "Ich möchte mein Abonnement kündigen"],
  ["pt", "Por que o céu é azul?"],
  ["pt", "Olá, tudo bem com você?"],
  ["zh", "天空为什么是蓝色的？"],
  ["zh", "請問洗手間在哪裡"],
  ["ko", "하늘은 왜 파란가요?"],
  ["ko", "네네"],
  ["ru", "Почему небо голубое?"],
  ["ru", "Помогите мне, пожалуйста, с оплатой"],
  ["uk", "Чому небо блакитне?"],
  ["he", "למה השמיים כחולים?"],
  ["hi", "आसमान नीला क्यों है?"],
  ["el", "Γιατί ο ουρανός είναι γαλάζιος;"],
  ["th", "ทำไมท้องฟ้าเป็นสีฟ้า"],
  ["it", "Perché il cielo è blu?"],
  ["tr", "Bugün hava çok güzel, dışarı çıkalım mı?"],
  ["vi", "Vì sao bầu trời xanh?"],
];
for (const [language, text] of told)
  test(`${language}: ${text}`, () => {
    assert.equal(detectLanguage(text), language);
  });

const mixed: readonly (readonly [string, string, string])[] = [
  ["en", "a Japanese name in an English sentence", "Can you tell me what 東京 means and how it is written?"],
  ["ja", "English words in a Japanese sentence", "TypeScript で JSON を読む関数を書いてください"],
  ["ja", "few kana among much Han, as in a Japanese headline", "東京都知事選挙の開票結果"],
  ["en", "a foreign phrase in quotation marks", "Can you explain what 'je ne sais quoi' means in a conversation?"],
  [
    "es",
    "an English order before a long Spanish text",
    "Translate: El cielo es azul porque el aire dispersa la luz azul más que la roja. Por la tarde la luz atraviesa más aire y entonces se ve roja.",
  ],
  ["en", "a question on code", "Why does this not work?\n```ts\nconst antwort = await frage(der, die, das);\n```"],
  ["en", "identifiers and abbreviations", "Write a function that parses JSON in TypeScript"],
  ["en", "an address", "Please read https://es.wikipedia.org/wiki/El_cielo_es_azul and tell me what it says"],
  ["es", "somebody who shouts", "¿POR QUÉ NO ME RESPONDE NADIE?"],
  ["ar", "a Latin name in an Arabic sentence", "كيف أستعمل Docker في المشروع؟"],
  ["ko", "Latin words in a Korean sentence", "Docker 컨테이너를 어떻게 시작하나요?"],
  ["ru", "identifiers in a Russian sentence", "Почему getUserName возвращает null в моей программе?"],
];
for (const [language, what, text] of mixed)
  test(`mixed text goes by its majority: ${what} is ${language}`, () => {
    assert.equal(detectLanguage(text), language);
  });

const unsure = [
  "",
  "   ",
  "ok",
  "OK!",
  "hi",
  "lol",
  "hello",
  "123",
  "3.14 + 2 = ?",
  "👍🎉🎉",
  "?!",
  "α + β",
  "東京",
  "سلام",
  "https://example.com/por/que/el/cielo/es/azul",
  "nadie@example.com",
  "const x = await fetch(url)",
  "`npm install`",
  "asdf qwer zxcv",
  "iPhone 15 Pro Max",
  "SELECT id FROM users",
  "ok はい sí да",
];
for (const text of unsure)
  test(`what is too short or no language is not guessed: ${JSON.stringify(text)}`, () => {
    assert.equal(detectLanguage(text), undefined);
  });

test("any text is told in bounded time: a megabyte of one letter, of signs, of halves of pairs", () => {
  for (const unit of ["a", "<", "`", "漢", "http://", "\ud83d", "a.", "A_"]) {
    const begun = performance.now();
    detectLanguage(unit.repeat(1_000_000));
    assert.ok(performance.now() - begun < 2_000, unit);
  }
});

test("a language is called by its English name, whatever form its tag has, and by the tag when it has none", () => {
  assert.equal(languageName("es"), "Spanish");
  assert.equal(languageName("ES"), "Spanish");
  assert.match(languageName("pt-BR"), /Portuguese/);
  assert.equal(languageName("qqx"), "qqx");
  assert.equal(languageName("no tag"), "no tag");
});
