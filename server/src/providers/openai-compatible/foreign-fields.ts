import type { JsonDocument, JsonEdit } from "../../lib/json-document.ts";
import { isRecord } from "./vendor-answer.ts";

/**
 * What callers write for another wire form and OpenAI's does not know. OpenAI refuses unknown arguments, so what it calls
 * otherwise is renamed, and what says nothing (false, null, nothing in it) is taken out; the rest makes the request unfit.
 */

/** Fields that change an answer and that OpenAI's form has no word for. */
const WITHOUT_COUNTERPART = [
  "safe_prompt",
  "prompt_mode",
  "guardrails",
  "document_image_limit",
  "document_page_limit",
] as const;
const FOREIGN_PARTS: ReadonlySet<unknown> = new Set(["document_url", "reference", "thinking"]);

/** What of it stands in the request and means something; undefined: nothing. */
export function foreignField(document: JsonDocument, understandsPrefix: boolean): string | undefined {
  const field = WITHOUT_COUNTERPART.find((name) => !saysNothing(document.value[name]));
  if (field !== undefined) return field;
  for (const message of messagesOf(document)) {
    if (!understandsPrefix && message["prefix"] === true) return "prefix in messages";
    if (!Array.isArray(message["content"])) continue;
    for (const part of message["content"]) {
      if (!isRecord(part)) continue;
      if (FOREIGN_PARTS.has(part["type"])) return `${String(part["type"])} in messages`;
      if (typeof part["input_audio"] === "string") return "input_audio without its format in messages";
    }
  }
  return undefined;
}

/** Adds the edits that bring the request into OpenAI's form. */
export function translateForeignFields(document: JsonDocument, edits: Map<string, JsonEdit>): void {
  if (document.members.has("random_seed"))
    edits.set(
      "random_seed",
      document.members.has("seed") || document.value["random_seed"] === null ? "remove" : { renameTo: "seed" },
    );
  if (document.value["tool_choice"] === "any") edits.set("tool_choice", { set: "required" });
  for (const name of WITHOUT_COUNTERPART)
    if (document.members.has(name) && saysNothing(document.value[name])) edits.set(name, "remove");
  const messages = messagesOf(document);
  if (messages.some(needsTranslation)) edits.set("messages", { set: messages.map(translateMessage) });
}

const saysNothing = (value: unknown): boolean =>
  value === undefined || value === null || value === false || (Array.isArray(value) && value.length === 0);

type Message = Readonly<Record<string, unknown>>;

/** Empty when one of them is no message: the vendor will say so. */
function messagesOf({ value }: JsonDocument): readonly Message[] {
  const messages = value["messages"];
  return Array.isArray(messages) && messages.every(isRecord) ? messages : [];
}

const needsTranslation = (message: Message): boolean =>
  message["prefix"] === false || (Array.isArray(message["content"]) && message["content"].some(isBarePicture));

/** The picture's address by itself, where OpenAI wants it in an object. */
const isBarePicture = (part: unknown): part is { readonly image_url: string } =>
  isRecord(part) && part["type"] === "image_url" && typeof part["image_url"] === "string";

function translateMessage(message: Message): Message {
  if (!needsTranslation(message)) return message;
  const { prefix, ...kept } = message;
  const { content } = kept;
  return {
    ...kept,
    ...(prefix === true && { prefix }),
    ...(Array.isArray(content) && {
      content: content.map((part: unknown) =>
        isBarePicture(part) ? { ...part, image_url: { url: part.image_url } } : part,
      ),
    }),
  };
}
