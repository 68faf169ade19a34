import type { RescueMode } from "../access/api-key.ts";
import { BrikkError } from "../errors.ts";
import { costOf } from "../ledger/cost.ts";
import type { AttemptUsage, Reservation } from "../ledger/ledger.ts";
import { editJsonDocument, parseJsonDocument } from "../lib/json-document.ts";
import { usdNumber } from "../lib/money.ts";
import { sseData, sseEvent } from "../lib/sse-events.ts";
import { ProviderError } from "../providers/provider.ts";
import { callerLeft } from "./abort-reason.ts";
import type { StreamedAnswer } from "./attempt.ts";
import { callCandidates } from "./call-candidates.ts";
import type { CallHistory } from "./call-history.ts";
import type { CompletionRequest } from "./completion-request.ts";
import type { Begun } from "./engage.ts";
import type { Candidate, Route } from "./model-router.ts";
import { relayStream, type StreamEnding } from "./relay-stream.ts";
import type { CompletionCall, CallServices } from "./run-completion.ts";
import type { WireChunk } from "./stream-meter.ts";
import { describeUsage, fateOfStream } from "./stream-usage.ts";

/**
 * Mid-stream rescue, for callers who opted in. A stream that broke after its output began is taken up by another candidate:
 *
 * - `continue`: who takes over gets what was said so far and goes on from there; the caller sees one answer. Only where what was
 *   said is one choice of plain text.
 * - `restart`: who takes over answers anew. A chunk without choices tells the caller, who throws away what came before.
 *
 * What was cut is charged as far as it came, beside the answer that took over, and both worst cases must fit in the budgets. The chunks
 * keep the id of the stream they go on with; the last ones carry `brikk: {rescue, served_by}`.
 */
export interface Rescue {
  readonly services: CallServices;
  readonly call: CompletionCall;
  readonly mode: RescueMode;
  readonly route: Route;
  readonly reservation: Reservation;
  readonly history: CallHistory;
}

export type RescuedEnding = StreamEnding | { readonly outcome: "cancelled"; readonly answer?: undefined };

/** The stream's ending after as many rescues as the attempts allow; the one that it had where none is possible. */
export async function rescueStream(rescue: Rescue, begun: Begun, broken: StreamEnding): Promise<RescuedEnding> {
  const { call, services, history } = rescue;
  const servedBy = [begun.candidate];
  let ending = broken;
  let said = "";
  while (isRescuable(rescue, ending)) {
    const cut = ending.answer;
    const text = rescue.mode === "continue" ? wholeText(said, cut.meter.text.join("")) : "";
    const next = await takeOver(rescue, servedBy.at(-1)!, text);
    if (!next) {
      if (!call.signal.aborted) return ending;
      return callerLeft(call.signal) ? { outcome: "cancelled" } : { ...ending, error: call.signal.reason };
    }
    const from = { head: ending.answer.meter.head, mode: rescue.mode, servedBy: [...servedBy, next.candidate] };
    servedBy.push(next.candidate);
    history.rescue = rescue.mode;
    if (rescue.mode === "restart") {
      const notice = call.sink.write(noticeOf(from));
      if (notice) await notice;
    }
    const answer = next.answer as StreamedAnswer;
    // Whoever comes after goes on with the id that the caller knows.
    answer.meter.head = from.head;
    ending = await relayStream({
      candidate: next.candidate,
      answer,
      sink: call.sink,
      signal: call.signal,
      wantsUsage: call.request.wantsUsage,
      describeUsage: (chunk) => addEarlier(describeUsage(chunk, answer, next.candidate), history.earlier),
      refit: refitter(from, text),
    });
    next.ended(fateOfStream(ending, call.signal));
    services.events.rescued(rescue.mode, ending.outcome === "completed" ? "completed" : "broken");
    said = text;
  }
  return ending;
}

type Truncated = Extract<StreamEnding, { outcome: "truncated" }>;

function isRescuable({ call, mode, history }: Rescue, ending: StreamEnding): ending is Truncated {
  return (
    ending.outcome === "truncated" &&
    ending.error instanceof ProviderError &&
    !call.signal.aborted &&
    !history.exhausted &&
    // A finished answer that was only never closed needs nobody to go on with it.
    !ending.answer.meter.finished &&
    (mode === "restart" || (ending.answer.meter.plain && call.request.choices === 1))
  );
}

/** Others first, then whoever broke off: that may have been the connection. Undefined when nobody takes over. */
async function takeOver(
  { services, call, route, reservation, history, mode }: Rescue,
  broke: Candidate,
  text: string,
): Promise<Begun | undefined> {
  const others = route.candidates.filter((candidate) => candidate !== broke);
  const saidTokens = mode === "continue" ? await services.tokenCounter.count([text]) : 0;
  for (const candidate of [...others, broke]) {
    // What was said is input now. It fits in what is set aside for another whole answer if the rest is shorter by as much.
    const allowed = least(call.request.maxOutputTokens ?? candidate.model.maxOutputTokens, reservation.maxOutputTokens);
    const maxOutputTokens =
      mode === "restart" || allowed === undefined ? reservation.maxOutputTokens : allowed - saidTokens;
    if (maxOutputTokens !== undefined && maxOutputTokens < 1) return undefined;
    try {
      return await callCandidates(services, {
        candidates: [candidate],
        request: mode === "restart" ? call.request : continued(call.request, candidate, text),
        reservation,
        history,
        asked: new Set(),
        maxOutputTokens,
        hedge: undefined,
        signal: call.signal,
      });
    } catch (error) {
      if (call.signal.aborted || history.exhausted) return undefined;
      const { kind } = reasonOf(error);
      if (kind === "budget") return undefined;
      if (kind === "bug") throw error;
    }
  }
  return undefined;
}

/** Of a provider that cannot, another one may be able to. */
function reasonOf(error: unknown): { readonly kind: "provider" | "budget" | "bug" } {
  if (error instanceof BrikkError) return { kind: error.code === "hard_cap_exceeded" ? "budget" : "provider" };
  return { kind: error instanceof ProviderError ? "provider" : "bug" };
}

/** A model that repeats what it was given has said all of it by itself. */
const wholeText = (said: string, now: string): string => (now.startsWith(said) ? now : said + now);

const least = (a: number | undefined, b: number | undefined): number | undefined =>
  a === undefined ? b : b === undefined ? a : Math.min(a, b);

/** The request with what was said so far. */
function continued(
  request: CompletionRequest,
  { connected: { provider } }: Candidate,
  text: string,
): CompletionRequest {
  const before = request.document.value["messages"] as readonly unknown[];
  const messages =
    provider.continuation === "prefix"
      ? [...before, { role: "assistant", content: text, prefix: true }]
      : [...before, { role: "assistant", content: text }, { role: "user", content: GO_ON }];
  const bytes = editJsonDocument(request.document, new Map([["messages", { set: messages }]]));
  return { ...request, document: parseJsonDocument(bytes) };
}

const GO_ON =
  "Your answer above was cut off by the connection. Go on at exactly the character where it stops. Repeat nothing, and do not mention the interruption.";

interface Junction {
  readonly head: StreamedAnswer["meter"]["head"];
  readonly mode: RescueMode;
  readonly servedBy: readonly Candidate[];
}

const markOf = ({ mode, servedBy }: Junction) => ({
  rescue: mode,
  served_by: servedBy.map(({ model }) => `${model.provider}/${model.id}`),
});

/** Tells the caller of a restart that what came so far is void. */
const noticeOf = (junction: Junction): Buffer =>
  sseEvent({ ...junction.head, object: "chat.completion.chunk", choices: [], brikk: markOf(junction) });

interface RefitChoice {
  readonly delta?: Readonly<Record<string, unknown>>;
  readonly finish_reason?: unknown;
}

/** Events of the answer that takes over, as parts of the stream that it goes on with. */
function refitter(junction: Junction, said: string): (bytes: Buffer) => Buffer | undefined {
  /** Some models say again what they were given before they go on. */
  let repeated = said;
  let heldBack = "";
  const unrepeated = (text: string): string => {
    if (repeated === "") return text;
    if (repeated.startsWith(text)) {
      repeated = repeated.slice(text.length);
      heldBack = repeated === "" ? "" : heldBack + text;
      return "";
    }
    const fresh = text.startsWith(repeated) ? text.slice(repeated.length) : heldBack + text;
    repeated = "";
    heldBack = "";
    return fresh;
  };
  return (bytes) => {
    const data = sseData(bytes);
    if (data === undefined) return bytes;
    const chunk = JSON.parse(data) as WireChunk;
    const choices = (chunk.choices as readonly RefitChoice[] | undefined)?.map((choice) => {
      const { content } = choice.delta ?? {};
      let fresh = typeof content === "string" ? unrepeated(content) : "";
      // What only looked like a repetition until the answer ended.
      if (typeof choice.finish_reason === "string") {
        fresh = heldBack + fresh;
        heldBack = "";
      }
      return typeof content === "string" || fresh !== ""
        ? { ...choice, delta: { ...choice.delta, content: fresh } }
        : choice;
    });
    const ends = choices?.some(({ finish_reason: reason }) => typeof reason === "string");
    return sseEvent({
      ...chunk,
      ...junction.head,
      ...(choices && { choices }),
      ...((ends || chunk.usage != null) && { brikk: markOf(junction) }),
    });
  };
}

/** The usage of the whole stream: what was cut is billed, too. */
function addEarlier(chunk: WireChunk, earlier: readonly AttemptUsage[]): WireChunk {
  const usage = chunk.usage as { prompt_tokens?: number; completion_tokens?: number; cost_usd: number };
  const prompt = earlier.reduce(
    (sum, { usage: { freshInputTokens, cachedInputTokens } }) => sum + freshInputTokens + cachedInputTokens,
    0,
  );
  const completion = earlier.reduce((sum, attempt) => sum + attempt.usage.outputTokens, 0);
  const costUsd = earlier.reduce((sum, attempt) => sum + usdNumber(costOf(attempt.usage, attempt.model.rates)), 0);
  const total = {
    prompt: (usage.prompt_tokens ?? 0) + prompt,
    completion: (usage.completion_tokens ?? 0) + completion,
  };
  return {
    ...chunk,
    usage: {
      ...usage,
      prompt_tokens: total.prompt,
      completion_tokens: total.completion,
      total_tokens: total.prompt + total.completion,
      cost_usd: usage.cost_usd + costUsd,
    },
  };
}
