import type { z } from "zod";
import { readCompletionRequest } from "../../completion/completion-request.ts";
import { offeredModels } from "../../completion/allowed-models.ts";
import type { ModelRouter } from "../../completion/model-router.ts";
import type { ModelCatalogue } from "../../ledger/model-catalogue.ts";
import type { PicoUsdPerToken } from "../../lib/money.ts";
import type { Operation } from "../../providers/provider.ts";
import type { ProviderSet } from "../../providers/provider-set.ts";
import type { AnswerCompletion } from "../answer-completion.ts";
import { chatAnswer, chatRequest, embeddingsAnswer, embeddingsRequest, modelList } from "../schemas/completion.ts";
import { completionRefusals, refusals } from "../schemas/error.ts";
import type { App } from "../app-type.ts";

/** OpenAI's own paths: chat completions, embeddings, models. */
export function registerCompletionRoutes(
  app: App,
  options: {
    answerCompletion: AnswerCompletion;
    router: ModelRouter;
    providers: ProviderSet;
    catalogue: () => ModelCatalogue;
  },
): void {
  const { answerCompletion, router, providers, catalogue } = options;

  const serve = (operation: Operation) =>
    async function answer(
      request: Parameters<AnswerCompletion>[0]["request"],
      reply: Parameters<AnswerCompletion>[0]["reply"],
    ) {
      const completion = readCompletionRequest(operation, request.document);
      const completed = await answerCompletion(
        { request, reply },
        {
          request: completion,
          chooseRoute: () => router.byName([completion.model, ...completion.fallbackModels], completion, request.key),
        },
      );
      // A stream has gone out by itself; a caller who left is answered by nobody.
      if (!completed.answer) return reply.hijack();
      return reply.header("content-type", "application/json").send(completed.answer.body);
    };

  app.post(
    "/v1/chat/completions",
    {
      config: { content: true },
      schema: {
        operationId: "createChatCompletion",
        summary: "Chat completion, streamed or whole",
        description:
          "OpenAI's chat completions. Fields that are not listed pass on to the provider. With `stream`, the answer is `text/event-stream` and ends with `data: [DONE]` once its cost is in the ledger; an answer that was cut ends with an `error` event instead.",
        tags: ["OpenAI-compatible"],
        body: chatRequest,
        response: { 200: chatAnswer.describe("The provider's answer."), ...completionRefusals },
      },
    },
    serve("chat"),
  );

  app.post(
    "/v1/embeddings",
    {
      config: { content: true },
      schema: {
        operationId: "createEmbeddings",
        summary: "Embeddings",
        description: "OpenAI's embeddings.",
        tags: ["OpenAI-compatible"],
        body: embeddingsRequest,
        response: { 200: embeddingsAnswer.describe("The provider's answer."), ...completionRefusals },
      },
    },
    serve("embeddings"),
  );

  app.get(
    "/v1/models",
    {
      schema: {
        operationId: "listModels",
        summary: "Models, with price and context length",
        description: "Every model of the configured providers that has a price and that the key may use.",
        tags: ["OpenAI-compatible"],
        response: { 200: modelList.describe("The models."), ...refusals },
      },
    },
    async ({ key }): Promise<z.infer<typeof modelList>> => ({
      object: "list",
      data: providers.all.flatMap(({ provider }) =>
        offeredModels(catalogue(), provider.name, key, providers.known).map((model) => ({
          id: model.id,
          object: "model" as const,
          created: model.created ?? 0,
          owned_by: model.provider,
          kind: model.kind,
          context_length: model.contextTokens ?? null,
          max_output_tokens: model.maxOutputTokens ?? null,
          type: "base" as const,
          capabilities: { completion_chat: model.kind === "chat" },
          ...(model.contextTokens !== undefined && { max_context_length: model.contextTokens }),
          price: {
            input_usd_per_million: usdPerMillion(model.rates.freshInput),
            cached_input_usd_per_million: usdPerMillion(model.rates.cachedInput),
            output_usd_per_million: usdPerMillion(model.rates.output),
            version: model.rates.version,
          },
          simulated: provider.simulated,
        })),
      ),
    }),
  );
}

/** 1 USD per million tokens is 1,000,000 pico-USD per token. */
const usdPerMillion = (rate: PicoUsdPerToken): number => Number(rate) / 1e6;
