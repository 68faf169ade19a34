/**
 * OpenAI's chat completions. A plain answer is one chat.completion object. A stream is server-sent events, each a
 * chat.completion.chunk: for every choice one that opens it (role, empty content), one per token, one that ends it (empty
 * delta, finish_reason); then, when stream_options.include_usage asks for it, one with no choices and the usage, all
 * others having carried `usage: null`; then `[DONE]`.
 */
import { z } from "zod";
import type { ChatRequest, ReasoningEffort, ResponseFormat, ToolChoice } from "../chat-request.ts";
import { choiceText } from "../completion.ts";
import type { CompletionChoice } from "../completion.ts";
import { hexIdentifier } from "../identifier.ts";
import type { ModelAnswer } from "../model-answers.ts";
import { DONE_EVENT, streamEvent, withReasoning } from "../stream-plan.ts";
import type { StreamEvent } from "../stream-plan.ts";
import { callsText, contentSchema, contentText, countImages } from "./message-content.ts";
import { openaiIssue, refuseOpenai } from "./openai-errors.ts";
import { tokenLogprobs } from "./openai-logprobs.ts";
import { Refusal } from "./protocol.ts";

const callSchema = z.looseObject({
  id: z.string(),
  function: z.looseObject({ name: z.string(), arguments: z.string() }).optional(),
});

const messageSchema = z.discriminatedUnion("role", [
  z.looseObject({ role: z.literal("system"), content: contentSchema }),
  z.looseObject({ role: z.literal("developer"), content: contentSchema }),
  z.looseObject({ role: z.literal("user"), content: contentSchema }),
  z.looseObject({
    role: z.literal("assistant"),
    content: contentSchema.nullish(),
    tool_calls: z.array(callSchema).nullish(),
  }),
  z.looseObject({ role: z.literal("tool"), content: contentSchema, tool_call_id: z.string() }),
  z.looseObject({ role: z.literal("function"), content: z.string().nullish(), name: z.string() }),
]);

const toolSchema = z.looseObject({
  type: z.literal("function"),
  function: z.looseObject({
    name: z.string().regex(/^[\w-]{1,64}$/u),
    description: z.string().nullish(),
    parameters: z.unknown().optional(),
  }),
});

const toolChoiceSchema = z.union([
  z.enum(["none", "auto", "required"]),
  z.looseObject({ type: z.literal("function"), function: z.looseObject({ name: z.string() }) }),
]);

const responseFormatSchema = z.discriminatedUnion("type", [
  z.looseObject({ type: z.literal("text") }),
  z.looseObject({ type: z.literal("json_object") }),
  z.looseObject({
    type: z.literal("json_schema"),
    json_schema: z.looseObject({ name: z.string(), schema: z.unknown().optional() }),
  }),
]);

const positive = z.int().min(1);
const ignored = z.unknown().optional();

const bodySchema = z.strictObject({
  model: z.string(),
  messages: z.array(messageSchema).min(1),
  stream: z.boolean().nullish(),
  stream_options: z
    .strictObject({ include_usage: z.boolean().nullish(), include_obfuscation: z.boolean().nullish() })
    .nullish(),
  max_tokens: positive.nullish(),
  max_completion_tokens: positive.nullish(),
  n: z.int().min(1).max(128).nullish(),
  stop: z.union([z.string(), z.array(z.string()).max(4)]).nullish(),
  seed: z.int().nullish(),
  temperature: z.number().min(0).max(2).nullish(),
  top_p: z.number().min(0).max(1).nullish(),
  presence_penalty: z.number().min(-2).max(2).nullish(),
  frequency_penalty: z.number().min(-2).max(2).nullish(),
  logprobs: z.boolean().nullish(),
  top_logprobs: z.int().min(0).max(20).nullish(),
  tools: z.array(toolSchema).min(1).max(128).nullish(),
  tool_choice: toolChoiceSchema.nullish(),
  parallel_tool_calls: z.boolean().nullish(),
  response_format: responseFormatSchema.nullish(),
  reasoning_effort: z.enum(["none", "minimal", "low", "medium", "high", "xhigh", "max"]).nullish(),
  audio: ignored,
  function_call: ignored,
  functions: ignored,
  logit_bias: ignored,
  metadata: ignored,
  modalities: ignored,
  moderation: ignored,
  prediction: ignored,
  prompt_cache_key: ignored,
  prompt_cache_options: ignored,
  prompt_cache_retention: ignored,
  safety_identifier: ignored,
  service_tier: ignored,
  store: ignored,
  user: ignored,
  verbosity: ignored,
  web_search_options: ignored,
});

type Body = z.infer<typeof bodySchema>;

const FAMILIES = /^(?:gpt-|o1|o3|o4|chatgpt-|text-embedding-|ft:)/u;
const REASONING_FAMILIES = /^(?:o1|o3|o4|gpt-5)/u;

const EFFORTS: Record<NonNullable<Body["reasoning_effort"]>, ReasoningEffort> = {
  none: "none",
  minimal: "none",
  low: "low",
  medium: "medium",
  high: "high",
  xhigh: "high",
  max: "high",
};

export function readOpenaiChat(input: unknown): ChatRequest {
  const parsed = bodySchema.safeParse(input);
  if (!parsed.success) throw new Refusal(openaiIssue(input, parsed.error));
  const body = parsed.data;
  refuseUnknownModel(body.model);
  refuseWhatDoesNotFit(body);
  return {
    model: body.model,
    stream: body.stream ?? false,
    includeUsage: body.stream_options?.include_usage ?? false,
    messages: body.messages.map((message) => ({
      role: message.role,
      text: contentText(message.content) + (message.role === "assistant" ? callsText(message.tool_calls) : ""),
      imageCount: countImages(message.content),
    })),
    tools: (body.tools ?? []).map(({ function: tool }) => ({
      name: tool.name,
      description: tool.description ?? "",
      parameters: tool.parameters ?? {},
    })),
    toolChoice: readToolChoice(body.tool_choice),
    responseFormat: readResponseFormat(body.response_format),
    stop: typeof body.stop === "string" ? [body.stop] : (body.stop ?? []),
    maxTokens: body.max_completion_tokens ?? body.max_tokens ?? undefined,
    choiceCount: body.n ?? 1,
    seed: body.seed ?? undefined,
    reasoning: REASONING_FAMILIES.test(body.model) ? EFFORTS[body.reasoning_effort ?? "medium"] : undefined,
    topLogprobs: body.logprobs === true ? (body.top_logprobs ?? 0) : undefined,
  };
}

export function refuseUnknownModel(model: string): void {
  if (FAMILIES.test(model)) return;
  refuseOpenai(404, {
    message: `The model '${model}' does not exist or this key has no access to it.`,
    code: "model_not_found",
  });
}

function refuseWhatDoesNotFit(body: Body): void {
  if (body.max_tokens != null && REASONING_FAMILIES.test(body.model)) {
    refuseOpenai(400, {
      message: "Unsupported parameter: 'max_tokens' cannot be used with this model; 'max_completion_tokens' can.",
      param: "max_tokens",
      code: "unsupported_parameter",
    });
  }
  if (body.stream_options != null && body.stream !== true) {
    refuseOpenai(400, { message: "'stream_options' is only allowed when 'stream' is true.", param: "stream_options" });
  }
  if (body.tool_choice != null && body.tools == null) {
    refuseOpenai(400, { message: "'tool_choice' is only allowed when 'tools' are given.", param: "tool_choice" });
  }
  if (typeof body.tool_choice === "object" && body.tool_choice !== null) {
    const { name } = body.tool_choice.function;
    if (!body.tools?.some((tool) => tool.function.name === name)) {
      refuseOpenai(400, {
        message: `'tool_choice' names '${name}', which is not among the 'tools'.`,
        param: "tool_choice",
      });
    }
  }
  if (body.top_logprobs != null && body.logprobs !== true) {
    refuseOpenai(400, { message: "'top_logprobs' is only allowed when 'logprobs' is true.", param: "top_logprobs" });
  }
  if (
    body.response_format?.type === "json_object" &&
    !body.messages.some((message) => /json/iu.test(contentText(message.content)))
  ) {
    refuseOpenai(400, {
      message: "'messages' must contain the word 'json' for 'response_format' of type 'json_object'.",
      param: "messages",
    });
  }
  refuseLooseToolMessages(body);
}

function refuseLooseToolMessages(body: Body): void {
  const called = new Set<string>();
  for (const [index, message] of body.messages.entries()) {
    if (message.role === "assistant") for (const call of message.tool_calls ?? []) called.add(call.id);
    if (message.role === "tool" && !called.has(message.tool_call_id)) {
      refuseOpenai(400, {
        message: "A message with role 'tool' must follow a message whose 'tool_calls' it answers.",
        param: `messages.[${index}].role`,
      });
    }
  }
}

function readToolChoice(choice: Body["tool_choice"]): ToolChoice {
  if (choice == null) return { kind: "auto" };
  return typeof choice === "string" ? { kind: choice } : { kind: "named", name: choice.function.name };
}

function readResponseFormat(format: Body["response_format"]): ResponseFormat {
  switch (format?.type) {
    case "json_object":
      return { kind: "json-object" };
    case "json_schema":
      return { kind: "json-schema", schema: format.json_schema.schema ?? {} };
    default:
      return { kind: "text" };
  }
}

/** A chat.completion object. */
export function openaiChatAnswer(request: ChatRequest, answer: ModelAnswer): unknown {
  return {
    id: chatIdentifier(),
    object: "chat.completion",
    created: nowSeconds(),
    model: request.model,
    choices: answer.completion.choices.map((choice, index) => ({
      index,
      message: {
        role: "assistant",
        content: choice.kind === "text" ? choiceText(choice) : null,
        ...toolCalls(choice),
        refusal: null,
        annotations: [],
      },
      logprobs:
        choice.kind === "text" && request.topLogprobs !== undefined
          ? { content: tokenLogprobs(choice.pieces, request.topLogprobs), refusal: null }
          : null,
      finish_reason: choice.finishReason,
    })),
    usage: openaiUsage(answer),
    service_tier: "default",
    system_fingerprint: FINGERPRINT,
  };
}

const FINGERPRINT = "fp_b21cc51a70";

function toolCalls(choice: CompletionChoice): object {
  if (choice.kind !== "tool-call") return {};
  return {
    tool_calls: [
      { id: callIdentifier(), type: "function", function: { name: choice.name, arguments: choiceText(choice) } },
    ],
  };
}

function openaiUsage({ completion, promptTokens, cachedTokens }: ModelAnswer): unknown {
  return {
    prompt_tokens: promptTokens,
    completion_tokens: completion.completionTokens,
    total_tokens: promptTokens + completion.completionTokens,
    prompt_tokens_details: { cached_tokens: cachedTokens, audio_tokens: 0 },
    completion_tokens_details: {
      reasoning_tokens: completion.reasoningTokens,
      audio_tokens: 0,
      accepted_prediction_tokens: 0,
      rejected_prediction_tokens: 0,
    },
  };
}

/** The chunks of a stream, `[DONE]` included. */
export function openaiChatEvents(request: ChatRequest, answer: ModelAnswer): StreamEvent[] {
  const head = `{"id":"${chatIdentifier()}","object":"chat.completion.chunk","created":${nowSeconds()},"model":${JSON.stringify(request.model)},"service_tier":"default","system_fingerprint":"${FINGERPRINT}","choices":[`;
  const tail = request.includeUsage ? '],"usage":null}' : "]}";
  const perChoice = answer.completion.choices.map((choice, index) => choiceEvents(choice, index, request, head, tail));
  const events = withReasoning(interleave(perChoice), answer.completion.reasoningTokens);
  if (request.includeUsage)
    events.push(streamEvent("usage", `${head}],"usage":${JSON.stringify(openaiUsage(answer))}}`));
  events.push(DONE_EVENT);
  return events;
}

function choiceEvents(
  choice: CompletionChoice,
  index: number,
  request: ChatRequest,
  head: string,
  tail: string,
): StreamEvent[] {
  const chunk = (delta: string, logprobs = "null", finish = "null"): string =>
    `${head}{"index":${index},"delta":${delta},"logprobs":${logprobs},"finish_reason":${finish}}${tail}`;
  const end = streamEvent("end", chunk("{}", "null", `"${choice.finishReason}"`));
  if (choice.kind === "tool-call") {
    const call = `{"index":0,"id":"${callIdentifier()}","type":"function","function":{"name":${JSON.stringify(choice.name)},"arguments":""}}`;
    const start = streamEvent(
      "start",
      chunk(`{"role":"assistant","content":null,"tool_calls":[${call}],"refusal":null}`),
      choice.nameTokens,
    );
    const pieces = choice.pieces.map((piece) =>
      streamEvent("token", chunk(`{"tool_calls":[{"index":0,"function":{"arguments":${piece.json}}}]}`), piece.tokens),
    );
    return [start, ...pieces, end];
  }
  const start = streamEvent("start", chunk('{"role":"assistant","content":"","refusal":null}'));
  const tokens = choice.pieces.map((piece) => {
    const logprobs =
      request.topLogprobs === undefined
        ? "null"
        : JSON.stringify({ content: tokenLogprobs([piece], request.topLogprobs), refusal: null });
    return streamEvent("token", chunk(`{"content":${piece.json}}`, logprobs), piece.tokens);
  });
  return [start, ...tokens, end];
}

function interleave(perChoice: readonly StreamEvent[][]): StreamEvent[] {
  const [only] = perChoice;
  if (perChoice.length === 1 && only !== undefined) return only;
  const events: StreamEvent[] = [];
  const longest = Math.max(...perChoice.map((list) => list.length));
  for (let position = 0; position < longest; position += 1) {
    for (const list of perChoice) {
      const event = list[position];
      if (event !== undefined) events.push(event);
    }
  }
  return events;
}

function chatIdentifier(): string {
  return `chatcmpl-${hexIdentifier().slice(0, 29)}`;
}

function callIdentifier(): string {
  return `call_${hexIdentifier().slice(0, 24)}`;
}

function nowSeconds(): number {
  return Math.floor(Date.now() / 1000);
}
