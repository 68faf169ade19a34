import assert from "node:assert/strict";
import { getEventListeners, once } from "node:events";
import { createServer, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { json } from "node:stream/consumers";
import type { TestContext } from "node:test";
import { readCompletionRequest } from "../../src/completion/completion-request.ts";
import { createHedgePlans } from "../../src/completion/hedge.ts";
import type { Candidate } from "../../src/completion/model-router.ts";
import {
  type Completed,
  type CompletionCall,
  type CompletionServices,
  type CompletionSink,
  runCompletion,
} from "../../src/completion/run-completion.ts";
import type { PolicyConfig, TimeoutConfig } from "../../src/config.ts";
import type { BrikkError } from "../../src/errors.ts";
import { createTokenCounter } from "../../src/ledger/token-count.ts";
import { systemClock } from "../../src/lib/clock.ts";
import { parseJsonDocument } from "../../src/lib/json-document.ts";
import { createOpenAiCompatible } from "../../src/providers/openai-compatible/openai-compatible.ts";
import { createTransport } from "../../src/providers/transport.ts";
import { assertSound, newKey, openTestLedger, priced } from "../ledger/ledger-fixture.ts";
import { scratchDatabase } from "../storage/scratch.ts";
import { callServices, connectedTo } from "./call-services.ts";

/** Answers one request of a provider that is played by the test. */
export type Play = (exchange: PlayedExchange) => unknown;

export interface PlayedExchange {
  readonly response: ServerResponse;
  readonly body: Record<string, unknown>;
  /** Counts the requests of this provider, from 1. */
  readonly turn: number;
}

export interface ProviderTraits {
  readonly timeouts?: Partial<TimeoutConfig>;
  readonly maxInFlight?: number;
  readonly maxQueued?: number;
  readonly continuation?: "prefix" | "instruct";
  /** Nano-USD per token; 1 unless said. */
  readonly perToken?: bigint;
}

const PATIENT: TimeoutConfig = {
  connectMs: 5_000,
  firstTokenMs: 10_000,
  thinkingFirstTokenMs: 10_000,
  idleMs: 10_000,
  attemptMs: 10_000,
};

/** A real HTTP server for the candidate, gone with the test. */
export async function playProvider(
  t: TestContext,
  name: string,
  play: Play,
  { timeouts, continuation = "instruct", perToken = 1n, maxInFlight = 100, maxQueued = 10 }: ProviderTraits = {},
) {
  const bodies: Record<string, unknown>[] = [];
  /** Requests whose connection was closed before they were answered in full. */
  let hungUp = 0;
  const server = createServer(async (request, response) => {
    const body = (await json(request)) as Record<string, unknown>;
    bodies.push(body);
    response.on("close", () => {
      if (!response.writableFinished) hungUp += 1;
    });
    await play({ response, body, turn: bodies.length });
  }).listen(0, "127.0.0.1");
  await once(server, "listening");
  const origin = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  const transport = createTransport({
    provider: name,
    origin,
    connectTimeoutMs: 1_000,
    maxConnections: 100,
    allowPrivateAddresses: true,
  });
  t.after(async () => {
    await transport.close();
    server.closeAllConnections();
    server.close();
  });
  const adapter = { name, baseUrl: origin, apiKey: "k", defaultModel: "m", simulated: true, continuation };
  const candidate: Candidate = {
    connected: {
      ...connectedTo(createOpenAiCompatible(adapter), transport),
      maxInFlight,
      maxQueued,
      timeoutsOf: () => ({ ...PATIENT, ...timeouts }),
    },
    model: { ...priced(perToken), provider: name, id: `${name}-model`, maxOutputTokens: 1_000 },
  };
  return {
    candidate,
    bodies,
    get hungUp() {
      return hungUp;
    },
  };
}

export type PlayedProvider = Awaited<ReturnType<typeof playProvider>>;

export interface AskOptions {
  readonly body?: object;
  readonly stream?: boolean;
  readonly rescue?: CompletionCall["rescue"];
  readonly hardCap?: bigint;
  readonly controller?: AbortController;
  /** What the caller's end does with the bytes. */
  readonly write?: CompletionSink["write"];
  readonly start?: () => void;
}

export interface Told {
  readonly completed: Completed | undefined;
  /** What the caller was told went wrong, before or inside a stream. */
  readonly error: BrikkError | undefined;
  /** The stream as the caller got it. */
  readonly sse: string;
  /** The text of it. */
  readonly text: string;
  readonly row: Record<string, unknown>;
}

/** The whole completion path over played providers, in the order in which they are candidates, and a real database. */
export async function playedPath(
  t: TestContext,
  providers: readonly PlayedProvider[],
  more: Partial<CompletionServices> & { readonly hedge?: PolicyConfig["hedge"] } = {},
) {
  const { hedge, ...services } = more;
  const { database } = await scratchDatabase(t);
  const clock = more.clock ?? systemClock;
  const ledger = await openTestLedger(t, database, { clock });
  const tokenCounter = createTokenCounter();
  t.after(() => tokenCounter.close());
  const all: CompletionServices = {
    ledger,
    tokenCounter,
    ...callServices(clock),
    hedgeOf: createHedgePlans(),
    clock,
    record: () => undefined,
    ...services,
  };
  const policy: PolicyConfig | undefined = hedge && {
    name: "test",
    candidates: [],
    strategy: "order",
    maxPrice: undefined,
    appliesTo: [],
    hedge,
  };
  const candidates = providers.map(({ candidate }) => candidate) as [Candidate, ...Candidate[]];
  let requests = 0;
  let asking = 0;

  const ask = async (options: AskOptions = {}): Promise<Told> => {
    const requestId = `request-${++requests}`;
    asking += 1;
    const controller = options.controller ?? new AbortController();
    const chunks: Buffer[] = [];
    let started = false;
    let error: BrikkError | undefined;
    let completed: Completed | undefined;
    const document = parseJsonDocument(
      Buffer.from(
        JSON.stringify({
          model: "m",
          max_tokens: 100,
          messages: [{ role: "user", content: "Say something." }],
          ...(options.stream && { stream: true, stream_options: { include_usage: true } }),
          ...options.body,
        }),
      ),
    );
    const key = newKey(options.hardCap ?? 1_000_000n);
    try {
      completed = await runCompletion(all, {
        key,
        requestId,
        traceId: "t",
        request: readCompletionRequest("chat", document),
        chooseRoute: () => ({ candidates, reason: "test", reasons: [], excluded: [], policy }),
        sink: {
          opened: () => undefined,
          hold: () => undefined,
          get started() {
            return started;
          },
          start: () => {
            options.start?.();
            started = true;
          },
          write: (bytes) => {
            chunks.push(bytes);
            return options.write?.(bytes);
          },
          end: () => chunks.push(Buffer.from("data: [DONE]\n\n")),
          fail: (failure) => (error = failure),
        },
        rescue: options.rescue,
        signal: controller.signal,
      });
    } catch (thrown) {
      error = thrown as BrikkError;
    }
    const [row] = await database.all({ sql: "select * from usage_events where request_id = ?", params: [requestId] });
    // Whatever became of it: nothing is held, nobody listens, and the books are right.
    assert.equal(getEventListeners(controller.signal, "abort").length, 0, "somebody still listens to the signal");
    asking -= 1;
    const isQuiet = (): boolean =>
      candidates.every(({ model }) => {
        const { inFlight, queued } = all.health.providerReport(model.provider);
        return inFlight === 0 && queued === 0;
      }) && all.health.targets().every((target) => target.probesInFlight === 0);
    assert.ok(asking > 0 || isQuiet(), "a place or a probe was not given back");
    assert.ok(
      ledger.standing(key).budgets.every(({ reserved }) => reserved === 0n),
      "something is still set aside",
    );
    await assertSound(database);
    const sse = Buffer.concat(chunks).toString();
    return { completed, error, sse, text: textOf(sse), row: row ?? assert.fail("the request has no row") };
  };
  return { ask, services: all, database, candidates };
}

/** The chunks of a stream. */
export const chunksOf = (sse: string): Record<string, unknown>[] =>
  sse
    .split("\n\n")
    .filter((event) => event.startsWith("data: {"))
    .map((event) => JSON.parse(event.slice(6)) as Record<string, unknown>);

const textOf = (sse: string): string =>
  chunksOf(sse)
    .flatMap(({ choices }) => choices as { delta?: { content?: string } }[])
    .map(({ delta }) => delta?.content ?? "")
    .join("");

/** What the row says of money: the whole cost, and what of it went to attempts before the last. */
export const costsOf = (row: Record<string, unknown>): unknown[] => [
  row["cost_nano_usd"],
  row["earlier_cost_nano_usd"],
];

/** Prompt and completion, as vendors count. */
export const wireUsage = (prompt: number, completion: number) => ({
  prompt_tokens: prompt,
  completion_tokens: completion,
  total_tokens: prompt + completion,
});

export const refuse =
  (status: number, headers: Record<string, string> = {}, error: object = { message: "no" }): Play =>
  ({ response }) =>
    response.writeHead(status, { "content-type": "application/json", ...headers }).end(JSON.stringify({ error }));

export const answerWhole =
  (content: string, usage: object = wireUsage(10, 5)): Play =>
  ({ response }) =>
    response.writeHead(200, { "content-type": "application/json" }).end(
      JSON.stringify({
        choices: [{ index: 0, message: { role: "assistant", content }, finish_reason: "stop" }],
        usage,
      }),
    );

export const openSse = (response: ServerResponse): void =>
  response.writeHead(200, { "content-type": "text/event-stream" }).flushHeaders();

/** A chunk of a stream that is known as `id`. */
export const delta = (content: string | undefined, id = "chat-1", finish: string | null = null): string =>
  `data: ${JSON.stringify({
    id,
    object: "chat.completion.chunk",
    created: 1,
    choices: [{ index: 0, delta: content === undefined ? { role: "assistant" } : { content }, finish_reason: finish }],
  })}\n\n`;

export const usageChunk = (prompt: number, completion: number, id = "chat-1"): string =>
  `data: ${JSON.stringify({ id, object: "chat.completion.chunk", created: 1, choices: [], usage: wireUsage(prompt, completion) })}\n\n`;

export const DONE = "data: [DONE]\n\n";

/** A whole stream of these texts. */
export const answerStream =
  (texts: readonly string[], id = "chat-1", [prompt, completion] = [10, 5]): Play =>
  ({ response }) => {
    openSse(response);
    for (const text of [undefined, ...texts]) response.write(delta(text, id));
    response.end(delta("", id, "stop") + usageChunk(prompt, completion, id) + DONE);
  };

/** A stream of these texts whose connection then breaks. */
export const breakStream =
  (texts: readonly string[], id = "chat-1"): Play =>
  ({ response }) => {
    openSse(response);
    for (const text of texts.slice(0, -1)) response.write(delta(text, id));
    response.write(delta(texts.at(-1), id), () => setImmediate(() => response.destroy()));
  };

/** One after the other; the last one again and again. */
export const inTurn =
  (...plays: readonly Play[]): Play =>
  (exchange) =>
    plays[Math.min(exchange.turn, plays.length) - 1]!(exchange);

/** Never answers. */
export const hang: Play = () => undefined;
