import type { JsonDocument } from "../lib/json-document.ts";
import type { Operation } from "../providers/provider.ts";

/** What the path needs to know of a request; everything else stays in the caller's own bytes. */
export interface CompletionRequest {
  readonly operation: Operation;
  readonly document: JsonDocument;
  /** As the caller named it: a model, `provider/model`, or `brikk/` and what the router is to go by. */
  readonly model: string;
  /** Further models the caller allows, in order. */
  readonly fallbackModels: readonly string[];
  readonly stream: boolean;
  /** The caller wants the usage chunk of a stream. */
  readonly wantsUsage: boolean;
  readonly choices: number;
  /** The longest answer that the caller allows. */
  readonly maxOutputTokens: number | undefined;
}

/** Reads a body that the route's schema has accepted. */
export function readCompletionRequest(operation: Operation, document: JsonDocument): CompletionRequest {
  const { value } = document;
  const streamOptions = value["stream_options"];
  const models = value["models"];
  return {
    operation,
    document,
    model: value["model"] as string,
    fallbackModels: Array.isArray(models) ? (models as string[]) : [],
    stream: operation === "chat" && value["stream"] === true,
    wantsUsage:
      typeof streamOptions === "object" &&
      streamOptions !== null &&
      "include_usage" in streamOptions &&
      streamOptions.include_usage === true,
    // Of an embedding these are no fields, so that no schema has looked at them; a worst case may not hang on what they say.
    ...(operation === "chat"
      ? {
          choices: numberOf(value["n"]) ?? 1,
          maxOutputTokens: longer(numberOf(value["max_completion_tokens"]), numberOf(value["max_tokens"])),
        }
      : { choices: 1, maxOutputTokens: undefined }),
  };
}

/** Which of the two a vendor obeys is the vendor's to say. */
const longer = (a: number | undefined, b: number | undefined): number | undefined =>
  a === undefined ? b : b === undefined ? a : Math.max(a, b);

const numberOf = (value: unknown): number | undefined => (typeof value === "number" ? value : undefined);

/** The texts that a tokenizer would count as input; for estimates when the provider did not say. */
export function inputTexts(request: CompletionRequest): string[] {
  const texts: string[] = [];
  const collect = (value: unknown): void => {
    if (typeof value === "string") texts.push(value);
    else if (Array.isArray(value)) for (const item of value as unknown[]) collect(item);
    else if (typeof value === "object" && value !== null) for (const item of Object.values(value)) collect(item);
  };
  const { value } = request.document;
  if (request.operation === "embeddings") collect(value["input"]);
  else {
    collect(withoutPictures(value["messages"]));
    collect(value["tools"]);
  }
  return texts;
}

/**
 * The messages without the pictures in their parts, which no tokenizer counts. Only there: a tool's schema may well have a
 * property of the same name, and is read as text.
 */
export function withoutPictures(messages: unknown): unknown {
  if (!Array.isArray(messages)) return messages;
  return messages.map((message: { readonly content?: unknown } | null) =>
    Array.isArray(message?.content)
      ? { ...message, content: message.content.map((part: unknown) => (isPicture(part) ? { type: part.type } : part)) }
      : message,
  );
}

const isPicture = (part: unknown): part is { readonly type: "image_url" } =>
  typeof part === "object" && part !== null && "type" in part && part.type === "image_url";
