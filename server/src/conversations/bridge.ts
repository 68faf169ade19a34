import type { ApiKey } from "../access/api-key.ts";
import type { CompletionRequest } from "../completion/completion-request.ts";
import type { ModelRouter, Route } from "../completion/model-router.ts";
import { BrikkError } from "../errors.ts";
import { randomBase62 } from "../lib/ids.ts";
import type { ConnectedProvider, ProviderSet } from "../providers/provider-set.ts";
import { type ChatMessage, chatRequest } from "./agent-message.ts";
import type { Agent, Conversation } from "./conversation.ts";
import type { Script } from "./hold-conversation.ts";
import { languageName } from "./language.ts";

/** What two agents are to talk about, and who they are. */
export interface BridgeWish {
  readonly firstMessage: string;
  readonly agents: readonly [BridgeAgent, BridgeAgent];
  readonly maxTurns: number;
  /** BCP 47. */
  readonly language: string | undefined;
  readonly maxTokens: number;
}

export interface BridgeAgent {
  readonly provider: string;
  /** Undefined: the provider's default model, for which others stand by. A model that is named is never swapped. */
  readonly model?: string | undefined;
  readonly persona?: string | undefined;
  readonly name?: string | undefined;
}

/**
 * Two agents in turn: each sees the other's turns as a user's and its own as an assistant's; the first answers the first message. Throws
 * invalid_request, no_provider_available and what the router throws of a model, for both agents, before anybody speaks.
 */
export function bridgeScript(
  wish: BridgeWish,
  key: ApiKey,
  { providers, router }: { readonly providers: ProviderSet; readonly router: ModelRouter },
): Script {
  const connected = wish.agents.map(({ provider }, index) => connectedProvider(providers, provider, index));
  const names = namesOf(wish.agents);
  const agents = wish.agents.map(({ provider, model }, index): Agent => ({
    name: names[index]!,
    language: wish.language,
    provider,
    model: model ?? connected[index]!.provider.defaultModel,
  }));

  const requestOf = (agent: number, said: Conversation["turns"]): CompletionRequest =>
    chatRequest({
      model: `${agents[agent]!.provider}/${agents[agent]!.model}`,
      messages: messagesOf(wish, names, agent, said),
      max_tokens: wish.maxTokens,
      stream: true,
    });
  const routeOf = (agent: number, request: CompletionRequest, rights: ApiKey): Route => {
    const { provider, model } = wish.agents[agent]!;
    return model === undefined
      ? router.byWish({ preference: "auto", language: wish.language, policy: provider }, request, rights)
      : router.byName([`${provider}/${model}`], request, rights);
  };
  // The second one would be found out only when the first has spoken.
  routeOf(1, requestOf(1, []), key);

  return {
    beginning: {
      id: `run_${randomBase62(24)}`,
      kind: "bridge",
      opening: wish.firstMessage,
      agents,
      plannedTurns: wish.maxTurns,
    },
    next({ turns }) {
      const agent = turns.length % 2;
      const request = requestOf(agent, turns);
      return {
        round: 1,
        agent,
        language: wish.language,
        request,
        chooseRoute: (rights) => routeOf(agent, request, rights),
      };
    },
  };
}

function connectedProvider(providers: ProviderSet, name: string, index: number): ConnectedProvider {
  const connected = providers.find(name);
  if (connected) return connected;
  if (providers.known.includes(name))
    throw new BrikkError(
      "no_provider_available",
      `The provider ${name} cannot be asked: this server has no key for it.`,
    );
  throw new BrikkError(
    "invalid_request",
    `agents.${index}.provider: "${name.slice(0, 64)}" is no provider of this server; there are ${providers.known.join(", ")}.`,
    { param: `agents.${index}.provider` },
  );
}

/** Two that would be called alike are told apart. */
function namesOf(agents: BridgeWish["agents"]): readonly [string, string] {
  const [first, second] = agents.map(({ name, provider }) => name ?? provider) as [string, string];
  return first === second ? [`${first} 1`, `${second} 2`] : [first, second];
}

function messagesOf(
  { firstMessage, agents, language }: BridgeWish,
  names: readonly [string, string],
  agent: number,
  said: Conversation["turns"],
): readonly ChatMessage[] {
  const isFirst = agent === 0;
  const system = [
    agents[agent]!.persona,
    `You are ${names[agent]}, in a conversation with ${names[1 - agent]}. The messages that you get are theirs${isFirst ? ", but for the first, which opens the conversation" : ""}. Answer what was said last, in about 60 to 120 words, as one would aloud: no headings, no lists, no name in front. Bring in something of your own, and say so when you see it otherwise.`,
    ...(isFirst ? [] : [`The conversation was opened with this message:\n\n${firstMessage}`]),
    ...(language === undefined ? [] : [`Speak ${languageName(language)}.`]),
  ];
  const messages: ChatMessage[] = [
    { role: "system", content: system.filter((text) => text !== undefined).join("\n\n") },
    ...(isFirst ? [{ role: "user" as const, content: firstMessage }] : []),
  ];
  for (const [index, { message }] of said.entries())
    messages.push({ role: index % 2 === agent ? "assistant" : "user", content: message.trim() || SILENCE });
  return messages;
}

/** Vendors refuse a message without content. */
const SILENCE = "\u2026";
