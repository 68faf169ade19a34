/** A chat request as both vendors mean it, after its body has been read. Field names are Brikk's own. */
export interface ChatRequest {
  readonly model: string;
  readonly stream: boolean;
  /** OpenAI's stream_options.include_usage; Mistral sends usage unasked. */
  readonly includeUsage: boolean;
  readonly messages: readonly PromptMessage[];
  readonly tools: readonly ToolDefinition[];
  readonly toolChoice: ToolChoice;
  readonly responseFormat: ResponseFormat;
  readonly stop: readonly string[];
  readonly maxTokens: number | undefined;
  readonly choiceCount: number;
  /** What the answer begins with, word for word; Mistral's `prefix` message. */
  readonly prefix?: string;
  readonly seed: number | undefined;
  /** How long a reasoning model thinks before it answers; undefined for the other models. */
  readonly reasoning: ReasoningEffort | undefined;
  /** Alternatives per token; undefined when no log probabilities were asked for. */
  readonly topLogprobs: number | undefined;
}

export interface PromptMessage {
  readonly role: string;
  readonly text: string;
  readonly imageCount: number;
}

export interface ToolDefinition {
  readonly name: string;
  readonly description: string;
  readonly parameters: unknown;
}

export type ToolChoice = { kind: "auto" } | { kind: "none" } | { kind: "required" } | { kind: "named"; name: string };

export type ResponseFormat = { kind: "text" } | { kind: "json-object" } | { kind: "json-schema"; schema: unknown };

export type ReasoningEffort = "none" | "low" | "medium" | "high";
