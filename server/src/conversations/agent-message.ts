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
  const messages = [
    ...(instructions === "" ? [] : [{ role: "system", content: instructions }]),
    { role: "user", content: message },
  ];
  return readCompletionRequest("chat", parseJsonDocument(Buffer.from(JSON.stringify({ model, messages }))));
}

/** The text of an answer; a vendor that thinks aloud sends parts, of which the spoken ones count. */
export function answerText(value: Readonly<Record<string, unknown>>): string {
  const [choice] = value["choices"] as { message?: { content?: unknown } }[];
  const content = choice?.message?.content;
  if (typeof content === "string") return content;
  if (!Array.isArray(content)) return "";
  return (content as { type?: unknown; text?: unknown }[])
    .map((part) => (part?.type === "text" && typeof part.text === "string" ? part.text : ""))
    .join("");
}
