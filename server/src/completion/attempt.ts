import type { JsonDocument } from "../lib/json-document.ts";
import { sseData, SseFramer } from "../lib/sse-events.ts";
import { readWireUsage, type Usage } from "../ledger/usage.ts";
import { type Operation, type Provider, ProviderError, type ResponseHeaders } from "../providers/provider.ts";
import type { UpstreamResponse } from "../providers/transport.ts";
import { AttemptTimer } from "./attempt-timer.ts";
import type { Candidate } from "./model-router.ts";
import { type MeteredEvent, StreamMeter } from "./stream-meter.ts";

/**
 * One upstream call for one candidate, up to the commit point: a whole answer, or a stream whose first output has come.
 * Until then nothing has been shown to the caller, so a ProviderError thrown here leaves every other candidate open.
 */
export type Answer = WholeAnswer | StreamedAnswer;

export interface WholeAnswer {
  readonly kind: "whole";
  readonly body: Buffer;
  /** The parsed body, for those who build on an answer. */
  readonly value: Readonly<Record<string, unknown>>;
  readonly usage: Usage | undefined;
}

export interface StreamedAnswer {
  readonly kind: "stream";
  readonly meter: StreamMeter;
  /** What came up to and with the first output. */
  readonly held: readonly MeteredBytes[];
  /** The rest, in the pieces in which it comes. Throws ProviderError when the provider breaks off. */
  readonly rest: AsyncGenerator<readonly MeteredBytes[], void, void>;
}

/** An event of the stream with its bytes. */
export interface MeteredBytes {
  readonly bytes: Buffer;
  readonly event: MeteredEvent;
}

const MAX_ANSWER_BYTES = 64 * 1024 * 1024;
const MAX_FAULT_BYTES = 256 * 1024;
/** For the end of a stream whose answer has ended. */
const CLOSING_MS = 500;
const MAX_EVENT_BYTES = 16 * 1024 * 1024;
/** Quiet events that may precede the first output; they are held in memory. */
const MAX_HELD_EVENTS = 10_000;

export async function attempt(
  candidate: Candidate,
  call: { operation: Operation; document: JsonDocument; stream: boolean; maxOutputTokens: number | undefined },
  signal: AbortSignal,
  heard: (headers: ResponseHeaders) => void,
): Promise<Answer> {
  const { provider, transport } = candidate.connected;
  const timeouts = candidate.connected.timeoutsOf(candidate.model);
  const controller = new AbortController();
  const stop = (): void => controller.abort(signal.reason);
  if (signal.aborted) stop();
  signal.addEventListener("abort", stop);
  const timer = new AttemptTimer(
    provider.name,
    call.stream
      ? { fault: "first-token-timeout", ms: timeouts.firstTokenMs }
      : { fault: "attempt-timeout", ms: timeouts.attemptMs },
    (error) => controller.abort(error),
  );
  const ended = (): void => {
    timer.stop();
    signal.removeEventListener("abort", stop);
  };
  let streaming = false;
  try {
    const response = await transport.send(
      provider.prepare(call.operation, call.document, candidate.model, call.maxOutputTokens),
      controller.signal,
    );
    heard(response.headers);
    if (response.status !== 200)
      throw provider.readFault(response.status, response.headers, await readFaultBody(response));
    if (!call.stream)
      return readWhole(await readAll(response, MAX_ANSWER_BYTES, provider.name), call.operation, provider, response);
    const answer = await openStream(response, provider, timer, ended);
    timer.restart({ fault: "idle-timeout", ms: timeouts.idleMs });
    streaming = true;
    return answer;
  } finally {
    if (!streaming) ended();
  }
}

async function readAll(response: UpstreamResponse, limit: number, provider: string): Promise<Buffer> {
  const chunks: Buffer[] = [];
  let bytes = 0;
  for await (const chunk of response.body) {
    bytes += chunk.length;
    if (bytes > limit)
      throw new ProviderError("unusable", `The provider's answer is larger than ${limit} bytes.`, { provider });
    chunks.push(chunk);
  }
  return chunks.length === 1 ? chunks[0]! : Buffer.concat(chunks);
}

/** What came of a refusal's body. The status alone says that nothing was produced, so a body that is cut or endless changes nothing. */
async function readFaultBody(response: UpstreamResponse): Promise<Buffer> {
  const chunks: Buffer[] = [];
  let bytes = 0;
  try {
    for await (const chunk of response.body) {
      chunks.push(chunk);
      bytes += chunk.length;
      if (bytes > MAX_FAULT_BYTES) break;
    }
  } catch (error) {
    if (!(error instanceof ProviderError)) throw error;
  }
  return Buffer.concat(chunks);
}

function readWhole(
  body: Buffer,
  operation: Operation,
  provider: Provider,
  { status, headers }: UpstreamResponse,
): WholeAnswer {
  let value: unknown;
  try {
    value = JSON.parse(body.toString("utf8"));
  } catch (cause) {
    throw new ProviderError("unusable", "The provider answered 200 with a body that is not JSON.", {
      provider: provider.name,
      cause,
    });
  }
  const answer = typeof value === "object" && value !== null ? (value as Record<string, unknown>) : {};
  const items = answer[operation === "chat" ? "choices" : "data"];
  const answered =
    Array.isArray(items) && items.length > 0 && items.every(operation === "chat" ? isSpokenChoice : isObject);
  if (!answered && typeof answer["error"] === "object" && answer["error"] !== null)
    throw provider.readFault(status, headers, body);
  if (!answered)
    throw new ProviderError("unusable", "The provider answered 200 with a body that holds no answer.", {
      provider: provider.name,
      wireUsage: answer["usage"],
    });
  return { kind: "whole", body, value: answer, usage: readWireUsage(answer["usage"]) };
}

const isObject = (value: unknown): value is Readonly<Record<string, unknown>> =>
  typeof value === "object" && value !== null;

/** Mistral may end an answer with `error`, which is as good as none. */
const isSpokenChoice = (choice: unknown): boolean =>
  isObject(choice) && isObject(choice["message"]) && choice["finish_reason"] !== "error";

async function openStream(
  response: UpstreamResponse,
  from: Provider,
  timer: AttemptTimer,
  ended: () => void,
): Promise<StreamedAnswer> {
  const provider = from.name;
  const meter = new StreamMeter();
  const pieces = meteredPieces(response, meter, provider, timer, ended);
  const held: MeteredBytes[] = [];
  let begun = false;
  let answered = false;
  try {
    for (;;) {
      const { done, value } = await pieces.next();
      if (done) throw saidNothing(provider, meter);
      for (const piece of value) {
        const { event } = piece;
        // From the first output on, what goes wrong is no longer this attempt's but the stream's.
        begun ||= isOutput(event);
        if (begun) {
          held.push(piece);
          continue;
        }
        if (event.kind === "vendor-error") throw readFirstError(piece, from, response);
        if (event.kind === "malformed")
          throw new ProviderError("unusable", "The provider's stream began with something that is not JSON.", {
            provider,
          });
        if (event.kind === "done") throw saidNothing(provider, meter);
        held.push(piece);
      }
      if (begun) {
        answered = true;
        return { kind: "stream", meter, held, rest: pieces };
      }
      if (held.length > MAX_HELD_EVENTS)
        throw new ProviderError("unusable", "The provider's stream goes on without saying anything.", { provider });
    }
  } finally {
    if (!answered) await pieces.return();
  }
}

/** Usage is none: some servers count up with every chunk, and from the first one on. */
const isOutput = (event: MeteredEvent): boolean => event.kind === "output" || (event.kind === "usage" && event.output);

const saidNothing = (provider: string, { wireUsage }: StreamMeter): ProviderError =>
  new ProviderError("unusable", "The provider's stream ended before it said anything.", { provider, wireUsage });

/** A refusal, where it is one that is known; else the provider may have worked and may bill it, and it may pass. */
function readFirstError(
  { bytes }: MeteredBytes,
  provider: Provider,
  { status, headers }: UpstreamResponse,
): ProviderError {
  const error = provider.readFault(status, headers, Buffer.from(sseData(bytes) ?? ""));
  return error.fault === "unusable"
    ? new ProviderError("stream-broken", "The provider reported an error at the start of its stream.", error.info)
    : error;
}

async function* meteredPieces(
  response: UpstreamResponse,
  meter: StreamMeter,
  provider: string,
  timer: AttemptTimer,
  ended: () => void,
): AsyncGenerator<MeteredBytes[], void, void> {
  const framer = new SseFramer(MAX_EVENT_BYTES);
  let closing = false;
  try {
    for await (const chunk of response.body) {
      let events: Buffer[];
      try {
        events = framer.push(chunk);
      } catch (cause) {
        throw new ProviderError("stream-broken", "The provider sent an event that is too large.", { provider, cause });
      }
      if (events.length === 0) continue;
      const pieces: MeteredBytes[] = [];
      let spoken: "spoken" | "quiet" = "quiet";
      for (const bytes of events) {
        const event = meter.read(bytes);
        if (isOutput(event)) spoken = "spoken";
        pieces.push({ bytes, event });
      }
      timer.pause(spoken);
      yield pieces;
      timer.resume();
      // All is said and counted; who then keeps the connection open is not waited for as for one who thinks.
      if (!closing && meter.finished && meter.usage) {
        closing = true;
        timer.restart({ fault: "idle-timeout", ms: CLOSING_MS });
      }
    }
  } finally {
    ended();
  }
}
