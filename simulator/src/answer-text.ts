import { ANSWER_FRAMES } from "./answer-frames.ts";
import type { AnswerFrames } from "./answer-frames.ts";
import { keyPhrase } from "./key-phrase.ts";
import { detectLanguage } from "./language.ts";
import { pick, shuffle } from "./seeded-random.ts";
import type { Random } from "./seeded-random.ts";
import { countTokens } from "./tokens.ts";

export interface AnswerSubject {
  /** Text of the last user message. */
  readonly prompt: string;
  readonly imageCount: number;
  /** What a tool has just answered. */
  readonly toolResult?: string | undefined;
}

const SHORTEST_TOKENS = 60;
const LONGEST_TOKENS = 150;
const LONG_ANSWER_TOKENS = 500;
const MOST_WORDS = 4000;
const TOKENS_PER_WORD = 1.3;
const SENTENCES_PER_PARAGRAPH = 5;

/** An answer in the prompt's language that quotes the prompt: about 60 to 150 tokens, or as long as the prompt asks for. */
export function composeAnswer(subject: AnswerSubject, random: Random): string {
  const frames = ANSWER_FRAMES[detectLanguage(subject.prompt)];
  const phrase = keyPhrase(subject.prompt) || frames.emptyPhrase;
  const wanted = requestedTokens(subject.prompt);
  const target = wanted ?? SHORTEST_TOKENS + random() * 50;
  const sentences = openingSentences(subject, frames, phrase, random);
  let total = sentences.reduce((sum, sentence) => sum + countTokens(sentence), 0);
  for (const body of bodySentences(frames, phrase, random)) {
    if (total >= target) break;
    sentences.push(body);
    total += countTokens(body);
  }
  const closing = fill(pick(random, frames.closings), frames, phrase, random);
  if (wanted !== undefined || total + countTokens(closing) <= LONGEST_TOKENS) sentences.push(closing);
  return inParagraphs(sentences, frames.gap);
}

/** Tokens a prompt asks for in words ("500 words", "a long answer"), or undefined when it does not. */
function requestedTokens(prompt: string): number | undefined {
  const words = /(\d{2,5})[\s-]*(?:words?\b|palabras|mots\b|wörter|字|文字|語|كلمة)/iu.exec(prompt)?.[1];
  if (words !== undefined) return Math.ceil(Math.min(Number(words), MOST_WORDS) * TOKENS_PER_WORD);
  const long =
    /\b(?:long|lengthy|detailed|essay|in depth|largo|larga|detallad[oa]|longue|détaillée?|ausführlich\w*|lange[nrs]?)\b|長い|長く|詳しく|طويل|مفصل/iu;
  return long.test(prompt) ? LONG_ANSWER_TOKENS : undefined;
}

function openingSentences(subject: AnswerSubject, frames: AnswerFrames, phrase: string, random: Random): string[] {
  const sentences: string[] = [];
  if (subject.toolResult !== undefined) {
    sentences.push(
      frames.toolResult.replaceAll("{phrase}", () => toolPhrase(subject.toolResult ?? "") || frames.emptyPhrase),
    );
  } else {
    sentences.push(fill(pick(random, frames.openings), frames, phrase, random));
  }
  if (subject.imageCount > 0) sentences.push(frames.image);
  return sentences;
}

function* bodySentences(frames: AnswerFrames, phrase: string, random: Random): Generator<string> {
  for (;;) for (const body of shuffle(random, frames.bodies)) yield fill(body, frames, phrase, random);
}

function fill(frame: string, frames: AnswerFrames, phrase: string, random: Random): string {
  const aspect = pick(random, frames.aspects);
  const sentence = frame.replaceAll("{phrase}", () => phrase).replaceAll("{aspect}", aspect);
  return sentence.charAt(0).toUpperCase() + sentence.slice(1);
}

function toolPhrase(result: string): string {
  return [...result.toWellFormed().replaceAll(/\s+/gu, " ").trim()].slice(0, 80).join("");
}

function inParagraphs(sentences: readonly string[], gap: string): string {
  const paragraphs: string[] = [];
  for (let start = 0; start < sentences.length; start += SENTENCES_PER_PARAGRAPH) {
    paragraphs.push(sentences.slice(start, start + SENTENCES_PER_PARAGRAPH).join(gap));
  }
  return paragraphs.join("\n\n");
}
