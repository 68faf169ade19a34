/**
 * OpenAI's embeddings: a list with one vector per input, as floats or, as its own clients ask, as base64 of little-endian
 * 32-bit floats. An input is a text or a list of token ids.
 */
import { z } from "zod";
import { countTokens } from "../tokens.ts";
import { refuseUnknownModel } from "./openai-chat.ts";
import { openaiIssue, refuseOpenai } from "./openai-errors.ts";
import { Refusal } from "./protocol.ts";
import type { EmbeddingsInput, EmbeddingsRequest } from "./protocol.ts";

const tokensSchema = z.array(z.int().min(0)).min(1);

const bodySchema = z.strictObject({
  model: z.string(),
  input: z.union([
    z.string().min(1),
    z.array(z.string().min(1)).min(1).max(2048),
    tokensSchema,
    z.array(tokensSchema).min(1).max(2048),
  ]),
  encoding_format: z.enum(["float", "base64"]).nullish(),
  dimensions: z.int().min(1).nullish(),
  user: z.string().nullish(),
});

const MOST_TOKENS = 8192;

export function readOpenaiEmbeddings(input: unknown): EmbeddingsRequest {
  const parsed = bodySchema.safeParse(input);
  if (!parsed.success) throw new Refusal(openaiIssue(input, parsed.error));
  const { model, dimensions, encoding_format: format } = parsed.data;
  refuseUnknownModel(model);
  const inputs = readInputs(parsed.data.input);
  if (inputs.some(({ tokens }) => tokens > MOST_TOKENS)) {
    refuseOpenai(400, {
      message: `An input is longer than the ${MOST_TOKENS} tokens this model takes.`,
      param: "input",
      code: "context_length_exceeded",
    });
  }
  return { model, inputs, dimensions: readDimensions(model, dimensions ?? undefined), format: format ?? "float" };
}

function readInputs(input: z.infer<typeof bodySchema>["input"]): EmbeddingsInput[] {
  if (typeof input === "string") return [textInput(input)];
  if (input.every((item) => typeof item === "number")) return [tokenInput(input)];
  return input.map((item) => (Array.isArray(item) ? tokenInput(item) : textInput(item)));
}

function textInput(text: string): EmbeddingsInput {
  return { text, tokens: countTokens(text, MOST_TOKENS) };
}

function tokenInput(tokens: readonly number[]): EmbeddingsInput {
  return { text: tokens.join(" "), tokens: tokens.length };
}

function readDimensions(model: string, wanted: number | undefined): number {
  const most = model === "text-embedding-3-large" ? 3072 : 1536;
  if (wanted === undefined) return most;
  if (!model.startsWith("text-embedding-3"))
    refuseOpenai(400, { message: "This model does not support 'dimensions'.", param: "dimensions" });
  if (wanted > most)
    refuseOpenai(400, {
      message: `Invalid 'dimensions': this model has at most ${most}.`,
      param: "dimensions",
      code: "integer_above_max_value",
    });
  return wanted;
}

export function openaiEmbeddingsAnswer(request: EmbeddingsRequest, data: readonly unknown[], tokens: number): unknown {
  return { object: "list", data, model: request.model, usage: { prompt_tokens: tokens, total_tokens: tokens } };
}
