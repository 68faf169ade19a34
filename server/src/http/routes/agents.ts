import { z } from "zod";
import type { Completed, CompletionReport } from "../../completion/run-completion.ts";
import type { ModelRouter } from "../../completion/model-router.ts";
import type { ProviderHealth } from "../../completion/provider-health.ts";
import { agentRequest, answered } from "../../conversations/agent-message.ts";
import { detectLanguage } from "../../conversations/language.ts";
import { panelAgents } from "../../conversations/panel.ts";
import { BrikkError } from "../../errors.ts";
import { usdNumber } from "../../lib/money.ts";
import type { ProviderSet } from "../../providers/provider-set.ts";
import type { AnswerCompletion } from "../answer-completion.ts";
import type { App } from "../app-type.ts";
import { shownAgent } from "../conversation-answers.ts";
import { completionRefusals, refusals } from "../schemas/error.ts";
import { languageTag } from "../schemas/language-tag.ts";

const agentMessage = z.strictObject({
  message: z.string().min(1).max(200_000),
  system: z.string().max(50_000).optional(),
  language: languageTag.optional(),
  meta: z
    .record(z.string().max(64), z.union([z.string().max(1_000), z.number(), z.boolean(), z.null()]))
    .optional()
    .describe("Your own notes on the request; they do not reach the model."),
});

const routedMessage = agentMessage.extend({
  hint: z
    .enum(["cheap", "quality", "balanced"])
    .optional()
    .describe("What matters most: the price of this request, the model's quality, or a bit of both and of its speed."),
  policy: z
    .string()
    .min(1)
    .max(64)
    .optional()
    .describe("A provider that is to be asked first, or one of the operator's policies."),
});

const agentAnswer = z.object({
  provider: z.string(),
  model: z.string(),
  message: z.string(),
  usage: z.object({ prompt_tokens: z.int(), completion_tokens: z.int(), total_tokens: z.int() }),
  cost_usd: z.number(),
  request_id: z.string(),
  latency_ms: z.int(),
  fallback: z.boolean(),
});

const routedModel = z.object({ provider: z.string(), model: z.string() });

const routedAnswer = agentAnswer.extend({
  route: z.object({
    reason: z.string(),
    language: z.string().nullable(),
    policy: z.string().nullable().describe("The operator's policy that made the route."),
    candidates: z
      .array(routedModel.extend({ reason: z.string().describe("Why it stands where it stands.") }))
      .describe("In the order in which they are asked."),
    excluded: z.array(routedModel.extend({ reason: z.string() })).describe("Who may not serve this request, and why."),
  }),
});

const provider = z.string().nullable().describe("null: whoever suits the request.");
const available = z.boolean().describe("Whether it can be asked right now; of one that cannot, another may stand in.");

const agentList = z
  .object({
    agents: z.array(
      z.object({
        name: z.string(),
        path: z.string().describe("Where it takes a message."),
        provider,
        model: z.string().nullable(),
        simulated: z.boolean(),
        available,
      }),
    ),
    panel: z
      .array(
        z.object({
          name: z.string(),
          language: z.string().nullable(),
          dir: z.enum(["ltr", "rtl"]).nullable(),
          provider,
          model: z.string().nullable(),
          simulated: z.boolean(),
          available,
        }),
      )
      .describe("In the order in which they speak."),
  })
  .meta({
    id: "AgentList",
    example: {
      agents: [
        {
          name: "openai",
          path: "/agents/openai/chat",
          provider: "openai",
          model: "gpt-4o-mini",
          simulated: false,
          available: true,
        },
        {
          name: "route",
          path: "/agents/route/chat",
          provider: null,
          model: null,
          simulated: false,
          available: true,
        },
      ],
      panel: [
        {
          name: "Ada",
          language: "en",
          dir: "ltr",
          provider: "openai",
          model: "gpt-4o-mini",
          simulated: false,
          available: true,
        },
      ],
    },
  });

const exampleAnswer = {
  provider: "openai",
  model: "gpt-4o-mini",
  message: "Because air scatters blue light most.",
  usage: { prompt_tokens: 13, completion_tokens: 8, total_tokens: 21 },
  cost_usd: 0.00000675,
  request_id: "req_example",
  latency_ms: 812,
  fallback: false,
};

/** Plain conversation with one provider's agent, or with whoever suits best. */
export function registerAgentRoutes(
  app: App,
  options: {
    answerCompletion: AnswerCompletion;
    router: ModelRouter;
    providers: ProviderSet;
    health: ProviderHealth;
  },
): void {
  const { answerCompletion, router, providers, health } = options;

  const standingOf = (name: string | undefined): { simulated: boolean; available: boolean } => {
    const asked = name === undefined ? providers.all : providers.all.filter((one) => one.provider.name === name);
    return {
      simulated: asked.length > 0 && asked.every((one) => one.provider.simulated),
      available: asked.some(
        (one) => health.standingOf(one.provider.name, one.provider.defaultModel).availableInMs === 0,
      ),
    };
  };

  app.get(
    "/agents",
    {
      schema: {
        operationId: "listAgents",
        summary: "The agents",
        description:
          "One for each provider's default model, one that is routed, and the four of the panel with who is asked first for each.",
        tags: ["Agents"],
        response: { 200: agentList.describe("The agents."), ...refusals },
      },
    },
    async (): Promise<z.infer<typeof agentList>> => ({
      agents: [
        ...providers.known.map((name) => ({
          name,
          path: `/agents/${name}/chat`,
          provider: name,
          model: providers.find(name)?.provider.defaultModel ?? null,
          ...standingOf(name),
        })),
        { name: "route", path: "/agents/route/chat", provider: null, model: null, ...standingOf(undefined) },
      ],
      panel: panelAgents(providers).map((agent) => ({ ...shownAgent(agent), ...standingOf(agent.provider) })),
    }),
  );

  app.post(
    "/agents/route/chat",
    {
      config: { content: true },
      schema: {
        operationId: "chatWithRoutedAgent",
        summary: "One message, to whoever suits best",
        description:
          "Routes by `policy`, else by `hint`, else by language (given or detected), and falls back to the other providers when one fails. The answer says why it went where it went.",
        tags: ["Agents"],
        body: routedMessage.meta({
          id: "RoutedMessage",
          example: { message: "¿Por qué el cielo es azul?", hint: "balanced" },
        }),
        response: {
          200: routedAnswer
            .meta({
              id: "RoutedAnswer",
              example: {
                ...exampleAnswer,
                route: {
                  reason: "language es",
                  language: "es",
                  policy: null,
                  candidates: [{ provider: "openai", model: "gpt-4o-mini", reason: "preferred for language es" }],
                  excluded: [],
                },
              },
            })
            .describe("The answer and its route."),
          ...completionRefusals,
        },
      },
    },
    async (request, reply) => {
      const { hint, policy, ...message } = request.body;
      const language = message.language ?? detectLanguage(message.message);
      const preference = hint ?? "auto";
      const completion = agentRequest(`brikk/${preference}`, message);
      const completed = await answerCompletion(
        { request, reply },
        {
          request: completion,
          chooseRoute: () => router.byWish({ preference, language, policy }, completion, request.key),
        },
      );
      if (!completed.answer) return reply.hijack();
      const { route } = completed.report;
      return {
        ...shown(request.id, completed.answer, completed.report),
        route: {
          reason: route.reason,
          language: language ?? null,
          policy: route.policy?.name ?? null,
          candidates: route.candidates.map(({ model }, index) => ({
            provider: model.provider,
            model: model.id,
            reason: route.reasons[index]!,
          })),
          excluded: [...route.excluded],
        },
      };
    },
  );

  app.post(
    "/agents/:agent/chat",
    {
      config: { content: true },
      schema: {
        operationId: "chatWithAgent",
        summary: "One message, to one provider's agent",
        description: "Asks the provider's default model.",
        tags: ["Agents"],
        params: z.object({
          agent: z
            .string()
            .max(64)
            .describe(`One of ${providers.known.join(", ")}.`)
            .meta({ example: providers.known[0] }),
        }),
        body: agentMessage.meta({ id: "AgentMessage", example: { message: "Why is the sky blue?", language: "en" } }),
        response: {
          200: agentAnswer.meta({ id: "AgentAnswer", example: exampleAnswer }).describe("The answer."),
          ...completionRefusals,
        },
      },
    },
    async (request, reply) => {
      const { agent } = request.params;
      if (!providers.known.includes(agent))
        throw new BrikkError(
          "not_found",
          `There is no agent "${agent.slice(0, 64)}"; there are ${[...providers.known, "route"].join(", ")}.`,
        );
      const connected = providers.find(agent);
      if (!connected)
        throw new BrikkError(
          "no_provider_available",
          `The agent ${agent} has no provider: this server has no key for it.`,
        );
      const model = `${agent}/${connected.provider.defaultModel}`;
      const completed = await answerCompletion(
        { request, reply },
        { request: agentRequest(model, request.body), chooseRoute: () => router.byProvider(connected, request.key) },
      );
      if (!completed.answer) return reply.hijack();
      return shown(request.id, completed.answer, completed.report);
    },
  );
}

function shown(
  requestId: string,
  answer: NonNullable<Completed["answer"]>,
  report: CompletionReport,
): z.infer<typeof agentAnswer> {
  const { usage, candidate } = report;
  const input = usage.freshInputTokens + usage.cachedInputTokens + usage.cacheWriteTokens + usage.audioInputTokens;
  const output = usage.outputTokens + usage.audioOutputTokens;
  return {
    provider: candidate!.model.provider,
    model: candidate!.model.id,
    message: answered(answer.value).text,
    usage: { prompt_tokens: input, completion_tokens: output, total_tokens: input + output },
    cost_usd: usdNumber(report.receipt.cost),
    request_id: requestId,
    latency_ms: Math.round(report.durationMs),
    fallback: report.fallback,
  };
}
