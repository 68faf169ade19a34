import type { RescueMode } from "../access/api-key.ts";
import { BrikkError } from "../errors.ts";
import type { AttemptUsage, Reservation } from "../ledger/ledger.ts";
import { inputTokens, type Usage } from "../ledger/usage.ts";
import { editJsonDocument, parseJsonDocument } from "../lib/json-document.ts";
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
  /** As the caller has it. */
  let text = rescue.mode === "continue" ? broken.answer.meter.soundText : "";
  while (isRescuable(rescue, ending)) {
    const next = await takeOver(rescue, servedBy, text);
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
    const joint = createJoint(from, text);
    // Whoever comes after goes on with the id that the caller knows.
    answer.meter.head = from.head;
    ending = await relayStream({
      candidate: next.candidate,
      answer,
      sink: call.sink,
      signal: call.signal,
      wantsUsage: call.request.wantsUsage,
      describeUsage: (chunk) =>
        describeUsage(addEarlier(chunk, history.earlier), answer, next.candidate, history.earlier),
      refit: joint.refit,
    });
    next.ended(fateOfStream(ending, call.signal));
    services.events.rescued(rescue.mode, ending.outcome === "completed" ? "completed" : "broken");
    if (rescue.mode === "continue") text = joint.text;
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

/** Who has not spoken yet comes first, whoever broke off last comes last: that may have been the connection. Undefined when nobody takes over. */
async function takeOver(
  { services, call, route, reservation, history, mode }: Rescue,
  servedBy: readonly Candidate[],
  text: string,
): Promise<Begun | undefined> {
  const { request, signal } = call;
  const saidTokens = mode === "continue" ? await services.tokenCounter.count([text]) : 0;
  // What was said is input now. It fits in what is set aside for another whole answer if the rest is shorter by as much.
  const maxOutputTokensFor = ({ model }: Candidate): number | undefined => {
    const allowed = least(request.maxOutputTokens ?? model.maxOutputTokens, reservation.maxOutputTokens);
    return mode === "restart" || allowed === undefined ? reservation.maxOutputTokens : allowed - saidTokens;
  };
  let candidates = route.candidates
    .filter((candidate) => (maxOutputTokensFor(candidate) ?? 1) >= 1)
    .toSorted((one, other) => servedBy.lastIndexOf(one) - servedBy.lastIndexOf(other));
  while (candidates.length > 0) {
    try {
      return await callCandidates(services, {
        candidates,
        requestFor: (candidate) => (mode === "restart" ? request : continued(request, candidate, text)),
        reservation,
        history,
        asked: new Map(),
        askedBefore: servedBy,
        maxOutputTokensFor,
        hedge: undefined,
        endsAtMs: call.endsAtMs,
        signal,
      });
    } catch (error) {
      if (signal.aborted || history.exhausted) return undefined;
      if (!(error instanceof ProviderError)) {
        if (error instanceof BrikkError) return undefined;
        throw error;
      }
      if (!error.isCallers) return undefined;
      // Who does not take an answer to go on with is followed by those who were not asked yet.
      const refusing = candidates.findIndex((candidate) => candidate === history.candidate);
      candidates = candidates.slice(refusing + 1);
    }
  }
  return undefined;
}

const least = (a: number | undefined, b: number | undefined): number | undefined =>
  a === undefined ? b : b === undefined ? a : Math.min(a, b);

/** The request with what was said so far. */
function continued(
  request: CompletionRequest,
  { connected: { provider } }: Candidate,
  text: string,
): CompletionRequest {
  if (text === "") return request;
  const before = request.document.value["messages"] as readonly unknown[];
  const messages =
    provider.continuation === "prefix"
      ? [...before, { role: "assistant", content: text, prefix: true }]
      : [...before, { role: "assistant", content: text }, { role: "user", content: GO_ON }];
  const document = parseJsonDocument(editJsonDocument(request.document, new Map([["messages", { set: messages }]])));
  return { ...request, document };
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

/** Characters. */
const LEAST_REPETITION = 24;

interface RefitChoice {
  readonly delta?: Readonly<Record<string, unknown>>;
  readonly finish_reason?: unknown;
}

interface Joint {
  readonly refit: (bytes: Buffer) => Buffer;
  /** What the caller has of the whole answer. */
  readonly text: string;
}

/** Makes events of the answer that takes over parts of the stream that it goes on with. */
function createJoint(junction: Junction, said: string): Joint {
  let text = said;
  const { continuation } = junction.servedBy.at(-1)!.connected.provider;
  /** Models say again what they were given as a prefix; told to go on, some do. A word or two may as well be the answer's own. */
  let repeated = continuation === "prefix" || said.length >= LEAST_REPETITION ? said : "";
  let heldBack = "";
  const unrepeated = (next: string): string => {
    if (repeated === "") return next;
    if (repeated.startsWith(next)) {
      repeated = repeated.slice(next.length);
      heldBack = repeated === "" ? "" : heldBack + next;
      return "";
    }
    const fresh = next.startsWith(repeated) ? next.slice(repeated.length) : heldBack + next;
    repeated = "";
    heldBack = "";
    return fresh;
  };
  const refit = (bytes: Buffer): Buffer => {
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
      text += fresh;
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
  return {
    refit,
    get text() {
      return text;
    },
  };
}

/** The usage of the whole stream: what was cut is billed, too. */
function addEarlier(chunk: WireChunk, earlier: readonly AttemptUsage[]): WireChunk {
  const usage = chunk.usage as { readonly prompt_tokens?: number; readonly completion_tokens?: number };
  const sum = (tokensOf: (usage: Usage) => number): number =>
    earlier.reduce((tokens, attempt) => tokens + tokensOf(attempt.usage), 0);
  const prompt = (usage.prompt_tokens ?? 0) + sum(inputTokens);
  const completion =
    (usage.completion_tokens ?? 0) + sum(({ outputTokens, audioOutputTokens }) => outputTokens + audioOutputTokens);
  return {
    ...chunk,
    usage: { ...usage, prompt_tokens: prompt, completion_tokens: completion, total_tokens: prompt + completion },
  };
}
