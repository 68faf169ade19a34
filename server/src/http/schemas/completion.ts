import { z } from "zod";

/**
 * The caller's request, checked as far as the gateway builds on it. What it does not know passes on untouched: the vendor
 * knows its own fields best, and says what is wrong with them.
 */
const model = z
  .string()
  .min(1)
  .max(200)
  .describe(
    "A model, `provider/model`, or for the router `brikk/auto`, `brikk/cheap`, `brikk/quality`, `brikk/balanced` or `brikk/` and a policy of the operator's.",
  );
const models = z
  .array(z.string().min(1).max(200))
  .max(8)
  .optional()
  .describe("Further models that may serve when the first cannot, in order.");

export const chatRequest = z
  .looseObject({
    model,
    models,
    messages: z
      .array(
        z.looseObject({
          role: z.string().min(1).max(64),
          content: z.union([z.string(), z.array(z.looseObject({ type: z.string() })).max(10_000)]).nullish(),
        }),
      )
      .min(1)
      .max(10_000),
    stream: z.boolean().nullish(),
    stream_options: z.looseObject({ include_usage: z.boolean().nullish() }).nullish(),
    max_tokens: z.int().min(1).max(10_000_000).nullish(),
    max_completion_tokens: z.int().min(1).max(10_000_000).nullish(),
    n: z.int().min(1).max(128).nullish(),
    // The dearer tiers have no price here, and what has no price cannot be held to a budget.
    service_tier: z
      .enum(["auto", "default", "flex"], { error: "must be auto, default or flex; other tiers have no price here" })
      .nullish(),
    temperature: z.number().nullish(),
    top_p: z.number().nullish(),
    tools: z
      .array(z.looseObject({ type: z.string() }))
      .max(1_000)
      .nullish(),
  })
  .meta({
    id: "ChatCompletionRequest",
    example: {
      model: "gpt-4o-mini",
      messages: [{ role: "user", content: "Why is the sky blue?" }],
      stream: true,
      stream_options: { include_usage: true },
    },
  });

export const chatAnswer = z
  .looseObject({
    id: z.string(),
    object: z.literal("chat.completion"),
    created: z.int(),
    model: z.string(),
    choices: z.array(
      z.looseObject({
        index: z.int(),
        message: z.looseObject({ role: z.string(), content: z.unknown() }),
        finish_reason: z.string().nullable(),
      }),
    ),
    usage: z.looseObject({ prompt_tokens: z.int(), completion_tokens: z.int(), total_tokens: z.int() }).optional(),
  })
  .meta({
    id: "ChatCompletion",
    example: {
      id: "chatcmpl-example",
      object: "chat.completion",
      created: 1_790_000_000,
      model: "gpt-4o-mini",
      choices: [
        {
          index: 0,
          message: { role: "assistant", content: "Because air scatters blue light most." },
          finish_reason: "stop",
        },
      ],
      usage: { prompt_tokens: 13, completion_tokens: 8, total_tokens: 21 },
    },
  });

export const embeddingsRequest = z
  .looseObject({
    model,
    models,
    input: z.union([
      z.string().min(1),
      z
        .array(z.union([z.string(), z.int(), z.array(z.int())]))
        .min(1)
        .max(10_000),
    ]),
    encoding_format: z.enum(["float", "base64"]).nullish(),
    dimensions: z.int().min(1).max(100_000).nullish(),
  })
  .meta({ id: "EmbeddingsRequest", example: { model: "text-embedding-3-small", input: "The quick brown fox" } });

export const embeddingsAnswer = z
  .looseObject({
    object: z.literal("list"),
    model: z.string(),
    data: z.array(
      z.looseObject({
        object: z.literal("embedding"),
        index: z.int(),
        embedding: z.union([z.array(z.number()), z.string()]),
      }),
    ),
    usage: z.looseObject({ prompt_tokens: z.int(), total_tokens: z.int() }).optional(),
  })
  .meta({
    id: "Embeddings",
    example: {
      object: "list",
      model: "text-embedding-3-small",
      data: [{ object: "embedding", index: 0, embedding: [0.01, -0.02] }],
      usage: { prompt_tokens: 4, total_tokens: 4 },
    },
  });

const price = z.object({
  input_usd_per_million: z.number(),
  cached_input_usd_per_million: z.number(),
  output_usd_per_million: z.number(),
  version: z.string().describe("Where the price is from."),
});

export const modelList = z
  .object({
    object: z.literal("list"),
    data: z.array(
      z.object({
        id: z.string(),
        object: z.literal("model"),
        created: z.int(),
        owned_by: z.string(),
        kind: z.enum(["chat", "embedding"]),
        context_length: z.int().nullable(),
        max_output_tokens: z.int().nullable(),
        type: z
          .literal("base")
          .describe("With `capabilities` and `max_context_length`: by which other vendors' SDKs know a model."),
        capabilities: z.object({ completion_chat: z.boolean() }),
        max_context_length: z.int().optional(),
        price,
        simulated: z.boolean(),
      }),
    ),
  })
  .meta({
    id: "ModelList",
    example: {
      object: "list",
      data: [
        {
          id: "gpt-4o-mini",
          object: "model",
          created: 0,
          owned_by: "openai",
          kind: "chat",
          context_length: 128_000,
          max_output_tokens: 16_384,
          type: "base",
          capabilities: { completion_chat: true },
          max_context_length: 128_000,
          price: {
            input_usd_per_million: 0.15,
            cached_input_usd_per_million: 0.075,
            output_usd_per_million: 0.6,
            version: "example",
          },
          simulated: true,
        },
      ],
    },
  });
