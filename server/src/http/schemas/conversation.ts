import { z } from "zod";
import { ENDINGS } from "../../conversations/conversation.ts";

const tokens = z.object({ prompt_tokens: z.int(), completion_tokens: z.int(), total_tokens: z.int() });

const failure = z
  .object({
    message: z.string(),
    type: z.string(),
    code: z.string(),
    param: z.string().nullable(),
    request_id: z.string(),
    details: z.looseObject({}).nullable(),
  })
  .nullable();

const direction = z.enum(["ltr", "rtl"]).nullable();

const agent = z.object({
  name: z.string(),
  language: z.string().nullable().describe("BCP 47; null: whatever the conversation is in."),
  dir: direction,
  provider: z.string().nullable().describe("Who is asked first."),
  model: z.string().nullable(),
});

export const turnAnswer = z.object({
  index: z.int().describe("From 1 on."),
  round: z.int(),
  agent: z.string().describe("Its name."),
  lang: z.string().nullable().describe("BCP 47."),
  dir: direction.describe("Which way the language is written."),
  provider: z.string().describe("Who served; while the turn is under way, who is asked first."),
  model: z.string(),
  message: z.string(),
  status: z
    .enum(["speaking", "completed", "truncated", "cancelled", "failed"])
    .describe(
      "truncated: cut after it had begun, and answered as far as it came; cancelled: the caller stopped it; failed: nobody gave an answer.",
    ),
  truncated: z.boolean(),
  usage: tokens.nullable().describe("Here and below: null while the turn is under way."),
  cost_usd: z.number().nullable(),
  latency_ms: z.int().nullable(),
  time_to_first_token_ms: z.int().nullable(),
  attempts: z.int().nullable(),
  failed_attempts: z
    .array(
      z.object({
        provider: z.string(),
        model: z.string(),
        fault: z.string().describe("connect-timeout, first-token-timeout, rate-limited, overloaded and so on."),
        status: z.int().nullable().describe("The provider's own, where it refused."),
        ms: z.int(),
      }),
    )
    .nullable()
    .describe("Those that came to nothing, in their order: why somebody else was asked."),
  route_reason: z
    .string()
    .nullable()
    .describe("Why who was asked first was: also why the agent's own provider was passed over, as by an open breaker."),
  fallback: z.boolean().nullable().describe("Another provider than the agent's own served."),
  simulated: z.boolean().nullable(),
  finish_reason: z.string().nullable().describe("As the model said it: `length` is an answer that reached its limit."),
  clamped_max_tokens: z.int().nullable().describe("What the answer was limited to, where the budget paid for no more."),
  request_id: z.string().describe("Of the turn's own row among the key's requests."),
  error: failure.describe("Of a turn that is not whole."),
});

const totals = z.object({
  turns: z.int(),
  usage: tokens,
  cost_usd: z.number(),
  latency_ms: z.int().describe("Of all turns together, without the waits between them."),
  fallbacks: z.int(),
});

const ending = z
  .enum(ENDINGS)
  .nullable()
  .describe(
    "Why there is no next turn; null: there may be one. max_turns: all were spoken; budget, rate_limit: the key's; stopped: by the caller, or because it left; draining: the server stops; refused: for another reason of the key's or the request's; failed: no provider answered; interrupted: the server that held the run ended.",
  );

export const conversationAnswer = z.object({
  id: z.string(),
  request_id: z.string().describe("Of the request that began it; each turn has its own, made from it."),
  ended: ending,
  created_at: z.string(),
  finished_at: z.string().nullable(),
  agents: z.array(agent),
  planned_turns: z.int(),
  turns: z.array(turnAnswer),
  totals,
  error: failure.describe("What ended it before its last turn, with its numbers."),
});

const runStatus = z
  .enum(["running", "finished", "stopped", "interrupted"])
  .describe("stopped: it ended before its last turn, and `ended` says why.");

export const panelRun = conversationAnswer.extend({ status: runStatus, prompt: z.string() });

export const panelRunSummary = panelRun
  .omit({ turns: true, agents: true, request_id: true })
  .extend({ prompt: z.string().describe("Its beginning.") });

const exampleTurn: z.infer<typeof turnAnswer> = {
  index: 1,
  round: 1,
  agent: "Ada",
  lang: "en",
  dir: "ltr",
  provider: "openai",
  model: "gpt-4o-mini",
  message: "I would begin with what we can measure.",
  status: "completed",
  truncated: false,
  usage: { prompt_tokens: 210, completion_tokens: 96, total_tokens: 306 },
  cost_usd: 0.0000891,
  latency_ms: 1_840,
  time_to_first_token_ms: 420,
  attempts: 1,
  failed_attempts: [],
  route_reason: "policy openai",
  fallback: false,
  simulated: false,
  finish_reason: "stop",
  clamped_max_tokens: null,
  request_id: "req_example.t1",
  error: null,
};

export const exampleConversation: z.infer<typeof conversationAnswer> = {
  id: "run_example",
  request_id: "req_example",
  ended: "max_turns",
  created_at: "2026-11-23T12:00:00.000Z",
  finished_at: "2026-11-23T12:00:16.000Z",
  agents: [{ name: "Ada", language: "en", dir: "ltr", provider: "openai", model: "gpt-4o-mini" }],
  planned_turns: 1,
  turns: [exampleTurn],
  totals: { turns: 1, usage: exampleTurn.usage!, cost_usd: 0.0000891, latency_ms: 1_840, fallbacks: 0 },
  error: null,
};
