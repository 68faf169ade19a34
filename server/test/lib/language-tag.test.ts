import assert from "node:assert/strict";
import { test } from "node:test";
import { primaryLanguage } from "../../src/lib/language-tag.ts";

for (const [tag, language] of [
  ["es", "es"],
  ["ES", "es"],
  ["es-MX", "es"],
  ["en-us", "en"],
  ["zh-Hant-TW", "zh"],
  ["pt-BR-u-nu-latn", "pt"],
  ["spa", "es"],
  ["JPN", "ja"],
  ["en-x-shout", "en"],
  ["en-a", "en"],
  ["Klingonese", "klingonese"],
] as const)
  test(`${tag} is ${language}`, () => {
    assert.equal(primaryLanguage(tag), language);
  });
