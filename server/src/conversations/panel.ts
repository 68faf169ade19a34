import type { ModelRouter } from "../completion/model-router.ts";
import { clipText } from "../lib/clip-text.ts";
import { randomBase62 } from "../lib/ids.ts";
import { panelVoices } from "../providers/panel-voices.ts";
import type { ProviderSet } from "../providers/provider-set.ts";
import { chatRequest } from "./agent-message.ts";
import type { Agent, Conversation } from "./conversation.ts";
import type { Script } from "./hold-conversation.ts";
import { panelPrompts } from "./panel-prompts.ts";

const TURNS = 2 * panelVoices.length;

/** A longer question is quoted by its beginning first, so that the rules of the answer stand near the start. */
const LONGEST_FIRST_LINE = 300;
/** Of each turn that was spoken, about 120 words; so that the eighth turn's request is still small. */
const LONGEST_QUOTE = 800;

/** The panel's four, with the provider that is asked first for each where it can be asked at all. */
export const panelAgents = (providers: ProviderSet): readonly Agent[] =>
  panelVoices.map(({ name, language, provider }) => {
    const connected = providers.find(provider);
    return {
      name,
      language,
      provider: connected?.provider.name,
      model: connected?.provider.defaultModel,
    };
  });

/** Four agents in four languages and two rounds; who fails is stood in for by another provider, in the same language. */
export function panelScript(
  wish: { readonly prompt: string; readonly maxTokens: number },
  { providers, router }: { readonly providers: ProviderSet; readonly router: ModelRouter },
): Script {
  const agents = panelAgents(providers);
  return {
    beginning: {
      id: `run_${randomBase62(24)}`,
      kind: "panel",
      opening: wish.prompt,
      agents,
      plannedTurns: TURNS,
    },
    next({ turns }) {
      const agent = turns.length % panelVoices.length;
      const round = Math.floor(turns.length / panelVoices.length) + 1;
      const { name, language } = panelVoices[agent]!;
      const others = panelVoices.filter((other) => other.name !== name).map((other) => other.name);
      const request = chatRequest({
        model: "brikk/auto",
        messages: [
          { role: "system", content: panelPrompts[language].system(name, others) },
          { role: "user", content: turnMessage(wish.prompt, agent, round, turns) },
        ],
        max_tokens: wish.maxTokens,
        stream: true,
      });
      const policy = agents[agent]!.provider;
      return {
        round,
        agent,
        language,
        request,
        chooseRoute: (key) => router.byWish({ preference: "auto", language, policy }, request, key),
      };
    },
  };
}

/** The question, the rules of the answer, what was said, and whom to answer. */
function turnMessage(prompt: string, agent: number, round: number, said: Conversation["turns"]): string {
  const { form, question, saidSoFar, open, answer, followUp } = panelPrompts[panelVoices[agent]!.language];
  const heard = said.filter(({ message }) => message.trim() !== "");
  const last = heard.at(-1)?.agent;
  const task = last === undefined ? open : round === 1 ? answer(last) : followUp(last);
  const parts = [`${clipText(prompt, LONGEST_FIRST_LINE)}\n${form}`];
  if (prompt.length > LONGEST_FIRST_LINE) parts.push(`${question}\n${prompt}`);
  if (heard.length > 0) {
    const lines = heard.map(({ agent: name, message }) => `${name}: ${clipText(onOneLine(message), LONGEST_QUOTE)}`);
    parts.push(`${saidSoFar}\n${lines.join("\n")}`);
  }
  parts.push(task);
  return parts.join("\n\n");
}

/** So that nobody is quoted with a line that another one seems to say; control characters are line ends to some readers. */
const onOneLine = (text: string): string => text.replace(/[\s\p{Cc}]+/gu, " ").trim();
