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

/** The text of an answer. */
export function answerText(value: Readonly<Record<string, unknown>>): string {
  const [choice] = value["choices"] as { message?: { content?: unknown } }[];
  return spokenText(choice?.message?.content);
}

/** A vendor that thinks aloud sends parts, of which the spoken ones count. */
export function spokenText(content: unknown): string {
  if (typeof content === "string") return content;
  if (!Array.isArray(content)) return "";
  return (content as { type?: unknown; text?: unknown }[])
    .map((part) => (part?.type === "text" && typeof part.text === "string" ? part.text : ""))
    .join("");
}
