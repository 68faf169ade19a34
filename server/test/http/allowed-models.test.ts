import assert from "node:assert/strict";
import { after, test } from "node:test";
import OpenAI from "openai";
import { startGateway } from "../harness/gateway-under-test.ts";
import { policyOf } from "../completion/routing-fixture.ts";

const brikk = await startGateway({
  environment: { PROVIDER_MAX_RETRIES: "0" },
  policies: [
    policyOf({
      name: "race",
      models: ["gpt-4o-mini", "mistral-small-latest"],
      hedge: { afterMs: 1, maxExtraSpend: 1 },
    }),
    policyOf({ name: "tiered", models: ["gpt-4o", "mistral-small-latest", "gpt-4o-mini"] }),
  ],
});
after(() => brikk.close());

const MESSAGES = [{ role: "user" as const, content: "Hello" }];

async function post(path: string, secret: string, body: object, headers: Record<string, string> = {}) {
  const response = await fetch(`${brikk.url}${path}`, {
    method: "POST",
    headers: { "content-type": "application/json", authorization: `Bearer ${secret}`, ...headers },
    body: JSON.stringify(body),
  });
  const text = await response.text();
  return { status: response.status, text, json: () => JSON.parse(text) as Record<string, unknown> };
}

/** The models that providers were asked for by the key, from the ledger. */
const servedTo = async (keyId: string): Promise<unknown[]> =>
  (await brikk.events()).filter((event) => event["key_id"] === keyId).map((event) => event["model"]);

const RULE = { rule: "models", allowed: ["mistral-small-latest", "mistral-embed"] };

test("every way in keeps to the key's models: what is named and not allowed is 403 with the rule, and nobody is asked", async () => {
  const { id, secret } = await brikk.createKey({ allowedModels: RULE.allowed });
  const asked = (): number => brikk.simulator.served.totals().openai.requests;
  const before = asked();
  for (const [path, body] of [
    ["/v1/chat/completions", { model: "gpt-4o-mini", messages: MESSAGES }],
    ["/v1/chat/completions", { model: "openai/gpt-4o-mini", messages: MESSAGES, stream: true }],
    ["/v1/chat/completions", { model: "GPT-4o-Mini", messages: MESSAGES }],
    ["/v1/chat/completions", { model: "mistral-small-latest", models: ["gpt-4o-mini"], messages: MESSAGES }],
    ["/v1/chat/completions", { model: "mistral-large-latest", messages: MESSAGES }],
    ["/v1/embeddings", { model: "text-embedding-3-small", input: "Hello" }],
    ["/agents/openai/chat", { message: "Hello" }],
  ] as const) {
    const { status, json } = await post(path, secret, body);
    const { code, details } = json()["error"] as { code: string; details: object };
    assert.deepEqual([status, code, details], [403, "model_not_allowed", RULE], JSON.stringify(body));
  }
  for (const [path, body] of [
    ["/v1/chat/completions", { model: "mistral-small-latest", messages: MESSAGES }],
    ["/v1/chat/completions", { model: "brikk/auto", messages: MESSAGES }],
    ["/v1/chat/completions", { model: "brikk/cheap", messages: MESSAGES, stream: true }],
    ["/v1/chat/completions", { model: "brikk/quality", messages: MESSAGES }],
    ["/v1/chat/completions", { model: "brikk/race", messages: MESSAGES }],
    ["/v1/chat/completions", { model: "brikk/tiered", messages: MESSAGES }],
    ["/v1/embeddings", { model: "mistral-embed", input: "Hello" }],
    ["/agents/mistral/chat", { message: "Hello" }],
    ["/agents/route/chat", { message: "Hello", policy: "openai" }],
    ["/agents/route/chat", { message: "Hello", policy: "tiered", hint: "quality" }],
  ] as const) {
    const { status, text } = await post(path, secret, body);
    assert.equal(status, 200, `${JSON.stringify(body)}: ${text}`);
  }
  assert.equal(asked(), before, "no provider that the key may not use was asked");
  const models = new Set((await servedTo(id)).filter((model) => model !== null));
  assert.deepEqual(models, new Set(RULE.allowed));
});

test("a fallback, a hedge and a rescue go to nobody that the key may not use", async () => {
  const { secret } = await brikk.createKey({ allowedProviders: ["mistral"] });
  const before = brikk.simulator.served.totals().openai.requests;
  for (const fault of [
    { kind: "status", status: 500 },
    { kind: "cut", afterTokens: 2 },
  ] as const) {
    brikk.simulator.faults.set({ vendor: "mistral", fault });
    for (const model of ["brikk/auto", "brikk/race", "brikk/tiered"])
      await post(
        "/v1/chat/completions",
        secret,
        { model, messages: MESSAGES, stream: true },
        { "x-brikk-rescue": "continue" },
      );
    brikk.simulator.faults.clear();
  }
  assert.equal(brikk.simulator.served.totals().openai.requests, before);
});

test("/v1/explain names who is left out and by which rule, and what would be refused", async () => {
  const { secret } = await brikk.createKey({ allowedProviders: ["mistral"] });
  const passing = (await post("/v1/explain", secret, { model: "brikk/tiered", messages: MESSAGES })).json();
  assert.equal(passing["passes"], true);
  const { candidates, excluded } = passing["route"] as { candidates: { model: string }[]; excluded: object[] };
  assert.deepEqual(
    candidates.map(({ model }) => model),
    ["mistral-small-latest"],
  );
  assert.deepEqual(
    excluded,
    ["gpt-4o", "gpt-4o-mini"].map((model) => ({
      provider: "openai",
      model,
      reason: "is not among the key's providers",
    })),
  );
  const refused = (await post("/v1/explain", secret, { model: "gpt-4o", messages: MESSAGES })).json();
  const { status, code, details } = refused["refusal"] as { status: number; code: string; details: object };
  assert.deepEqual(
    [refused["passes"], status, code, details],
    [false, 403, "model_not_allowed", { rule: "providers", allowed: ["mistral"] }],
  );
});

test("OpenAI's SDK lists what the key may use, and raises its own error for what it may not", async () => {
  const { secret } = await brikk.createKey({ allowedModels: ["gpt-4o-mini", "mistral/mistral-small-latest"] });
  const client = new OpenAI({ apiKey: secret, baseURL: `${brikk.url}/v1` });
  const models: string[] = [];
  for await (const model of client.models.list()) models.push(`${model.owned_by}/${model.id}`);
  assert.deepEqual(models.sort(), ["mistral/mistral-small-latest", "openai/gpt-4o-mini"]);
  await assert.rejects(
    client.chat.completions.create({ model: "gpt-4o", messages: MESSAGES }),
    (error) => error instanceof OpenAI.PermissionDeniedError && error.code === "model_not_allowed",
  );
});
