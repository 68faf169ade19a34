/**
 * Answers one vendor's endpoints. A request meets, in this order: the path, the key, the body's size and JSON, the
 * vendor's own checks, the context length, a fault if one is drawn, and then its answer. Every request that got past the
 * path is written to the served log exactly once, before its answer ends.
 */
import type { IncomingMessage } from "node:http";
import type { ChatRequest } from "./chat-request.ts";
import type { Connection } from "./connection.ts";
import { embedText, encodeVector } from "./embedding-vector.ts";
import type { Fault, FaultBoard } from "./faults.ts";
import { BLANK_LINE, sendHeartbeats } from "./heartbeats.ts";
import { hexIdentifier } from "./identifier.ts";
import { CONTEXT_TOKENS, type ModelAnswers } from "./model-answers.ts";
import type { ModelAnswer } from "./model-answers.ts";
import type { Pace } from "./pacing.ts";
import { RecentMap } from "./recent-map.ts";
import { readBody } from "./request-body.ts";
import { NO_USAGE } from "./served-log.ts";
import type { ServedEntry, ServedLog, ServedUsage } from "./served-log.ts";
import { type Ending, spoilPlan } from "./stream-plan.ts";
import { type Pieces, playStream, writeBatch } from "./stream-player.ts";
import type { Operation } from "./vendor.ts";
import { Refusal } from "./wire/protocol.ts";
import type { EmbeddingsRequest, HeaderFields, Protocol, Reply } from "./wire/protocol.ts";

export interface ServiceParts {
  readonly answers: ModelAnswers;
  readonly faults: FaultBoard;
  readonly served: ServedLog;
  readonly pace: Pace;
}

/** A request on its way, as the served log will name it. */
interface Visit {
  readonly connection: Connection;
  readonly operation: Operation;
  readonly model: string;
  readonly stream: boolean;
  readonly fault?: Fault["kind"];
}

interface Outcome {
  readonly status: number;
  readonly usage: ServedUsage;
  readonly finished: boolean;
}

export const SIMULATED_HEADER: HeaderFields = { "X-Brikk-Simulated": "true" };

const REMEMBERED_VECTORS = 2000;

export class VendorService {
  readonly #protocol: Protocol;
  readonly #parts: ServiceParts;
  readonly #vectors = new RecentMap<Float64Array>(REMEMBERED_VECTORS);

  constructor(protocol: Protocol, parts: ServiceParts) {
    this.#protocol = protocol;
    this.#parts = parts;
  }

  /** `path` is what follows the vendor's base URL. Never throws for what a client sent. */
  async serve(request: IncomingMessage, connection: Connection, path: string): Promise<void> {
    const route = `${request.method ?? ""} ${path}`;
    const operation: Operation | undefined =
      route === "POST /chat/completions" ? "chat" : route === "POST /embeddings" ? "embeddings" : undefined;
    if (operation === undefined && route !== "GET /models")
      return this.#send(connection, this.#protocol.unknownPath(request.method ?? "", path));
    const key = bearerKey(request);
    const refused = key === undefined || key === "invalid" || key.startsWith("sk-invalid");
    if (operation === undefined) {
      return this.#send(
        connection,
        refused ? this.#protocol.unauthorized(key) : { status: 200, body: this.#protocol.models() },
      );
    }
    const body = await readBody(request);
    const visit: Visit = { connection, operation, model: "", stream: false };
    if (refused) return this.#refuse(visit, this.#protocol.unauthorized(key));
    switch (body.kind) {
      case "broken-off":
        return undefined;
      case "not-json":
        return this.#refuse(visit, this.#protocol.notJson());
      case "too-large":
        return this.#refuse(visit, this.#protocol.tooLarge());
      case "json":
        return this.#answer({ ...visit, ...claimed(body.value) }, body.value);
      default:
        return body satisfies never;
    }
  }

  async #answer(visit: Visit, body: unknown): Promise<void> {
    try {
      if (visit.operation === "chat") await this.#chat(visit, this.#protocol.readChat(body));
      else await this.#embeddings(visit, this.#protocol.readEmbeddings(body));
    } catch (error) {
      if (!(error instanceof Refusal)) throw error;
      this.#refuse(visit, error.reply);
    }
  }

  async #chat(visit: Visit, request: ChatRequest): Promise<void> {
    const answer = this.#parts.answers.answer(this.#protocol.vendor, request);
    if (answer === undefined) throw new Refusal(this.#protocol.promptTooLong(CONTEXT_TOKENS));
    const fault = this.#parts.faults.draw(this.#protocol.vendor, request.stream);
    const struck = fault === undefined ? visit : { ...visit, fault: fault.kind };
    if (fault !== undefined && (await this.#failWhole(struck, fault))) return;
    if (request.stream) await this.#streamChat(struck, request, answer, fault);
    else await this.#plain(struck, this.#protocol.chatAnswer(request, answer), usageOf(answer), fault);
  }

  async #streamChat(visit: Visit, request: ChatRequest, answer: ModelAnswer, fault: Fault | undefined): Promise<void> {
    const { connection } = visit;
    const { response } = connection;
    const events = this.#protocol.chatEvents(request, answer);
    const plan = spoilPlan({ events, ending: "close" }, fault, JSON.stringify(this.#protocol.streamError()));
    const usage = usageOf(answer);
    const firstTokenMs = this.#firstTokenMs(fault);
    response.writeHead(200, {
      "content-type": "text/event-stream; charset=utf-8",
      "cache-control": "no-cache, must-revalidate",
      ...SIMULATED_HEADER,
      ...this.#protocol.headers(usage, firstTokenMs),
    });
    if (firstTokenMs > 0 || plan.ending === "silence" || typeof plan.ending === "object") response.flushHeaders();
    const played = await playStream(connection, plan, this.#parts.pace, {
      firstTokenMs,
      commentEveryMs: fault?.kind === "slow-first-token" ? fault.everyMs : undefined,
      pieces: piecesOf(fault),
    });
    const spent = leavesNothing(fault)
      ? NO_USAGE
      : { ...usage, completionTokens: played.tokens, reasoningTokens: played.reasoningTokens };
    await this.#end(visit, plan.ending, { status: 200, usage: spent, finished: played.finished && reachesEnd(fault) });
  }

  async #embeddings(visit: Visit, request: EmbeddingsRequest): Promise<void> {
    const fault = this.#parts.faults.draw(this.#protocol.vendor, false);
    const struck = fault === undefined ? visit : { ...visit, fault: fault.kind };
    if (fault !== undefined && (await this.#failWhole(struck, fault))) return;
    const data = request.inputs.map(({ text }, index) => ({
      object: "embedding",
      index,
      embedding: this.#embedding(text, request),
    }));
    const tokens = request.inputs.reduce((sum, input) => sum + input.tokens, 0);
    await this.#plain(
      struck,
      this.#protocol.embeddingsAnswer(request, data, tokens),
      { ...NO_USAGE, promptTokens: tokens },
      fault,
    );
  }

  #embedding(text: string, request: EmbeddingsRequest): unknown {
    const key = `${request.model}/${request.dimensions}/${text}`;
    let vector = this.#vectors.get(key);
    if (vector === undefined) {
      vector = embedText(text, request.dimensions);
      this.#vectors.set(key, vector);
    }
    return request.format === "base64" ? encodeVector(vector) : Array.from(vector);
  }

  /** A plain answer: all of it after the time a stream of it would take. */
  async #plain(visit: Visit, body: unknown, usage: ServedUsage, fault: Fault | undefined): Promise<void> {
    const { connection } = visit;
    const spoken = usage.completionTokens - usage.reasoningTokens;
    const firstTokenMs = this.#firstTokenMs(fault);
    const thinkingMs = firstTokenMs + this.#parts.pace.durationMs(spoken);
    const headers = {
      "content-type": "application/json",
      ...SIMULATED_HEADER,
      ...this.#protocol.headers(usage, thinkingMs),
    };
    if (fault?.kind === "slow-first-token" && fault.everyMs !== undefined) {
      connection.response.writeHead(200, headers);
      await sendHeartbeats(connection, { everyMs: fault.everyMs, ms: thinkingMs, beats: [BLANK_LINE] });
    } else await connection.wait(thinkingMs);
    if (connection.gone)
      return this.#record(visit, {
        status: connection.response.headersSent ? 200 : 0,
        usage: this.#usageUntilNow(usage, connection, firstTokenMs),
        finished: false,
      });
    const whole = JSON.stringify(body);
    const done: Outcome = { status: 200, usage, finished: true };
    const ending = brokenEnding(fault);
    if (ending !== undefined) {
      // What is to end as if it were whole cannot say how long it would have been.
      const endsProperly = ending === "close" || typeof ending === "object";
      const length = endsProperly ? {} : { "content-length": Buffer.byteLength(whole) };
      connection.response.writeHead(200, { ...headers, ...length });
      await connection.write(halfOf(whole));
      return this.#end(visit, ending, { ...done, finished: false });
    }
    switch (fault?.kind) {
      case "malformed-chunk":
        this.#record(visit, { ...done, finished: false });
        return endWith(connection, 200, headers, halfOf(whole));
      case "split":
      case "slow-body":
        connection.response.writeHead(200, headers);
        await writeBatch(connection, whole, piecesOf(fault));
        return this.#end(visit, "close", { ...done, finished: !connection.gone });
      default:
        this.#record(visit, done);
        if (connection.response.headersSent) return void connection.response.end(whole);
        return endWith(connection, 200, headers, whole);
    }
  }

  /** Faults that leave nothing of the answer. True when the request is dealt with. */
  async #failWhole(visit: Visit, fault: Fault): Promise<boolean> {
    const { connection } = visit;
    switch (fault.kind) {
      case "status": {
        const reply =
          fault.body === undefined ? this.#protocol.failure(fault.status) : { status: fault.status, body: fault.body };
        this.#refuse(visit, { ...reply, headers: { ...retryAfter(fault), ...fault.headers } });
        return true;
      }
      case "quota":
        this.#refuse(visit, this.#protocol.quotaSpent());
        return true;
      case "no-allowance":
        this.#refuse(visit, this.#protocol.noAllowance());
        return true;
      case "refuse-content":
        this.#refuse(visit, this.#protocol.contentRefused());
        return true;
      case "context-length":
        this.#refuse(visit, this.#protocol.promptTooLong(CONTEXT_TOKENS));
        return true;
      case "error-body":
        if (visit.stream) return false;
        this.#refuse(visit, { status: 200, body: this.#protocol.streamError() });
        return true;
      case "unusable-body":
        this.#record(visit, { status: 200, usage: NO_USAGE, finished: true });
        if (fault.body === "null")
          endWith(connection, 200, { "content-type": "application/json", ...SIMULATED_HEADER }, "null");
        else
          endWith(
            connection,
            200,
            { "content-type": "text/html; charset=utf-8", ...SIMULATED_HEADER },
            "<!doctype html><title>Service</title><p>Please wait.</p>",
          );
        return true;
      case "reset":
        if (fault.afterTokens !== undefined) return false;
        this.#record(visit, { status: 0, usage: NO_USAGE, finished: false });
        connection.response.socket?.resetAndDestroy();
        return true;
      case "hang":
        await connection.whenGone();
        this.#record(visit, { status: 0, usage: NO_USAGE, finished: false });
        return true;
      case "hang-after-headers":
        this.#begin(visit);
        await this.#end(visit, "silence", NOTHING_CAME);
        return true;
      case "heartbeat":
        if (visit.stream) return false;
        this.#begin(visit);
        await this.#end(visit, { ...fault, beats: [BLANK_LINE] }, NOTHING_CAME);
        return true;
      default:
        return false;
    }
  }

  /** Status and headers of an answer whose body comes late or never. */
  #begin({ connection, stream }: Visit): void {
    connection.response.writeHead(200, {
      "content-type": stream ? "text/event-stream; charset=utf-8" : "application/json",
      ...SIMULATED_HEADER,
      ...this.#protocol.headers(NO_USAGE, 1),
    });
    connection.response.flushHeaders();
  }

  async #end(visit: Visit, ending: Ending, outcome: Outcome): Promise<void> {
    const { connection } = visit;
    if (ending === "silence") await connection.whenGone();
    if (typeof ending === "object") await sendHeartbeats(connection, ending);
    this.#record(visit, outcome, connection.gone);
    if (connection.gone) return;
    const { response } = connection;
    if (ending === "close" || typeof ending === "object") {
      response.end();
      return;
    }
    // An empty write is called back once everything before it has left, so that the client sees what was sent.
    response.write("", () => (ending === "reset" ? response.socket?.resetAndDestroy() : response.socket?.destroy()));
  }

  #refuse(visit: Visit, reply: Reply): void {
    this.#record(visit, { status: reply.status, usage: NO_USAGE, finished: true });
    this.#send(visit.connection, reply);
  }

  #send(connection: Connection, reply: Reply): void {
    if (connection.gone) return;
    const body = typeof reply.body === "string" ? reply.body : JSON.stringify(reply.body);
    const headers = {
      "content-type": "application/json",
      ...SIMULATED_HEADER,
      ...this.#protocol.headers(NO_USAGE, 1),
      ...reply.headers,
    };
    endWith(connection, reply.status, headers, body);
  }

  #record(visit: Visit, outcome: Outcome, aborted = visit.connection.gone): void {
    const entry: ServedEntry = {
      id: hexIdentifier(),
      vendor: this.#protocol.vendor,
      operation: visit.operation,
      model: visit.model,
      stream: visit.stream,
      ...outcome,
      aborted,
      ...(aborted ? { abortedAtMs: visit.connection.goneAtMs } : {}),
      ...(visit.fault === undefined ? {} : { fault: visit.fault }),
    };
    this.#parts.served.record(entry);
  }

  #firstTokenMs(fault: Fault | undefined): number {
    return fault?.kind === "slow-first-token" ? fault.ms : this.#parts.pace.settings.firstTokenMs;
  }

  /** What a plain answer had produced when the client left. */
  #usageUntilNow(usage: ServedUsage, connection: Connection, firstTokenMs: number): ServedUsage {
    const speakingMs = connection.goneAtMs - firstTokenMs;
    if (speakingMs < 0) return { ...usage, completionTokens: 0, reasoningTokens: 0 };
    const spoken = Math.floor((speakingMs * this.#parts.pace.settings.tokensPerSecond) / 1000);
    return { ...usage, completionTokens: Math.min(usage.completionTokens, usage.reasoningTokens + spoken) };
  }
}

const NOTHING_CAME: Outcome = { status: 200, usage: NO_USAGE, finished: false };

/** A stream of these is opened before the model is at work, and nothing is billed for it. */
function leavesNothing(fault: Fault | undefined): boolean {
  return fault?.kind === "heartbeat" || fault?.kind === "error-body";
}

/** How a plain answer ends after its half; undefined when it goes on to its end. */
function brokenEnding(fault: Fault | undefined): Ending | undefined {
  switch (fault?.kind) {
    case "stall":
      return "silence";
    case "cut":
      return "destroy";
    case "reset":
      return "reset";
    case "goodbye":
      return "close";
    case "trickle":
      return { ...fault, beats: [BLANK_LINE] };
    default:
      return undefined;
  }
}

function halfOf(whole: string): string {
  return whole.slice(0, Math.ceil(whole.length / 2));
}

function piecesOf(fault: Fault | undefined): Pieces | undefined {
  if (fault?.kind === "split") return { bytes: fault.bytes, everyMs: 0 };
  return fault?.kind === "slow-body" ? { bytes: fault.bytes ?? 1, everyMs: fault.everyMs } : undefined;
}

function retryAfter(fault: Extract<Fault, { kind: "status" }>): HeaderFields {
  if (fault.retryAfterDate !== undefined) {
    const seconds = Math.ceil(Date.now() / 1_000 + fault.retryAfterDate);
    return { "retry-after": new Date(seconds * 1_000).toUTCString() };
  }
  return fault.retryAfter === undefined ? {} : { "retry-after": String(fault.retryAfter) };
}

/** False for the faults that leave a stream without its end. */
function reachesEnd(fault: Fault | undefined): boolean {
  switch (fault?.kind) {
    case "stall":
    case "cut":
    case "reset":
    case "goodbye":
    case "heartbeat":
    case "trickle":
    case "error-event":
    case "error-body":
    case "empty-stream":
      return false;
    default:
      return true;
  }
}

function usageOf({ completion, promptTokens, cachedTokens }: ModelAnswer): ServedUsage {
  return {
    promptTokens,
    cachedTokens,
    completionTokens: completion.completionTokens,
    reasoningTokens: completion.reasoningTokens,
  };
}

/** Model and stream as the client wrote them, for the log of a request that may yet be refused. */
function claimed(body: unknown): { model: string; stream: boolean } {
  const { model, stream } = (typeof body === "object" && body !== null ? body : {}) as {
    model?: unknown;
    stream?: unknown;
  };
  return { model: typeof model === "string" ? model.slice(0, 200) : "", stream: stream === true };
}

function bearerKey(request: IncomingMessage): string | undefined {
  return /^Bearer\s+(\S+)\s*$/iu.exec(request.headers.authorization ?? "")?.[1];
}

function endWith(connection: Connection, status: number, headers: HeaderFields, body: string): void {
  if (connection.gone) return;
  connection.response.writeHead(status, { ...headers, "content-length": Buffer.byteLength(body) });
  connection.response.end(body);
}
