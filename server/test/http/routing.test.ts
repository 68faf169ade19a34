import assert from "node:assert/strict";
import { after, test } from "node:test";
import { startGateway } from "../harness/gateway-under-test.ts";
import { policyOf } from "../completion/routing-fixture.ts";

interface LogLine {
  readonly msg: string;
  readonly route?: string;
  readonly request_id?: string;
}

const lines: LogLine[] = [];
const brikk = await startGateway({
  log: { write: (line) => void lines.push(JSON.parse(line) as LogLine) },
  policies: [
    policyOf({ name: "support", models: ["mistral/mistral-large-latest", "gpt-4o"] }),
    policyOf({
      name: "swap",
      models: ["mistral-small-latest", "gpt-4o-mini"],
      strategy: "lowest_cost",
      appliesTo: ["gpt-4-turbo", "gpt-retired", "mistral-medium-latest", "openai/gpt-4o-mini"],
    }),
    policyOf({ name: "quick", models: ["gpt-4o", "gpt-4o-mini"], strategy: "lowest_latency" }),
    policyOf({ name: "shares", models: ["gpt-4o", "gpt-4o-mini"], strategy: "weighted" }),
    policyOf({
      name: "thrifty",
      models: ["openai/gpt-4o", "nowhere/big-model"],
      maxInputPrice: "0.5",
    }),
  ],
});
after(() => brikk.close());
const key = await brikk.createKey();

const post = (path: string, body: object): Promise<Response> =>
  fetch(`${brikk.url}${path}`, {
    method: "POST",
    headers: { "content-type": "application/json", authorization: `Bearer ${key.secret}` },
    body: JSON.stringify(body),
  });
const QUESTION = { messages: [{ role: "user", content: "Why is the sky blue?" }] };
const PICTURE = {
  messages: [
    {
      role: "user",
      content: [
        { type: "text", text: "What is this?" },
        { type: "image_url", image_url: { url: "data:image/png;base64,iVBORw0KGgo=" } },
      ],
    },
  ],
};
const lastRow = async () => (await brikk.events()).at(-1)!;
const requests = (): number => {
  const { openai, mistral } = brikk.simulator.served.totals();
  return openai.requests + mistral.requests;
};

interface Told {
  readonly provider: string;
  readonly model: string;
  readonly reason: string;
}
interface Refusal {
  readonly error: { readonly code: string; readonly message: string; readonly details: Record<string, unknown> };
}

for (const stream of [false, true]) {
  test(`header, ledger row and log name the same reason, ${stream ? "streamed" : "plain"}`, async () => {
    const answer = await post("/v1/chat/completions", { ...QUESTION, model: "brikk/support", stream });
    await answer.text();
    assert.equal(answer.status, 200);
    const reason = answer.headers.get("x-brikk-route");
    assert.equal(reason, "policy support: in its order");
    assert.equal((await lastRow())["route_reason"], reason);
    const line = lines.find(({ request_id: id }) => id === answer.headers.get("x-request-id"));
    assert.equal(line?.route, reason);
  });
}

const asked: readonly (readonly [string, string, string, RegExp])[] = [
  ["a model", "gpt-4o", "gpt-4o", /^model named by the caller$/],
  ["brikk/auto", "brikk/auto", "gpt-4o-mini", /^first configured provider$/],
  ["brikk/cheap", "brikk/cheap", "gpt-4o-mini", /^cheapest for this request$/],
  ["brikk/quality", "brikk/quality", "gpt-4o-mini", /^best quality tier$/],
  ["brikk/balanced", "brikk/balanced", "gpt-4o-mini", /^balanced over price/],
  ["a policy in order", "brikk/support", "mistral-large-latest", /^policy support: in its order$/],
  ["a policy by cost", "brikk/swap", "mistral-small-latest", /^policy swap: lowest cost for this request$/],
  ["a policy by latency", "brikk/quick", "gpt-4o", /^policy quick: shortest time to the first token$/],
];
for (const [what, model, served, reason] of asked) {
  test(`${what} is served by who the reason says: ${served}`, async () => {
    const answer = await post("/v1/chat/completions", { ...QUESTION, model });
    const body = (await answer.json()) as { model: string };
    assert.equal(answer.headers.get("x-brikk-model"), served);
    assert.equal(body.model, served);
    assert.match(answer.headers.get("x-brikk-route") ?? "", reason);
    assert.equal(answer.headers.get("x-brikk-fallback"), "false");
  });
}

test("a weighted policy is served by one of its models", async () => {
  const answer = await post("/v1/chat/completions", { ...QUESTION, model: "brikk/shares" });
  await answer.text();
  assert.ok(["gpt-4o", "gpt-4o-mini"].includes(answer.headers.get("x-brikk-model") ?? ""));
  assert.equal(answer.headers.get("x-brikk-route"), "policy shares: drawn by weight");
});

test("a picture for a text model and one that sees goes to the one that sees, in one attempt that is no fallback", async () => {
  const before = requests();
  const answer = await post("/v1/chat/completions", { ...PICTURE, model: "gpt-3.5-turbo", models: ["gpt-4o-mini"] });
  await answer.text();
  assert.equal(answer.status, 200);
  assert.equal(answer.headers.get("x-brikk-model"), "gpt-4o-mini");
  assert.equal(answer.headers.get("x-brikk-fallback"), "false");
  assert.equal(
    answer.headers.get("x-brikk-route"),
    "models named by the caller, in order; without openai/gpt-3.5-turbo: takes no pictures",
  );
  assert.equal(requests() - before, 1);
  const row = await lastRow();
  assert.deepEqual([row["model"], Number(row["attempts"]), Number(row["fallback"])], ["gpt-4o-mini", 1, 0]);
});

test("a picture for a single model that takes none is its provider's to refuse or not: nobody else is asked", async () => {
  const before = requests();
  const answer = await post("/v1/chat/completions", { ...PICTURE, model: "gpt-3.5-turbo" });
  await answer.text();
  assert.equal(answer.headers.get("x-brikk-model"), "gpt-3.5-turbo");
  assert.equal(requests() - before, 1);
});

for (const model of ["gpt-4-turbo", "gpt-retired", "openai/gpt-4o-mini"]) {
  test(`a policy that applies to ${model} serves in its place, and the answer is truthful about it`, async () => {
    const answer = await post("/v1/chat/completions", { ...QUESTION, model });
    const body = (await answer.json()) as { model: string };
    assert.equal(answer.status, 200);
    assert.equal(answer.headers.get("x-brikk-provider"), "mistral");
    assert.equal(answer.headers.get("x-brikk-model"), "mistral-small-latest");
    assert.equal(body.model, "mistral-small-latest");
    assert.equal(answer.headers.get("x-brikk-fallback"), "false");
    assert.equal(answer.headers.get("x-brikk-route"), `policy swap in place of ${model}: lowest cost for this request`);
    const row = await lastRow();
    assert.deepEqual(
      [row["requested_model"], row["provider"], row["model"], Number(row["fallback"])],
      [model, "mistral", "mistral-small-latest", 0],
    );
  });
}

test("embeddings of a model that chats are refused here: its vendor's 403 would count against it with everybody", async () => {
  const before = requests();
  for (const model of ["gpt-4o-mini", "openai/gpt-4o-mini", "brikk/auto", "brikk/support"]) {
    const answer = await post("/v1/embeddings", { model, input: "The quick brown fox" });
    assert.equal(answer.status, 400, model);
    const { error } = (await answer.json()) as Refusal;
    assert.match(error.message, /^(openai|mistral)\/[\w-]+ makes no embeddings\.$/);
  }
  assert.equal(requests(), before);
});

test("an agent named by its provider is not swapped by a policy that applies to its model", async () => {
  const answer = await post("/agents/openai/chat", { message: "Why is the sky blue?" });
  const body = (await answer.json()) as { provider: string; model: string };
  assert.deepEqual([body.provider, body.model], ["openai", "gpt-4o-mini"]);
  assert.equal(answer.headers.get("x-brikk-route"), "provider named by the caller");
});

test("a policy that nobody is left in refuses with every reason, asks nobody, and leaves a row", async () => {
  const before = requests();
  const answer = await post("/v1/chat/completions", { ...QUESTION, model: "brikk/thrifty" });
  const { error } = (await answer.json()) as Refusal;
  assert.deepEqual([answer.status, error.code], [503, "no_provider_available"]);
  assert.match(error.message, /openai\/gpt-4o \(input at 2\.5 USD per million tokens, above the policy's 0\.5\)/);
  assert.match(error.message, /nowhere\/big-model \(no configured provider offers it\)/);
  assert.equal(error.details["policy"], "thrifty");
  assert.equal(requests(), before);
  assert.deepEqual(
    [(await lastRow())["outcome"], (await lastRow())["error_code"]],
    ["refused", "no_provider_available"],
  );
});

test("/agents/route takes a policy's name, and its route shows reasons and who is out", async () => {
  const answer = await post("/agents/route/chat", { message: "Hello there", language: "en", policy: "support" });
  const { route, model } = (await answer.json()) as {
    model: string;
    route: { policy: string; reason: string; candidates: Told[]; excluded: Told[] };
  };
  assert.equal(model, "mistral-large-latest");
  assert.equal(route.policy, "support");
  assert.deepEqual(
    route.candidates.map(({ model: name, reason }) => [name, reason]),
    [
      ["mistral-large-latest", "place 1 of the policy"],
      ["gpt-4o", "place 2 of the policy"],
    ],
  );
  assert.deepEqual(route.excluded, []);
  const unknown = await post("/agents/route/chat", { message: "Hello there", policy: "nobody" });
  const { error } = (await unknown.json()) as Refusal;
  assert.deepEqual([unknown.status, error.code], [400, "invalid_request"]);
  assert.match(error.message, /there are openai, mistral, support, swap, quick, shares, thrifty\./);
});

interface Explained {
  readonly passes: boolean;
  readonly refusal: { readonly code: string; readonly details: { readonly excluded?: Told[] } } | null;
  readonly route: {
    readonly reason: string;
    readonly policy: string | null;
    readonly candidates: Told[];
    readonly excluded: Told[];
  } | null;
}
const explain = async (body: object): Promise<Explained> =>
  (await (await post("/v1/explain", body)).json()) as Explained;

test("an explanation shows each candidate's reason, who is out and why, and the policy", async () => {
  const fitted = await explain({ ...PICTURE, model: "gpt-3.5-turbo", models: ["gpt-4o-mini"] });
  assert.deepEqual(
    fitted.route?.candidates.map(({ model, reason }) => [model, reason]),
    [["gpt-4o-mini", "place 2 of the caller's list"]],
  );
  assert.deepEqual(fitted.route?.excluded, [
    { provider: "openai", model: "gpt-3.5-turbo", reason: "takes no pictures" },
  ]);
  assert.equal(fitted.route?.policy, null);
  const policy = await explain({ ...QUESTION, model: "mistral-medium-latest" });
  assert.equal(policy.route?.policy, "swap");
  assert.match(policy.route?.candidates[0]?.reason ?? "", /^about 0\.\d+ USD$/);
  const none = await explain({ ...QUESTION, model: "brikk/thrifty" });
  assert.deepEqual([none.passes, none.refusal?.code, none.route], [false, "no_provider_available", null]);
  assert.equal(none.refusal?.details.excluded?.length, 2);
});
