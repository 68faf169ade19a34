import assert from "node:assert/strict";
import { test } from "node:test";
import { composeAnswer } from "../src/answer-text.ts";
import { detectLanguage } from "../src/language.ts";
import { seededRandom } from "../src/seeded-random.ts";
import { countTokens, joinText, splitIntoTokens, sumTokens } from "../src/tokens.ts";
import { chat, contentOf, eventsOf, simulatorForTests } from "./client.ts";

const PROMPTS = {
  en: "Explain how a heat pump works",
  es: "¿Cómo funciona una bomba de calor?",
  fr: "Comment fonctionne une pompe à chaleur ?",
  de: "Wie funktioniert eine Wärmepumpe im Winter?",
  ja: "ヒートポンプの仕組みは？",
  ar: "كيف تعمل المضخة الحرارية؟",
} as const;

test("an answer is in the prompt's language, quotes it and has 40 to 160 tokens", () => {
  for (const [language, prompt] of Object.entries(PROMPTS)) {
    assert.equal(detectLanguage(prompt), language);
    for (let seed = 0; seed < 50; seed += 1) {
      const answer = composeAnswer({ prompt, imageCount: 0 }, seededRandom(seed));
      const tokens = countTokens(answer);
      assert.ok(tokens >= 40 && tokens <= 160, `${language} ${seed}: ${tokens}`);
      assert.equal(detectLanguage(answer), language);
      assert.ok(!answer.includes("{"));
    }
  }
});

test("short prompts and prompts that name a language get the right one", () => {
  for (const [prompt, language] of [
    ["Hi", "en"],
    ["Explain TLS", "en"],
    ["東京", "ja"],
    ["مرحبا", "ar"],
    ["Translate こんにちは to English", "en"],
    ["Say hello in Spanish", "es"],
    ["Hola", "es"],
    ["Bonjour", "fr"],
    ["Hallo Welt", "de"],
    ["Resume este texto en tres puntos", "es"],
    ["Erkläre mir bitte Photosynthese", "de"],
    ["", "en"],
  ] as const) {
    assert.equal(detectLanguage(prompt), language, prompt);
  }
});

test("a longer answer is given when the prompt asks for one", () => {
  const words = composeAnswer({ prompt: "Write 500 words about tea", imageCount: 0 }, seededRandom(1)).split(
    /\s+/u,
  ).length;
  assert.ok(words > 400 && words < 700, String(words));
  assert.ok(
    countTokens(composeAnswer({ prompt: "Give me a long answer about tea", imageCount: 0 }, seededRandom(1))) > 400,
  );
});

test("token pieces join to the text, keep characters whole and count as the tokenizer counts", () => {
  const texts = [
    ...Object.values(PROMPTS),
    "👩‍🚀🦄 𠮷野家で鰻を",
    "a".repeat(9000),
    "é".repeat(5000),
    `${"word ".repeat(2000)}🦄`,
    "\uD83D alone",
  ];
  for (const text of texts) {
    const pieces = splitIntoTokens(text);
    assert.equal(joinText(pieces), text.toWellFormed());
    assert.equal(sumTokens(pieces), countTokens(text));
    assert.ok(pieces.every((piece) => piece.text.isWellFormed() && piece.text !== ""));
  }
});

test("Japanese and Arabic stream in whole characters and are billed by their tokens", async () => {
  const { openaiBaseUrl } = await simulatorForTests();
  for (const content of [PROMPTS.ja, PROMPTS.ar]) {
    const events = eventsOf(
      (
        await chat(openaiBaseUrl, {
          stream: true,
          stream_options: { include_usage: true },
          messages: [{ role: "user", content }],
        })
      ).text,
    );
    const text = contentOf(events);
    assert.ok(!text.includes("\uFFFD"));
    assert.equal(events.at(-2).usage.completion_tokens, countTokens(text));
  }
});
