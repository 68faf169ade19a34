/**
 * Mistral's chat completions. They look like OpenAI's and differ where it hurts: an unknown field is refused (422), the
 * role `developer` does not exist, and a stream carries its usage unasked, in the chunk that also brings a choice's last
 * content and the finish_reason. No chunk comes after that but `[DONE]`. A tool call is sent whole.
 */
import { z } from "zod";
import type { ChatRequest, ReasoningEffort, ResponseFormat, ToolChoice } from "../chat-request.ts";
import { choiceText, choiceTokens } from "../completion.ts";
import type { CompletionChoice } from "../completion.ts";
import { hexIdentifier } from "../identifier.ts";
import type { ModelAnswer } from "../model-answers.ts";
import { DONE_EVENT, streamEvent, withReasoning } from "../stream-plan.ts";
import type { StreamEvent } from "../stream-plan.ts";
import { callsText, contentSchema, contentText, countImages } from "./message-content.ts";
import { mistralIssues, refuseMistral } from "./mistral-errors.ts";
import { Refusal } from "./protocol.ts";

const callSchema = z.looseObject({
  id: z.string().nullish(),
  function: z.looseObject({ name: z.string(), arguments: z.unknown() }),
});

const messageSchema = z.discriminatedUnion("role", [
  z.looseObject({ role: z.literal("system"), content: contentSchema }),
  z.looseObject({ role: z.literal("user"), content: contentSchema.nullable() }),
  z.looseObject({
    role: z.literal("assistant"),
    content: contentSchema.nullish(),
    tool_calls: z.array(callSchema).nullish(),
    prefix: z.boolean().nullish(),
  }),
  z.looseObject({
    role: z.literal("tool"),
    content: contentSchema.nullable(),
    tool_call_id: z.string().nullish(),
    name: z.string().nullish(),
  }),
]);

const toolSchema = z.looseObject({
  type: z.literal("function").optional(),
  function: z.looseObject({ name: z.string(), description: z.string().nullish(), parameters: z.unknown().optional() }),
});

const toolChoiceSchema = z.union([
  z.enum(["auto", "none", "any", "required"]),
  z.looseObject({ type: z.literal("function").optional(), function: z.looseObject({ name: z.string() }) }),
]);

const responseFormatSchema = z.looseObject({
  type: z.enum(["text", "json_object", "json_schema"]),
  json_schema: z.looseObject({ name: z.string(), schema: z.unknown().optional() }).nullish(),
});

const ignored = z.unknown().optional();

const bodySchema = z.strictObject({
  model: z.string(),
  messages: z.array(messageSchema).min(1),
  temperature: z.number().min(0).max(1.5).nullish(),
  top_p: z.number().min(0).max(1).nullish(),
  max_tokens: z.int().min(0).nullish(),
  stream: z.boolean().nullish(),
  stop: z.union([z.string(), z.array(z.string())]).nullish(),
  random_seed: z.int().min(0).nullish(),
  response_format: responseFormatSchema.nullish(),
  tools: z.array(toolSchema).nullish(),
  tool_choice: toolChoiceSchema.nullish(),
  presence_penalty: z.number().min(-2).max(2).nullish(),
  frequency_penalty: z.number().min(-2).max(2).nullish(),
  n: z.int().min(1).nullish(),
  parallel_tool_calls: z.boolean().nullish(),
  safe_prompt: z.boolean().nullish(),
  reasoning_effort: z.enum(["none", "low", "medium", "high"]).nullish(),
  prompt_mode: z.literal("reasoning").nullish(),
  prediction: ignored,
  prompt_cache_key: ignored,
  metadata: ignored,
  guardrails: ignored,
  service_tier: ignored,
});

type Body = z.infer<typeof bodySchema>;

const FAMILIES =
  /^(?:mistral-|open-mi[sx]tral-|ministral-|magistral-|codestral-|pixtral-|devstral-|voxtral-|labs-|ft:)/u;
const REASONING_FAMILY = /^magistral-/u;

export function readMistralChat(input: unknown): ChatRequest {
  const parsed = bodySchema.safeParse(input);
  if (!parsed.success) throw new Refusal(mistralIssues(input, parsed.error));
  const body = parsed.data;
  refuseUnknownMistralModel(body.model);
  refuseLastRole(body);
  const last = body.messages.at(-1);
  return {
    model: body.model,
    stream: body.stream ?? false,
    includeUsage: true,
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
    maxTokens: body.max_tokens ?? undefined,
    choiceCount: body.n ?? 1,
    // Nobody else's message may be the last, but an assistant's prefix.
    ...(last?.role === "assistant" && { prefix: contentText(last.content) }),
    seed: body.random_seed ?? undefined,
    reasoning: readReasoning(body),
    topLogprobs: undefined,
  };
}

function refuseUnknownMistralModel(model: string): void {
  if (!FAMILIES.test(model)) refuseMistral(400, `Invalid model: ${model}`, "invalid_model", "1500");
}

function refuseLastRole(body: Body): void {
  const last = body.messages.at(-1);
  if (last === undefined || last.role === "user" || last.role === "tool") return;
  if (last.role === "assistant" && last.prefix === true) return;
  refuseMistral(
    400,
    `The last message must come from a user or a tool, or be an assistant's prefix; it comes from: ${last.role}`,
    "invalid_request_message_order",
    "3230",
  );
}

function readReasoning(body: Body): ReasoningEffort | undefined {
  // Mistral counts thinking inside completion_tokens but does not tell it apart.
  if (!REASONING_FAMILY.test(body.model)) return undefined;
  return body.reasoning_effort ?? "medium";
}

function readToolChoice(choice: Body["tool_choice"]): ToolChoice {
  if (choice == null) return { kind: "auto" };
  if (typeof choice !== "string") return { kind: "named", name: choice.function.name };
  return choice === "any" ? { kind: "required" } : { kind: choice };
}

function readResponseFormat(format: Body["response_format"]): ResponseFormat {
  switch (format?.type) {
    case "json_object":
      return { kind: "json-object" };
    case "json_schema":
      return { kind: "json-schema", schema: format.json_schema?.schema ?? {} };
    default:
      return { kind: "text" };
  }
}

export function mistralChatAnswer(request: ChatRequest, answer: ModelAnswer): unknown {
  return {
    id: hexIdentifier(),
    created: Math.floor(Date.now() / 1000),
    model: request.model,
    usage: mistralUsage(answer),
    object: "chat.completion",
    choices: answer.completion.choices.map((choice, index) => ({
      index,
      finish_reason: choice.finishReason,
      message: {
        role: "assistant",
        tool_calls: choice.kind === "tool-call" ? [toolCall(choice)] : null,
        content: choice.kind === "text" ? choiceText(choice) : "",
      },
    })),
  };
}

function toolCall(choice: CompletionChoice & { kind: "tool-call" }): object {
  return { id: hexIdentifier().slice(0, 9), function: { name: choice.name, arguments: choiceText(choice) }, index: 0 };
}

function mistralUsage({ completion, promptTokens }: ModelAnswer): unknown {
  return {
    prompt_tokens: promptTokens,
    total_tokens: promptTokens + completion.completionTokens,
    completion_tokens: completion.completionTokens,
  };
}

export function mistralChatEvents(request: ChatRequest, answer: ModelAnswer): StreamEvent[] {
  const head = `{"id":"${hexIdentifier()}","object":"chat.completion.chunk","created":${Math.floor(Date.now() / 1000)},"model":${JSON.stringify(request.model)},"choices":[`;
  const { choices } = answer.completion;
  const usage = `,"usage":${JSON.stringify(mistralUsage(answer))}`;
  const events = choices.flatMap((choice, index) =>
    choiceEvents(choice, index, head, index === choices.length - 1 ? usage : ""),
  );
  return [...withReasoning(events, answer.completion.reasoningTokens), DONE_EVENT];
}

function choiceEvents(choice: CompletionChoice, index: number, head: string, usage: string): StreamEvent[] {
  const chunk = (delta: string, finish = "null", rest = ""): string =>
    `${head}{"index":${index},"delta":${delta},"finish_reason":${finish}}]${rest}}`;
  const finish = `"${choice.finishReason}"`;
  const start = streamEvent("start", chunk('{"role":"assistant","content":""}'));
  if (choice.kind === "tool-call") {
    return [
      start,
      streamEvent(
        "end",
        chunk(`{"content":"","tool_calls":[${JSON.stringify(toolCall(choice))}]}`, finish, usage),
        choiceTokens(choice),
      ),
    ];
  }
  const last = choice.pieces.at(-1);
  const tokens = choice.pieces
    .slice(0, -1)
    .map((piece) => streamEvent("token", chunk(`{"content":${piece.json}}`), piece.tokens));
  return [
    start,
    ...tokens,
    streamEvent("end", chunk(`{"content":${last?.json ?? '""'}}`, finish, usage), last?.tokens ?? 0),
  ];
}
