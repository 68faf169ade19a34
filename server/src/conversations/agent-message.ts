import { type CompletionRequest, readCompletionRequest } from "../completion/completion-request.ts";
import { parseJsonDocument } from "../lib/json-document.ts";
import { languageName } from "./language.ts";

/** What a person says to an agent. */
export interface AgentMessage {
  readonly message: string;
  readonly system?: string | undefined;
  /** BCP 47; asks for the answer in this language. */
  readonly language?: string | undefined;
}

/** The message in the inner form. `model` is what the ledger calls the request's wish. */
export function agentRequest(model: string, { message, system, language }: AgentMessage): CompletionRequest {
  const instructions = [system, language === undefined ? undefined : `Answer in ${languageName(language)}.`]
    .filter((text) => text !== undefined)
    .join("\n\n");
  const messages: ChatMessage[] = [
    ...(instructions === "" ? [] : [{ role: "system" as const, content: instructions }]),
    { role: "user", content: message },
  ];
  return chatRequest({ model, messages });
}

export interface ChatMessage {
  readonly role: "system" | "user" | "assistant";
  readonly content: string;
}

/** A chat of the gateway's own making in the inner form; with a limit of its answer, as a stream where that is wanted. */
export const chatRequest = (body: {
  readonly model: string;
  readonly messages: readonly ChatMessage[];
  readonly max_tokens?: number;
  readonly stream?: true;
}): CompletionRequest => readCompletionRequest("chat", parseJsonDocument(Buffer.from(JSON.stringify(body))));

export interface Answered {
  readonly text: string;
  /** As the model said it; `length` is an answer that reached its limit. */
  readonly finishReason: string | undefined;
}

/** What a whole answer says. */
export function answered(value: Readonly<Record<string, unknown>>): Answered {
  const [choice] = value["choices"] as { message?: SpokenMessage; finish_reason?: unknown }[];
  const finishReason = choice?.finish_reason;
  return {
    text: spokenText(choice?.message),
    finishReason: typeof finishReason === "string" ? finishReason : undefined,
  };
}

/** A message of a model, or a piece of one. */
export interface SpokenMessage {
  readonly content?: unknown;
  /** In which a model says that it will not answer, in the content's place. */
  readonly refusal?: unknown;
}

/** A vendor that thinks aloud sends parts, of which the spoken ones count. */
export function spokenText({ content, refusal }: SpokenMessage = {}): string {
  if (typeof content === "string" && content !== "") return content;
  if (Array.isArray(content))
    return (content as { type?: unknown; text?: unknown }[])
      .map((part) => (part?.type === "text" && typeof part.text === "string" ? part.text : ""))
      .join("");
  return typeof refusal === "string" ? refusal : "";
}
