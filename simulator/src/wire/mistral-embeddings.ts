/** Mistral's embeddings: OpenAI's shape with an id, vectors of 1,024 numbers, and other names for the optional fields. */
import { z } from "zod";
import { hexIdentifier } from "../identifier.ts";
import { countTokens } from "../tokens.ts";
import { mistralIssues, refuseMistral } from "./mistral-errors.ts";
import { Refusal } from "./protocol.ts";
import type { EmbeddingsRequest } from "./protocol.ts";

const bodySchema = z.strictObject({
  model: z.string(),
  input: z.union([z.string(), z.array(z.string()).min(1)]),
  encoding_format: z.enum(["float", "base64"]).nullish(),
  output_dimension: z.int().min(1).max(3072).nullish(),
  output_dtype: z.literal("float").nullish(),
  metadata: z.unknown().optional(),
});

const DIMENSIONS = new Map([
  ["mistral-embed", 1024],
  ["codestral-embed", 1536],
]);
const MOST_TOKENS = 8192;

export function readMistralEmbeddings(input: unknown): EmbeddingsRequest {
  const parsed = bodySchema.safeParse(input);
  if (!parsed.success) throw new Refusal(mistralIssues(input, parsed.error));
  const { model, input: texts, encoding_format: format, output_dimension: wanted } = parsed.data;
  const dimensions = DIMENSIONS.get(model.replace(/-\d{4}$/u, ""));
  if (dimensions === undefined) refuseMistral(400, `Invalid model: ${model}`, "invalid_model", "1500");
  const inputs = (typeof texts === "string" ? [texts] : texts).map((text) => ({
    text,
    tokens: countTokens(text, MOST_TOKENS),
  }));
  if (inputs.some(({ tokens }) => tokens > MOST_TOKENS))
    refuseMistral(400, `An input is longer than ${MOST_TOKENS} tokens.`, "invalid_request_prompt", "3210");
  return { model, inputs, dimensions: wanted ?? dimensions, format: format ?? "float" };
}

export function mistralEmbeddingsAnswer(request: EmbeddingsRequest, data: readonly unknown[], tokens: number): unknown {
  return {
    id: hexIdentifier(),
    object: "list",
    data,
    model: request.model,
    usage: { prompt_tokens: tokens, total_tokens: tokens, completion_tokens: 0 },
  };
}
