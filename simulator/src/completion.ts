import { composeAnswer } from "./answer-text.ts";
import type { ChatRequest, PromptMessage, ReasoningEffort, ToolDefinition } from "./chat-request.ts";
import { keyPhrase } from "./key-phrase.ts";
import { detectLanguage } from "./language.ts";
import { fillSchema } from "./schema-value.ts";
import { hashText, seededRandom } from "./seeded-random.ts";
import type { Random } from "./seeded-random.ts";
import { joinText, splitIntoTokens, sumTokens } from "./tokens.ts";
import type { TokenPiece } from "./tokens.ts";
import { matchTool } from "./tool-match.ts";

export interface Completion {
  readonly choices: readonly CompletionChoice[];
  /** Includes the reasoning tokens, as both vendors count. */
  readonly completionTokens: number;
  readonly reasoningTokens: number;
}

export type CompletionChoice = TextChoice | ToolCallChoice;

export interface TextChoice {
  readonly kind: "text";
  readonly pieces: readonly TokenPiece[];
  readonly finishReason: "stop" | "length";
}

export interface ToolCallChoice {
  readonly kind: "tool-call";
  readonly name: string;
  readonly nameTokens: number;
  readonly pieces: readonly TokenPiece[];
  readonly finishReason: "tool_calls";
}

const REASONING_STEP_TOKENS = 64;
const REASONING_STEPS: Record<ReasoningEffort, number> = { none: 0, low: 1, medium: 2, high: 6 };

/** What the simulated model answers: a function of the request and the seed, and of nothing else. */
export function completeChat(request: ChatRequest, seed: number): Completion {
  const prompt = lastUserText(request.messages);
  const base = hashText(request.messages.map(({ role, text }) => `${role}\n${text}`).join("\0"));
  const choices: CompletionChoice[] = [];
  let reasoningTokens = 0;
  for (let index = 0; index < request.choiceCount; index += 1) {
    const random = seededRandom(
      base ^
        Math.imul(seed, 0x9e3779b1) ^
        Math.imul((request.seed ?? 0) + 1, 0x85ebca6b) ^
        Math.imul(index, 0xc2b2ae35),
    );
    const thought = Math.min(reasoningLength(request.reasoning, random), request.maxTokens ?? Number.POSITIVE_INFINITY);
    reasoningTokens += thought;
    choices.push(completeChoice(request, prompt, thought, random));
  }
  const visible = choices.reduce((sum, choice) => sum + choiceTokens(choice), 0);
  return { choices, completionTokens: visible + reasoningTokens, reasoningTokens };
}

function completeChoice(request: ChatRequest, prompt: string, thought: number, random: Random): CompletionChoice {
  const last = request.messages.at(-1);
  const tool = last?.role === "user" ? matchTool(request.tools, request.toolChoice, prompt) : undefined;
  if (tool !== undefined) return callTool(tool, prompt);
  const text = answerText(request, prompt, random);
  const room = request.maxTokens === undefined ? undefined : request.maxTokens - thought;
  const choice = cutToLength(cutAtStop(text, request.stop), room);
  return request.prefix === undefined
    ? choice
    : { ...choice, pieces: [...givenPieces(request.prefix), ...choice.pieces] };
}

function callTool(tool: ToolDefinition, prompt: string): ToolCallChoice {
  const filled = fillSchema(tool.parameters, { prompt, properties: "required" });
  const input = typeof filled === "object" && filled !== null ? filled : {};
  return {
    kind: "tool-call",
    name: tool.name,
    nameTokens: sumTokens(splitIntoTokens(tool.name)),
    pieces: splitIntoTokens(JSON.stringify(input)),
    finishReason: "tool_calls",
  };
}

function answerText(request: ChatRequest, prompt: string, random: Random): string {
  const last = request.messages.at(-1);
  const imageCount = request.messages.reduce((sum, message) => sum + message.imageCount, 0);
  const toolResult = last?.role === "tool" || last?.role === "function" ? last.text : undefined;
  const format = request.responseFormat;
  switch (format.kind) {
    case "text":
      return composeAnswer({ prompt, imageCount, toolResult }, random);
    case "json-object":
      return JSON.stringify({
        topic: keyPhrase(prompt),
        language: detectLanguage(prompt),
        answer: composeAnswer({ prompt: keyPhrase(prompt), imageCount, toolResult }, random),
      });
    case "json-schema":
      return JSON.stringify(fillSchema(format.schema, { prompt, properties: "all" }));
    default:
      return format satisfies never;
  }
}

/** Was part of the question, so it is not counted as output. */
const givenPieces = (prefix: string): readonly TokenPiece[] =>
  splitIntoTokens(`${prefix} `).map((piece) => ({ ...piece, tokens: 0 }));

function cutAtStop(text: string, stop: readonly string[]): string {
  const ends = stop
    .filter((sequence) => sequence !== "")
    .map((sequence) => text.indexOf(sequence))
    .filter((at) => at >= 0);
  return ends.length === 0 ? text : text.slice(0, Math.min(...ends));
}

function cutToLength(text: string, room: number | undefined): TextChoice {
  const pieces = splitIntoTokens(text);
  if (room === undefined) return { kind: "text", pieces, finishReason: "stop" };
  let used = 0;
  const end = pieces.findIndex((piece) => (used += piece.tokens) > room);
  return end < 0
    ? { kind: "text", pieces, finishReason: "stop" }
    : { kind: "text", pieces: pieces.slice(0, end), finishReason: "length" };
}

function reasoningLength(effort: ReasoningEffort | undefined, random: Random): number {
  if (effort === undefined) return 0;
  const steps = REASONING_STEPS[effort];
  return REASONING_STEP_TOKENS * (steps + Math.floor(random() * (steps + 1)));
}

/** Tokens a choice takes without its reasoning. */
export function choiceTokens(choice: CompletionChoice): number {
  return sumTokens(choice.pieces) + (choice.kind === "tool-call" ? choice.nameTokens : 0);
}

/** The choice's text, or the arguments of its tool call. */
export function choiceText(choice: CompletionChoice): string {
  return joinText(choice.pieces);
}

function lastUserText(messages: readonly PromptMessage[]): string {
  return messages.findLast((message) => message.role === "user")?.text ?? messages.at(-1)?.text ?? "";
}
