import { attempt } from "../server/src/completion/attempt.ts";
import { callCandidates } from "../server/src/completion/call-candidates.ts";
import { CallHistory } from "../server/src/completion/call-history.ts";
import { readCompletionRequest } from "../server/src/completion/completion-request.ts";
import type { Candidate } from "../server/src/completion/model-router.ts";
import type { CallServices } from "../server/src/completion/run-completion.ts";
import { buildModelCatalogue } from "../server/src/ledger/model-catalogue.ts";
import type { Reservation } from "../server/src/ledger/ledger.ts";
import { createTokenCounter } from "../server/src/ledger/token-count.ts";
import { systemClock } from "../server/src/lib/clock.ts";
import { parseJsonDocument } from "../server/src/lib/json-document.ts";
import { ZERO_USD } from "../server/src/lib/money.ts";
import { createOpenAiCompatible } from "../server/src/providers/openai-compatible/openai-compatible.ts";
import type { ConnectedProvider } from "../server/src/providers/provider-set.ts";
import { callServices } from "../server/test/completion/call-services.ts";
import { median } from "./measurements.ts";

/**
 * What the path to a provider costs beyond the attempt itself when nothing goes wrong: places and queue, breaker, cool-down, retry
 * budget, latency windows, the history of attempts, the request's deadline. The provider is a function that answers at once, so that
 * nothing else is in the difference. us of CPU per request.
 */
export interface ResilienceCost {
  readonly attemptUs: number;
  readonly callUs: number;
}

const ROUNDS = 9;
const REQUESTS = 20_000;

/** As a vendor sends them: what is left of its rate limits is read from them. */
const HEADERS = {
  date: "Wed, 25 Nov 2026 12:00:00 GMT",
  "content-type": "application/json",
  "x-request-id": "req_1",
  "x-ratelimit-limit-requests": "10000",
  "x-ratelimit-limit-tokens": "30000000",
  "x-ratelimit-remaining-requests": "9999",
  "x-ratelimit-remaining-tokens": "29999989",
  "x-ratelimit-reset-requests": "6ms",
  "x-ratelimit-reset-tokens": "1ms",
};

const ANSWER = Buffer.from(
  '{"choices":[{"index":0,"message":{"role":"assistant","content":"Fine."},"finish_reason":"stop"}],"usage":{"prompt_tokens":9,"completion_tokens":2,"total_tokens":11}}',
);

export async function measureResilience(): Promise<ResilienceCost> {
  const model = buildModelCatalogue({ overrides: [], now: () => Date.now() }).find("openai", "gpt-4o-mini")!;
  const timeouts = {
    connectMs: 5_000,
    firstTokenMs: 10_000,
    thinkingFirstTokenMs: 120_000,
    idleMs: 15_000,
    attemptMs: 30_000,
  };
  const connected: ConnectedProvider = {
    provider: createOpenAiCompatible({
      name: "openai",
      baseUrl: "http://127.0.0.1:1/v1",
      apiKey: "none",
      defaultModel: "gpt-4o-mini",
      simulated: true,
    }),
    transport: {
      send: async () => ({
        status: 200,
        headers: HEADERS,
        body: (async function* () {
          yield ANSWER;
        })(),
      }),
      drain: () => Promise.resolve(),
      close: () => Promise.resolve(),
    },
    maxInFlight: 1_000,
    maxQueued: 200,
    timeoutsOf: () => timeouts,
  };
  const candidate: Candidate = { connected, model };
  const request = readCompletionRequest(
    "chat",
    parseJsonDocument(Buffer.from('{"model":"gpt-4o-mini","messages":[{"role":"user","content":"Hello"}]}')),
  );
  const tokenCounter = createTokenCounter();
  const services: CallServices = {
    ...callServices(systemClock),
    clock: systemClock,
    tokenCounter,
  };
  const reservation: Reservation = {
    worstCase: ZERO_USD,
    maxOutputTokens: undefined,
    again: () => Promise.resolve(true),
    settle: () => Promise.reject(new Error("nothing is settled here")),
  };

  const attemptOnly = async (signal: AbortSignal): Promise<void> => {
    await attempt(candidate, { ...request, maxOutputTokens: undefined }, signal, () => undefined);
  };
  const wholeCall = async (signal: AbortSignal): Promise<void> => {
    const deadline = setTimeout(() => undefined, 600_000);
    const begun = await callCandidates(services, {
      candidates: [candidate],
      requestFor: () => request,
      reservation,
      history: new CallHistory(4),
      asked: new Map(),
      askedBefore: [],
      maxOutputTokensFor: () => undefined,
      hedge: undefined,
      endsAtMs: undefined,
      signal,
    });
    begun.ended({ kind: "well" });
    clearTimeout(deadline);
  };

  const costs: Record<"attempt" | "call", number[]> = { attempt: [], call: [] };
  for (let round = 0; round <= ROUNDS; round += 1) {
    for (const [name, run] of [
      ["attempt", attemptOnly],
      ["call", wholeCall],
    ] as const) {
      const before = process.cpuUsage();
      for (let turn = 0; turn < REQUESTS; turn += 1) await run(new AbortController().signal);
      const used = process.cpuUsage(before);
      // The first round warms up.
      if (round > 0) costs[name].push((used.user + used.system) / REQUESTS);
    }
  }
  await tokenCounter.close();
  return { attemptUs: median(costs.attempt), callUs: median(costs.call) };
}
