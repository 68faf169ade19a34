import type { FastifyReply, FastifyRequest } from "fastify";
import { z } from "zod";
import { ANONYMOUS_KEY_ID } from "../../access/api-key.ts";
import type { ModelRouter } from "../../completion/model-router.ts";
import { answered, chatRequest } from "../../conversations/agent-message.ts";
import type { Conversation } from "../../conversations/conversation.ts";
import { languageName } from "../../conversations/language.ts";
import { panelScript } from "../../conversations/panel.ts";
import type { PanelRuns } from "../../conversations/panel-runs.ts";
import type { Reading } from "../../conversations/reading.ts";
import { textDirection } from "../../conversations/text-direction.ts";
import { BEFORE_ALL, hasAll, type Place, placeOf } from "../../conversations/transcript-events.ts";
import { BrikkError } from "../../errors.ts";
import type { Ledger } from "../../ledger/ledger.ts";
import { inputTokens, totalTokens } from "../../ledger/usage.ts";
import { usdNumber } from "../../lib/money.ts";
import type { ProviderSet } from "../../providers/provider-set.ts";
import type { AnswerCompletion } from "../answer-completion.ts";
import { standingHeaders } from "../answer-headers.ts";
import type { App } from "../app-type.ts";
import { shownPanelRun, shownPanelRunSummary } from "../conversation-answers.ts";
import { callerOf, refusedConversation } from "../conversation-caller.ts";
import { followConversation, wantsEvents } from "../follow-conversation.ts";
import { keepSlot } from "../hooks/admission.ts";
import { formatRunCursor, parseRunCursor } from "../run-cursor.ts";
import { exampleConversation, panelRun, panelRunSummary } from "../schemas/conversation.ts";
import { bodyRefusals, completionRefusals, refusal, refusals } from "../schemas/error.ts";
import { languageTag } from "../schemas/language-tag.ts";

const panelRequest = z
  .strictObject({
    prompt: z.string().min(1).max(4_000).describe("What the panel is to talk about, in any language."),
    max_tokens: z.int().min(64).max(1_000).default(400).describe("Of each turn."),
  })
  .meta({ id: "PanelRequest", example: { prompt: "What makes a city good to live in?" } });

const runParams = z.object({ id: z.string().max(64).meta({ example: "run_example" }) });

const examplePanelRun: z.infer<typeof panelRun> = {
  ...exampleConversation,
  status: "finished",
  prompt: "What makes a city good to live in?",
};
const { turns: _turns, agents: _agents, request_id: _requestId, ...exampleSummary } = examplePanelRun;

const runAnswer = panelRun.meta({ id: "PanelRun", example: examplePanelRun });

const runsAnswer = z
  .object({
    runs: z.array(panelRunSummary).describe("Newest first."),
    next_cursor: z.string().nullable().describe("Send it as `cursor` for the next page; null at the end."),
  })
  .meta({ id: "PanelRuns", example: { runs: [exampleSummary], next_cursor: null } });

const translationAnswer = z
  .object({
    run_id: z.string(),
    index: z.int(),
    lang: z.string(),
    dir: z.enum(["ltr", "rtl"]),
    message: z.string(),
    finish_reason: z.string().nullable().describe("`length`: it reached its limit, and is not whole."),
    provider: z.string(),
    model: z.string(),
    usage: z.object({ prompt_tokens: z.int(), completion_tokens: z.int(), total_tokens: z.int() }),
    cost_usd: z.number(),
    latency_ms: z.int(),
    fallback: z.boolean(),
    request_id: z.string(),
  })
  .meta({
    id: "Translation",
    example: {
      run_id: "run_example",
      index: 4,
      lang: "en",
      dir: "ltr",
      message: "I would ask who pays for it.",
      finish_reason: "stop",
      provider: "mistral",
      model: "mistral-small-latest",
      usage: { prompt_tokens: 160, completion_tokens: 90, total_tokens: 250 },
      cost_usd: 0.000078,
      latency_ms: 1_100,
      fallback: false,
      request_id: "req_example",
    },
  });

const MOST_TRANSLATION_TOKENS = 1_500;
const tags = ["Panel"];
const noSuchRun = { 404: refusal("The key has no such run, or the run no such turn.") };

/** Four agents in four languages; a run is kept for its key, and can be read again while it lasts and after it. */
export function registerPanelRoutes(
  app: App,
  options: {
    runs: PanelRuns;
    answerCompletion: AnswerCompletion;
    router: ModelRouter;
    providers: ProviderSet;
    ledger: Ledger;
    keepAliveMs: number;
  },
): void {
  const { runs, answerCompletion, router, providers, ledger, keepAliveMs } = options;

  const follow = (request: FastifyRequest, reply: FastifyReply, reading: Reading, from: Place): Promise<void> =>
    followConversation(reply, reading, from, {
      keepAliveMs,
      headers: standingHeaders(ledger.standing(request.key)),
    });

  const list = async (
    keyId: string,
    { limit, cursor }: { limit: number; cursor?: string | undefined },
  ): Promise<z.infer<typeof runsAnswer>> => {
    const after = cursor === undefined ? undefined : parseRunCursor(cursor);
    if (cursor !== undefined && after === undefined)
      throw new BrikkError("invalid_request", "cursor: is none of this server's; send what `next_cursor` said.", {
        param: "cursor",
      });
    // What other people asked is nothing that whoever comes without a key may read.
    if (keyId === ANONYMOUS_KEY_ID) return { runs: [], next_cursor: null };
    const page = await runs.list(keyId, { after, limit });
    return { runs: page.runs.map(shownPanelRunSummary), next_cursor: page.next ? formatRunCursor(page.next) : null };
  };

  const stop = async (keyId: string, id: string): Promise<z.infer<typeof panelRun>> => {
    const run = await runs.stop(keyId, id);
    if (!run) throw notFound(id);
    return shownPanelRun(run);
  };

  const remove = async (keyId: string, id: string): Promise<{ id: string; deleted: true }> => {
    if (!(await runs.remove(keyId, id))) throw notFound(id);
    return { id, deleted: true };
  };

  app.post(
    "/panel/runs",
    {
      schema: {
        operationId: "startPanelRun",
        summary: "Four agents discuss",
        description:
          "Two rounds of four agents, each in its own language, as server-sent events (see docs/conversations.md). Every turn is a request of its own to limits, budgets and the ledger; an agent whose provider fails is stood in for by another one in the same language. The run goes on for 30 seconds without a reader, so that one who reloads finds it again.",
        tags,
        body: panelRequest,
        response: {
          200: {
            description: "The run's events.",
            content: { "text/event-stream": { schema: z.string() } },
          },
          ...completionRefusals,
        },
      },
    },
    async (request, reply) => {
      const { prompt, max_tokens: maxTokens } = request.body;
      let run: Conversation;
      keepSlot(request, reply);
      try {
        run = await runs.start(callerOf(request), panelScript({ prompt, maxTokens }, { providers, router }));
      } catch (error) {
        request.admission.release?.();
        throw refusedConversation(error, reply, ledger.standing(request.key));
      }
      reply.header("location", `/panel/runs/${run.id}`);
      const reading = await runs.read(request.key.id, run.id);
      if (!reading) throw notFound(run.id);
      await follow(request, reply, reading, BEFORE_ALL);
      return reply;
    },
  );

  app.get(
    "/panel/runs",
    {
      config: { withoutSlot: true },
      schema: {
        operationId: "listPanelRuns",
        summary: "This key's runs of the panel",
        description:
          "Newest first; finished ones are kept for 30 days, the newest 50 of a key. Callers without a key share one, so they see none here and find their own by its id.",
        tags,
        querystring: z.strictObject({
          limit: z.coerce.number().int().min(1).max(50).default(20).describe("Runs on a page."),
          cursor: z.string().max(100).optional().describe("The `next_cursor` of the page before."),
        }),
        response: { 200: runsAnswer.describe("The runs."), ...refusals },
      },
    },
    (request) => list(request.key.id, request.query),
  );

  app.get(
    "/panel/runs/:id",
    {
      config: { withoutSlot: true },
      schema: {
        operationId: "getPanelRun",
        summary: "A run of the panel",
        description:
          "As JSON, as far as it is; with `Accept: text/event-stream` as events, those behind `Last-Event-ID` where that is sent, and on to the run's end. Who has the end already gets 204, at which a browser's EventSource asks no more.",
        tags,
        params: runParams,
        response: {
          200: runAnswer.describe("The run, or its events."),
          204: z.null().describe("There are no events behind this one."),
          ...refusals,
          ...noSuchRun,
        },
      },
    },
    async (request, reply) => {
      const { id } = request.params;
      if (!wantsEvents(request)) {
        const run = await runs.find(request.key.id, id);
        if (!run) throw notFound(id);
        return shownPanelRun(run);
      }
      const lastEventId = request.headers["last-event-id"];
      const from = lastEventId === undefined ? BEFORE_ALL : placeOf(String(lastEventId));
      if (!from)
        throw new BrikkError("invalid_request", "Last-Event-ID is no id of a run's events.", {
          param: "Last-Event-ID",
        });
      const reading = await runs.read(request.key.id, id);
      if (!reading) throw notFound(id);
      if (hasAll(from, reading.now)) {
        reading.close();
        return reply.code(204).send(null);
      }
      await follow(request, reply, reading, from);
      return reply;
    },
  );

  app.post(
    "/panel/runs/:id/stop",
    {
      config: { withoutSlot: true },
      schema: {
        operationId: "stopPanelRun",
        summary: "Stop a run",
        description:
          "The turn under way is cut and charged as far as it came; what was said is kept. One that has ended stays as it is.",
        tags,
        params: runParams,
        response: { 200: runAnswer.describe("The run as it ended."), ...refusals, ...bodyRefusals, ...noSuchRun },
      },
    },
    (request) => stop(request.key.id, request.params.id),
  );

  app.delete(
    "/panel/runs/:id",
    {
      config: { withoutSlot: true },
      schema: {
        operationId: "deletePanelRun",
        summary: "Delete a run",
        description: "Stops it first. What its turns cost stays in the ledger.",
        tags,
        params: runParams,
        response: {
          200: z.object({ id: z.string(), deleted: z.literal(true) }).describe("The run is gone."),
          ...refusals,
          ...bodyRefusals,
          ...noSuchRun,
        },
      },
    },
    (request) => remove(request.key.id, request.params.id),
  );

  app.post(
    "/panel/runs/:id/turns/:index/translation",
    {
      schema: {
        operationId: "translatePanelTurn",
        summary: "Translate a turn",
        description: "A request of its own to whoever is cheapest, with its own cost.",
        tags,
        params: runParams.extend({ index: z.coerce.number().int().min(1).max(99) }),
        body: z.strictObject({ language: languageTag }).meta({ id: "TranslationRequest", example: { language: "en" } }),
        response: { 200: translationAnswer.describe("The translation."), ...completionRefusals, ...noSuchRun },
      },
    },
    async (request, reply) => {
      const { id, index } = request.params;
      const { language } = request.body;
      const run = await runs.find(request.key.id, id);
      if (!run) throw notFound(id);
      const turn = run.turns.find((one) => one.index === index);
      if (!turn?.result || turn.message.trim() === "")
        throw new BrikkError("not_found", `The run ${id} has no turn ${index} that was spoken to its end.`);
      const completion = chatRequest({
        model: "brikk/cheap",
        messages: [
          {
            role: "system",
            content: "You translate faithfully, in the tone of the original. You add nothing and explain nothing.",
          },
          {
            role: "user",
            content: `Translate this into ${languageName(language)}. Give the translation alone.\n\n${turn.message}`,
          },
        ],
        max_tokens: MOST_TRANSLATION_TOKENS,
      });
      const { answer, report } = await answerCompletion(
        { request, reply },
        {
          request: completion,
          chooseRoute: () => router.byWish({ preference: "cheap", language }, completion, request.key),
        },
      );
      if (!answer) return reply.hijack();
      const { text, finishReason } = answered(answer.value);
      const input = inputTokens(report.usage);
      const total = totalTokens(report.usage);
      return {
        run_id: id,
        index,
        lang: language,
        dir: textDirection(language),
        message: text,
        finish_reason: finishReason ?? null,
        provider: report.candidate!.model.provider,
        model: report.candidate!.model.id,
        usage: { prompt_tokens: input, completion_tokens: total - input, total_tokens: total },
        cost_usd: usdNumber(report.receipt.cost),
        latency_ms: Math.round(report.durationMs),
        fallback: report.fallback,
        request_id: request.id,
      };
    },
  );
}

const notFound = (id: string): BrikkError => new BrikkError("not_found", `This key has no run "${id.slice(0, 64)}".`);
