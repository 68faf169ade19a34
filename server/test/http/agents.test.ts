import assert from "node:assert/strict";
import { after, beforeEach, test } from "node:test";
import { startGateway } from "../harness/gateway-under-test.ts";

const brikk = await startGateway();
// What one test broke is not to be kept away from in the next.
beforeEach(() => void brikk.gateway.health.reset());
after(() => brikk.close());
const key = await brikk.createKey();

interface AgentAnswer {
  readonly provider: string;
  readonly model: string;
  readonly message: string;
  readonly usage: { readonly prompt_tokens: number; readonly completion_tokens: number; readonly total_tokens: number };
  readonly cost_usd: number;
  readonly request_id: string;
  readonly latency_ms: number;
  readonly fallback: boolean;
  readonly route: {
    readonly reason: string;
    readonly language: string | null;
    readonly policy: string | null;
    readonly candidates: readonly { provider: string; model: string; reason: string }[];
    readonly excluded: readonly { provider: string; model: string; reason: string }[];
  };
}

interface Refusal {
  readonly error: { readonly code: string; readonly message: string; readonly param: string | null };
}

const post = (agent: string, body: object): Promise<Response> =>
  fetch(`${brikk.url}/agents/${agent}/chat`, {
    method: "POST",
    headers: { "content-type": "application/json", authorization: `Bearer ${key.secret}` },
    body: JSON.stringify(body),
  });

const ask = async (agent: string, body: object): Promise<AgentAnswer> => {
  const response = await post(agent, body);
  const text = await response.text();
  assert.equal(response.status, 200, text);
  return JSON.parse(text) as AgentAnswer;
};

const refusal = async (status: number, agent: string, body: object): Promise<Refusal["error"]> => {
  const response = await post(agent, body);
  assert.equal(response.status, status);
  return ((await response.json()) as Refusal).error;
};

const lastRow = async () => (await brikk.events()).at(-1)!;

for (const [agent, model] of [
  ["openai", "gpt-4o-mini"],
  ["mistral", "mistral-small-latest"],
] as const) {
  test(`/agents/${agent}/chat answers in exactly its shape, with the ledger's cost and usage`, async () => {
    const answer = await ask(agent, { message: "Why is the sky blue?" });
    assert.deepEqual(Object.keys(answer).sort(), [
      "cost_usd",
      "fallback",
      "latency_ms",
      "message",
      "model",
      "provider",
      "request_id",
      "usage",
    ]);
    const row = await lastRow();
    assert.equal(answer.provider, agent);
    assert.equal(answer.model, model);
    assert.ok(answer.message.length > 20);
    assert.equal(answer.fallback, false);
    assert.equal(answer.request_id, row["request_id"]);
    assert.equal(Math.round(answer.cost_usd * 1e9), Number(row["cost_nano_usd"]));
    assert.ok(answer.cost_usd > 0 && Number.isInteger(answer.latency_ms));
    assert.equal(answer.usage.completion_tokens, Number(row["output_tokens"]));
    assert.equal(answer.usage.prompt_tokens, Number(row["fresh_input_tokens"]) + Number(row["cached_input_tokens"]));
    assert.equal(answer.usage.total_tokens, answer.usage.prompt_tokens + answer.usage.completion_tokens);
    const usage = brikk.simulator.served.list(1)[0]!.usage;
    assert.deepEqual(
      [answer.usage.prompt_tokens, answer.usage.completion_tokens],
      [usage.promptTokens, usage.completionTokens],
    );
  });
}

test("a language asks for the answer in it, system and meta are taken, and meta does not reach the model", async () => {
  const plain = await ask("openai", { message: "Tell me of the sea", language: "es" });
  const noted = await ask("openai", {
    message: "Tell me of the sea",
    language: "es",
    meta: { ticket: "T-1", urgent: true },
  });
  assert.equal(noted.usage.prompt_tokens, plain.usage.prompt_tokens);
  const instructed = await ask("openai", {
    message: "Tell me of the sea",
    language: "es",
    system: "You are a sailor of many years.",
  });
  assert.ok(instructed.usage.prompt_tokens > plain.usage.prompt_tokens);
});

const SPANISH = "¿Por qué el cielo es azul durante el día?";
const routes = [
  ["a given es goes to mistral", { message: "Hello", language: "es" }, "mistral", "es"],
  ["a regional tag counts as its language", { message: "Hello", language: "es-MX" }, "mistral", "es-MX"],
  ["a given en goes to openai", { message: SPANISH, language: "en" }, "openai", "en"],
  ["a given ja goes to openai", { message: SPANISH, language: "ja" }, "openai", "ja"],
  ["a given ar goes to openai", { message: SPANISH, language: "ar" }, "openai", "ar"],
  ["Spanish is detected", { message: SPANISH }, "mistral", "es"],
  ["English is detected", { message: "Why is the sky blue on a clear day, and red in the evening?" }, "openai", "en"],
  ["Japanese is detected", { message: "空はなぜ青いのですか？" }, "openai", "ja"],
  ["Arabic is detected", { message: "لماذا السماء زرقاء في النهار؟" }, "openai", "ar"],
  ["a tag in capitals counts as its language", { message: "Hello", language: "ES" }, "mistral", "ES"],
] as const;

for (const [name, body, provider, language] of routes) {
  test(`route: ${name}`, async () => {
    const answer = await ask("route", body);
    assert.deepEqual(Object.keys(answer).sort(), [
      "cost_usd",
      "fallback",
      "latency_ms",
      "message",
      "model",
      "provider",
      "request_id",
      "route",
      "usage",
    ]);
    assert.equal(answer.provider, provider);
    assert.equal(answer.route.language, language);
    assert.equal(answer.route.reason, `language ${language.slice(0, 2).toLowerCase()}`);
    assert.deepEqual(answer.route.candidates[0], {
      provider,
      model: answer.model,
      reason: `preferred for language ${language.slice(0, 2).toLowerCase()}`,
    });
    assert.deepEqual([answer.route.policy, answer.route.excluded], [null, []]);
    assert.equal(answer.route.candidates.length, 2, "the other one stands by");
    assert.equal((await lastRow())["route_reason"], answer.route.reason);
  });
}

test("route: a language that no provider is preferred for goes to the first configured, and the reason says so", async () => {
  const answer = await ask("route", { message: "Hei", language: "fi" });
  assert.equal(answer.provider, "openai");
  assert.match(answer.route.reason, /^language fi has no preference/);
});

test("route: cheap goes to the cheaper default model and quality to the better, whatever the language", async () => {
  const dear = await startGateway({ environment: { OPENAI_MODEL: "gpt-4o", MISTRAL_MODEL: "mistral-small-latest" } });
  try {
    for (const [hint, provider] of [
      ["cheap", "mistral"],
      ["quality", "openai"],
    ] as const) {
      for (const language of ["es", "en"]) {
        const response = await fetch(`${dear.url}/agents/route/chat`, {
          method: "POST",
          headers: { "content-type": "application/json" },
          body: JSON.stringify({ message: "Hello", hint, language }),
        });
        const answer = (await response.json()) as AgentAnswer;
        assert.equal(answer.provider, provider, `${hint} ${language}`);
        assert.match(answer.route.reason, hint === "cheap" ? /cheapest/ : /quality/);
      }
    }
  } finally {
    await dear.close();
  }
});

test("route: balanced goes by a mark of its own, which each candidate's reason shows", async () => {
  const { route } = await ask("route", { message: SPANISH, hint: "balanced" });
  assert.match(route.reason, /^balanced over price, quality and first-token time/);
  for (const { reason } of route.candidates)
    assert.match(reason, /^mark \d\.\d\d: about 0\.\d+ USD, tier 1, first token/);
});

test("route: a message too short to tell its language goes to the first configured, and none is claimed", async () => {
  const { route } = await ask("route", { message: "ok" });
  assert.deepEqual([route.language, route.reason], [null, "first configured provider"]);
});

test("route: a policy wins over hint and language; one that is no provider is refused by name", async () => {
  const answer = await ask("route", { message: SPANISH, policy: "openai", hint: "balanced" });
  assert.equal(answer.provider, "openai");
  assert.equal(answer.route.reason, "policy openai");
  const error = await refusal(400, "route", { message: "Hello", policy: "nobody" });
  assert.equal(error.code, "invalid_request");
  assert.equal(error.param, "policy");
});

for (const fault of [
  { kind: "status", status: 503 },
  { kind: "status", status: 429 },
  { kind: "reset" },
  { kind: "cut", afterTokens: 2 },
  { kind: "unusable-body", body: "html" },
  { kind: "quota" },
] as const) {
  test(`route: when the first fails (${Object.values(fault).join(" ")}) the other serves, and answer, header, ledger say so`, async () => {
    brikk.simulator.faults.set({ vendor: "mistral", count: 1, fault });
    const response = await post("route", { message: "Hello", language: "es" });
    const answer = (await response.json()) as AgentAnswer;
    assert.equal(response.status, 200);
    assert.equal(answer.provider, "openai");
    assert.equal(answer.fallback, true);
    assert.equal(response.headers.get("x-brikk-fallback"), "true");
    assert.equal(response.headers.get("x-brikk-provider"), "openai");
    assert.deepEqual(
      answer.route.candidates.map(({ provider }) => provider),
      ["mistral", "openai"],
    );
    const row = await lastRow();
    assert.equal(row["provider"], "openai");
    assert.equal(Number(row["fallback"]), 1);
    assert.ok(Number(row["attempts"]) >= 2);
    assert.equal(row["outcome"], "completed");
  });
}

test("route: when all fail the caller learns of a 502, and the row of a failure that cost nothing", async () => {
  brikk.simulator.faults.set({ vendor: "*", fault: { kind: "status", status: 500 } });
  try {
    const error = await refusal(502, "route", { message: "Hello" });
    assert.equal(error.code, "provider_error");
  } finally {
    brikk.simulator.faults.clear();
  }
  const row = await lastRow();
  assert.equal(row["outcome"], "failed");
  assert.equal(Number(row["cost_nano_usd"]), 0);
});

test("a named agent is never swapped for another when it fails", async () => {
  brikk.simulator.faults.set({ vendor: "mistral", fault: { kind: "status", status: 500 } });
  try {
    const error = await refusal(502, "mistral", { message: "Hello" });
    assert.match(error.message, /^mistral failed/);
  } finally {
    brikk.simulator.faults.clear();
  }
});

test("a mistake of the caller's own is not routed around", async () => {
  brikk.simulator.faults.set({
    vendor: "openai",
    count: 1,
    fault: {
      kind: "status",
      status: 400,
      body: {
        error: { message: "content refused", type: "invalid_request_error", code: "content_filter", param: null },
      },
    },
  });
  const before = brikk.simulator.served.totals().mistral.requests;
  const error = await refusal(400, "route", { message: "Hello", language: "en" });
  assert.equal(error.code, "content_filter");
  assert.equal(error.message, "content refused");
  assert.equal(brikk.simulator.served.totals().mistral.requests, before);
});

test("an unknown agent is 404, and a faulty message 400 that names the part", async () => {
  assert.equal((await refusal(404, "nobody", { message: "Hello" })).code, "not_found");
  for (const [body, param] of [
    [{}, "message"],
    [{ message: "" }, "message"],
    [{ message: 7 }, "message"],
    [{ message: "Hello", language: "not a tag" }, "language"],
    [{ message: "Hello", hint: "fast" }, "hint"],
  ] as const) {
    const error = await refusal(400, "route", body);
    assert.equal(error.code, "invalid_request");
    assert.equal(error.param, param);
  }
  assert.equal((await refusal(400, "openai", { message: "Hello", surprise: 1 })).code, "invalid_request");
});
