import { z } from "zod";
import type { ModelRouter } from "../../completion/model-router.ts";
import { type BridgeAgent, bridgeScript } from "../../conversations/bridge.ts";
import { type ConversationServices, holdConversation, stopped } from "../../conversations/hold-conversation.ts";
import { readLive } from "../../conversations/reading.ts";
import { BEFORE_ALL } from "../../conversations/transcript-events.ts";
import type { Ledger } from "../../ledger/ledger.ts";
import type { ProviderSet } from "../../providers/provider-set.ts";
import { standingHeaders } from "../answer-headers.ts";
import type { App } from "../app-type.ts";
import { shownConversation } from "../conversation-answers.ts";
import { callerOf, refusedConversation } from "../conversation-caller.ts";
import { followConversation, wantsEvents } from "../follow-conversation.ts";
import { conversationAnswer, exampleConversation } from "../schemas/conversation.ts";
import { completionRefusals } from "../schemas/error.ts";
import { languageTag } from "../schemas/language-tag.ts";

const bridgeAgent = z.strictObject({
  provider: z.string().min(1).max(64),
  model: z
    .string()
    .min(1)
    .max(200)
    .optional()
    .describe("Never swapped for another. Without it the provider's default model is asked, and others stand by."),
  persona: z.string().min(1).max(4_000).optional().describe("Who the agent is, in a sentence or two."),
  name: z.string().min(1).max(64).optional(),
});

const bridgeRequest = z
  .strictObject({
    first_message: z.string().min(1).max(20_000).describe("What the first agent answers."),
    agents: z.array(bridgeAgent).length(2, "must be two"),
    max_turns: z.int().min(1).max(12).default(6),
    language: languageTag.optional().describe("What both speak; without it, the first message's."),
    max_tokens: z.int().min(16).max(2_000).default(400).describe("Of each turn."),
  })
  .meta({
    id: "BridgeRequest",
    example: {
      first_message: "Should cities ban cars?",
      agents: [
        { provider: "openai", name: "Planner", persona: "You plan cities." },
        { provider: "mistral", name: "Driver", persona: "You drive a delivery van." },
      ],
      max_turns: 4,
    },
  });

/** Two agents talk with each other, each turn a request like any other. */
export function registerBridgeRoute(
  app: App,
  options: {
    services: ConversationServices;
    router: ModelRouter;
    providers: ProviderSet;
    ledger: Ledger;
    keepAliveMs: number;
  },
): void {
  const { services, router, providers, ledger, keepAliveMs } = options;

  app.post(
    "/agents/bridge",
    {
      config: { content: true },
      schema: {
        operationId: "bridgeAgents",
        summary: "Two agents talk",
        description:
          "Each agent sees the other's turns as a user's. Every turn is a request of its own to limits, budgets and the ledger; when one is refused or fails, what was said before is kept and `ended` says why there is no more. With `Accept: text/event-stream` the conversation comes as it happens (see docs/conversations.md). Who leaves ends it.",
        tags: ["Agents"],
        body: bridgeRequest,
        response: {
          200: conversationAnswer
            .meta({ id: "Bridge", example: exampleConversation })
            .describe("The conversation, or its events."),
          ...completionRefusals,
        },
      },
    },
    async (request, reply) => {
      const {
        first_message: firstMessage,
        agents,
        max_turns: maxTurns,
        language,
        max_tokens: maxTokens,
      } = request.body;
      const [first, second] = agents as [BridgeAgent, BridgeAgent];
      const script = bridgeScript(
        { firstMessage, agents: [first, second], maxTurns, language, maxTokens },
        request.key,
        {
          providers,
          router,
        },
      );
      const held = holdConversation(services, callerOf(request), script);
      const left = (): void => {
        if (!reply.raw.writableFinished) held.stop(stopped("The caller left before the conversation was over."));
      };
      reply.raw.on("close", left);
      // Who has left already closes nothing any more.
      if (reply.raw.destroyed) left();
      try {
        await held.begun;
        if (wantsEvents(request)) {
          await followConversation(
            reply,
            readLive(held.transcript, () => undefined),
            BEFORE_ALL,
            { keepAliveMs, headers: standingHeaders(ledger.standing(request.key)) },
          );
          return await reply;
        }
        const failure = await held.over;
        const { now } = held.transcript;
        // Where nobody said anything, the answer is what it would be to a single request.
        if (failure && now.turns.every(({ message }) => message === "")) throw failure;
        reply.headers(standingHeaders(ledger.standing(request.key)));
        return shownConversation(now);
      } catch (error) {
        throw refusedConversation(error, reply, ledger.standing(request.key));
      } finally {
        reply.raw.off("close", left);
      }
    },
  );
}
