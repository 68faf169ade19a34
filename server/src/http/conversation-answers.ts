import type { z } from "zod";
import { type Agent, type Conversation, totalsOf, type Turn } from "../conversations/conversation.ts";
import { textDirection } from "../conversations/text-direction.ts";
import type { TranscriptEvent } from "../conversations/transcript-events.ts";
import { clipText } from "../lib/clip-text.ts";
import { usdNumber } from "../lib/money.ts";
import type { conversationAnswer, panelRun, panelRunSummary, turnAnswer } from "./schemas/conversation.ts";

const directionOf = (language: string | undefined): "ltr" | "rtl" | null =>
  language === undefined ? null : textDirection(language);

export const shownAgent = ({ name, language, provider, model }: Agent) => ({
  name,
  language: language ?? null,
  dir: directionOf(language),
  provider: provider ?? null,
  model: model ?? null,
});

function shownTurn({ result, language, ...turn }: Turn): z.infer<typeof turnAnswer> {
  return {
    index: turn.index,
    round: turn.round,
    agent: turn.agent,
    lang: language ?? null,
    dir: directionOf(language),
    provider: turn.provider,
    model: turn.model,
    message: turn.message,
    status: result?.outcome ?? "speaking",
    truncated: result?.outcome === "truncated",
    usage: result ? shownTokens(result) : null,
    cost_usd: result ? usdNumber(result.cost) : null,
    latency_ms: result?.latencyMs ?? null,
    time_to_first_token_ms: result?.timeToFirstTokenMs ?? null,
    attempts: result?.attempts ?? null,
    failed_attempts:
      result?.failedAttempts.map(({ status, ...attempt }) => ({ ...attempt, status: status ?? null })) ?? null,
    route_reason: result?.routeReason ?? null,
    fallback: result?.fallback ?? null,
    simulated: result?.simulated ?? null,
    finish_reason: result?.finishReason ?? null,
    clamped_max_tokens: result?.clampedMaxTokens ?? null,
    request_id: turn.requestId,
    error: result?.error ?? null,
  };
}

const shownTokens = ({ inputTokens, outputTokens }: { inputTokens: number; outputTokens: number }) => ({
  prompt_tokens: inputTokens,
  completion_tokens: outputTokens,
  total_tokens: inputTokens + outputTokens,
});

function shownTotals(conversation: Pick<Conversation, "turns">): z.infer<typeof conversationAnswer>["totals"] {
  const totals = totalsOf(conversation);
  return {
    turns: totals.turns,
    usage: shownTokens(totals),
    cost_usd: usdNumber(totals.cost),
    latency_ms: totals.latencyMs,
    fallbacks: totals.fallbacks,
  };
}

export function shownConversation(conversation: Conversation): z.infer<typeof conversationAnswer> {
  const { id, requestId, agents, plannedTurns, startedAtMs, turns, end } = conversation;
  return {
    id,
    request_id: requestId,
    ended: end?.ended ?? null,
    created_at: new Date(startedAtMs).toISOString(),
    finished_at: end?.atMs === undefined ? null : new Date(end.atMs).toISOString(),
    agents: agents.map(shownAgent),
    planned_turns: plannedTurns,
    turns: turns.map(shownTurn),
    totals: shownTotals(conversation),
    error: end?.error ?? null,
  };
}

export const shownPanelRun = (run: Conversation): z.infer<typeof panelRun> => ({
  ...shownConversation(run),
  status: statusOf(run),
  prompt: run.opening,
});

const LONGEST_SUMMARY = 200;

export function shownPanelRunSummary(run: Conversation): z.infer<typeof panelRunSummary> {
  const { turns: _turns, agents: _agents, request_id: _requestId, ...rest } = shownPanelRun(run);
  return { ...rest, prompt: clipText(run.opening, LONGEST_SUMMARY) };
}

function statusOf({ end }: Conversation): z.infer<typeof panelRun>["status"] {
  switch (end?.ended) {
    case undefined:
      return "running";
    case "max_turns":
      return "finished";
    case "interrupted":
      return "interrupted";
    default:
      return "stopped";
  }
}

/** An event's name and data on the wire; docs/conversations.md has the table. */
export function shownEvent(event: TranscriptEvent, conversation: Conversation): { event: string; data: object } {
  switch (event.kind) {
    case "run-started": {
      const { id, request_id, created_at, agents, planned_turns } = shownConversation(conversation);
      const opening = conversation.kind === "panel" ? { prompt: conversation.opening } : {};
      return { event: "run.started", data: { run_id: id, request_id, created_at, ...opening, agents, planned_turns } };
    }
    case "turn-started": {
      const { index, round, agent, lang, dir, provider, model, request_id } = shownTurn(event.turn);
      return { event: "turn.started", data: { index, round, agent, lang, dir, provider, model, request_id } };
    }
    case "turn-delta":
      return { event: "turn.delta", data: { index: event.turn.index, text: event.text } };
    case "turn-finished":
      return {
        event: "turn.finished",
        data: {
          ...shownTurn(event.turn),
          totals: shownTotals({ turns: conversation.turns.filter(({ index }) => index <= event.turn.index) }),
        },
      };
    case "run-ended": {
      const { id, ended, finished_at, totals, error } = shownConversation(conversation);
      return {
        event: ended === "max_turns" ? "run.finished" : "run.stopped",
        data: { run_id: id, ended, finished_at, totals, error },
      };
    }
    default:
      return event satisfies never;
  }
}
