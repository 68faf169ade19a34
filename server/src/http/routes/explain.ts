import { z } from "zod";
import { ANONYMOUS_KEY_ID } from "../../access/api-key.ts";
import { rateLimitRefusal } from "../../access/rate-limit-refusal.ts";
import type { RateLimiter } from "../../access/rate-limiter.ts";
import { readCompletionRequest } from "../../completion/completion-request.ts";
import { type Explanation, explainCompletion } from "../../completion/explain-completion.ts";
import type { ModelRouter } from "../../completion/model-router.ts";
import { usdNumber } from "../../lib/money.ts";
import { standingHeaders } from "../answer-headers.ts";
import type { App } from "../app-type.ts";
import { budget, exampleBudget, shownBudget } from "../schemas/budget.ts";
import { chatRequest, embeddingsRequest } from "../schemas/completion.ts";
import { bodyRefusals, refusals } from "../schemas/error.ts";

const explanation = z
  .object({
    passes: z.boolean().describe("Whether the request would reach a provider if it came now."),
    refusal: z
      .object({
        status: z.int(),
        code: z.string(),
        message: z.string(),
        details: z.looseObject({}).nullable(),
      })
      .nullable()
      .describe("What it would be refused with."),
    max_tokens_clamped: z
      .int()
      .nullable()
      .describe("What the answer would be limited to, where the budget pays for no longer one."),
    key: z.object({ key_id: z.string(), name: z.string(), anonymous: z.boolean() }),
    worst_case_usd: z
      .number()
      .nullable()
      .describe("What would be set aside: the dearest candidate at its longest answer."),
    route: z
      .object({
        reason: z.string(),
        policy: z.string().nullable().describe("The operator's policy that makes the route."),
        candidates: z
          .array(
            z.object({
              provider: z.string(),
              model: z.string(),
              reason: z.string().describe("Why it stands where it stands."),
              simulated: z.boolean(),
              worst_case_usd: z.number(),
              price_version: z.string(),
            }),
          )
          .describe("In the order in which they would be asked."),
        excluded: z
          .array(z.object({ provider: z.string(), model: z.string(), reason: z.string() }))
          .describe("Who may not serve this request, and why."),
      })
      .nullable(),
    rate_limits: z
      .array(
        z.object({
          rule: z.string().describe("As in the RateLimit header, or key-concurrency."),
          limit: z.int(),
          remaining: z.int(),
          wait_ms: z.int().describe("Until a request would pass; 0 when one would pass now."),
        }),
      )
      .describe("Every limit that applies. This very request is counted in all but key-concurrency."),
    budgets: z.array(budget),
  })
  .meta({
    id: "Explanation",
    example: {
      passes: true,
      refusal: null,
      max_tokens_clamped: null,
      key: { key_id: "bk_Example00001", name: "demo", anonymous: false },
      worst_case_usd: 0.0098493,
      route: {
        reason: "model named by the caller",
        policy: null,
        candidates: [
          {
            provider: "openai",
            model: "gpt-4o-mini",
            reason: "model named by the caller",
            simulated: false,
            worst_case_usd: 0.0098493,
            price_version: "example",
          },
        ],
        excluded: [],
      },
      rate_limits: [{ rule: "key-rpm", limit: 60, remaining: 59, wait_ms: 0 }],
      budgets: [exampleBudget],
    },
  });

/** Says what would become of a request, without making it. */
export function registerExplainRoute(
  app: App,
  options: {
    services: Parameters<typeof explainCompletion>[0];
    router: ModelRouter;
    rateLimiter: RateLimiter;
  },
): void {
  const { services, router, rateLimiter } = options;
  app.post(
    "/v1/explain",
    {
      config: { content: true },
      schema: {
        operationId: "explainRequest",
        summary: "What would become of a request",
        description:
          "Takes the body of a chat completion or of embeddings and says which key it would be charged to, which limits and budgets apply and what is left of them, who would be asked in which order, what it may cost at most, and whether it would pass; if not, why. No provider is called and nothing is charged.",
        tags: ["Account"],
        body: z.union([chatRequest, embeddingsRequest]),
        response: { 200: explanation.describe("What would become of it."), ...refusals, ...bodyRefusals },
      },
    },
    async (request, reply): Promise<z.infer<typeof explanation>> => {
      // The slot is the explained request's to take: with one slot, this request would otherwise stand in its way.
      request.admission.release?.();
      const operation = "messages" in request.body ? "chat" : "embeddings";
      const completion = readCompletionRequest(operation, request.document);
      const explained = await explainCompletion(services, {
        key: request.key,
        request: completion,
        chooseRoute: () => router.byName([completion.model, ...completion.fallbackModels], completion, request.key),
      });
      reply.headers(standingHeaders(explained));
      const { key } = request;
      const verdict = await rateLimiter.peek({ key, remoteAddress: request.ip });
      const tooOften = verdict.allowed ? undefined : rateLimitRefusal(key, verdict);
      return {
        ...shown({ ...explained, refusal: tooOften ?? explained.refusal }),
        key: { key_id: key.id, name: key.name, anonymous: key.id === ANONYMOUS_KEY_ID },
        rate_limits: verdict.rules.map(({ name: rule, limit, remaining, waitMs }) => ({
          rule,
          limit,
          remaining,
          wait_ms: waitMs,
        })),
      };
    },
  );
}

const shown = ({
  budgets,
  route,
  worstCase,
  clampedMaxTokens,
  refusal,
}: Explanation): Omit<z.infer<typeof explanation>, "key" | "rate_limits"> => ({
  passes: refusal === undefined,
  refusal: refusal
    ? {
        status: refusal.status,
        code: refusal.code,
        message: refusal.message,
        details: refusal.extras.details ?? null,
      }
    : null,
  max_tokens_clamped: clampedMaxTokens ?? null,
  worst_case_usd: worstCase === undefined ? null : usdNumber(worstCase),
  route: route
    ? {
        reason: route.reason,
        policy: route.policy?.name ?? null,
        candidates: route.candidates.map(({ candidate: { connected, model }, reason, worstCase: most }) => ({
          provider: model.provider,
          model: model.id,
          reason,
          simulated: connected.provider.simulated,
          worst_case_usd: usdNumber(most),
          price_version: model.rates.version,
        })),
        excluded: [...route.excluded],
      }
    : null,
  budgets: budgets.map(shownBudget),
});
