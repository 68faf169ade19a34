import assert from "node:assert/strict";
import { after, test } from "node:test";
import { nanoUsd } from "../../src/lib/money.ts";
import { startGateway } from "../harness/gateway-under-test.ts";
import { skipWithoutRedis, startRedis } from "../harness/redis-server.ts";

const brikk = await startGateway();
after(() => brikk.close());

interface Explained {
  readonly passes: boolean;
  readonly refusal: { readonly status: number; readonly code: string; readonly message: string } | null;
  readonly max_tokens_clamped: number | null;
  readonly key: { readonly key_id: string; readonly anonymous: boolean };
  readonly worst_case_usd: number | null;
  readonly route: {
    readonly candidates: readonly { readonly model: string; readonly worst_case_usd: number }[];
  } | null;
  readonly budgets: readonly { readonly window: string; readonly remaining_usd: number | null }[];
  readonly rate_limits: readonly { readonly rule: string; readonly limit: number; readonly remaining: number }[];
}

async function post(path: string, secret: string, body: object, gateway = brikk): Promise<Response> {
  return fetch(`${gateway.url}${path}`, {
    method: "POST",
    headers: { "content-type": "application/json", authorization: `Bearer ${secret}` },
    body: JSON.stringify(body),
  });
}
async function explain(secret: string, body: object): Promise<Explained> {
  const answer = await post("/v1/explain", secret, body);
  assert.equal(answer.status, 200);
  return (await answer.json()) as Explained;
}
const chat = (more: object = {}) => ({
  model: "gpt-4o-mini",
  messages: [{ role: "user", content: "Why is the sky blue?" }],
  ...more,
});

test("an explanation calls nobody, charges nothing and writes nothing down", async () => {
  const { id, secret } = await brikk.createKey();
  const before = [brikk.simulator.served.list().length, (await brikk.events()).length];
  const explained = await explain(secret, chat());
  assert.equal(explained.passes, true);
  assert.equal(explained.key.key_id, id);
  assert.deepEqual([brikk.simulator.served.list().length, (await brikk.events()).length], before);
  assert.deepEqual(await brikk.all(`select * from budget_windows where scope_id = '${id}'`), []);
});

test("the worst case is the dearest candidate's, and each candidate has its own", async () => {
  const { secret } = await brikk.createKey();
  const { route, worst_case_usd: worst } = await explain(secret, chat({ models: ["gpt-4o"], max_tokens: 100 }));
  const costs = route!.candidates.map(({ worst_case_usd: cost }) => cost);
  assert.deepEqual(
    route!.candidates.map(({ model }) => model),
    ["gpt-4o-mini", "gpt-4o"],
  );
  assert.ok(costs[1]! > costs[0]!);
  assert.equal(worst, costs[1]);
});

test("what an explanation says is what then happens: passed, shortened, or refused with the same words", async () => {
  for (const hardCap of [100_000_000n, 1_000_000n, 100_000n, 50_000n, 25_000n, 1n]) {
    const { secret } = await brikk.createKey({ softCap: nanoUsd(0n), hardCap: nanoUsd(hardCap) });
    const body = chat({ max_completion_tokens: 2_000 });
    const explained = await explain(secret, body);
    const answer = await post("/v1/chat/completions", secret, body);
    const clamped = answer.headers.get("x-brikk-max-tokens-clamped");
    assert.equal(answer.status, explained.refusal?.status ?? 200);
    assert.equal(clamped, explained.max_tokens_clamped === null ? null : String(explained.max_tokens_clamped));
    if (!explained.refusal) continue;
    const { error } = (await answer.json()) as { error: { code: string; message: string } };
    assert.deepEqual([error.code, error.message], [explained.refusal.code, explained.refusal.message]);
  }
});

test("a request that nobody can serve is explained too, with what is left of the budgets", async () => {
  const { secret } = await brikk.createKey({ softCap: nanoUsd(0n), hardCap: nanoUsd(2_000_000_000n) });
  const explained = await explain(secret, chat({ model: "no-such-model" }));
  assert.deepEqual([explained.passes, explained.refusal!.code, explained.route], [false, "model_not_found", null]);
  assert.equal(explained.budgets[0]!.remaining_usd, 2);
});

test("embeddings are explained as well; what is neither is a bad request", async () => {
  const { secret } = await brikk.createKey();
  const explained = await explain(secret, { model: "text-embedding-3-small", input: "The quick brown fox" });
  assert.ok(explained.passes && explained.worst_case_usd! > 0);
  assert.equal((await post("/v1/explain", secret, { model: "gpt-4o-mini" })).status, 400);
});

test("a body that cannot be explained is refused by its faulty part, as where it would be served", async () => {
  const { secret } = await brikk.createKey();
  for (const body of [
    {},
    { model: "gpt-4o-mini" },
    chat({ messages: [{ content: "x" }] }),
    chat({ messages: [{ role: "user", content: [{ text: "x" }] }] }),
    chat({ messages: [{ role: "user", content: 5 }] }),
    chat({ max_tokens: 0 }),
  ]) {
    const [explained, served] = await Promise.all(
      ["/v1/explain", "/v1/chat/completions"].map(async (path) => {
        const answer = await post(path, secret, body);
        const { error } = (await answer.json()) as { error: { message: string; param: string; details: unknown } };
        return [answer.status, error.param, error.message, error.details];
      }),
    );
    assert.deepEqual(explained, served);
    assert.equal(explained![0], 400);
    assert.ok(explained![1], "the part is named");
  }
});

test("the limits are told, and a request that would come too often is said to be refused", async () => {
  const { secret } = await brikk.createKey({ rateLimitPerMin: 2, tokensPerMin: 1_000_000 });
  const limits = async () => {
    const answer = await post("/v1/explain", secret, chat());
    const explained = (await answer.json()) as Explained;
    return [
      explained.passes,
      explained.refusal?.code,
      explained.rate_limits.map(({ rule, remaining }) => [rule, remaining]),
    ];
  };
  assert.deepEqual(await limits(), [
    true,
    undefined,
    [
      ["key-rpm", 1],
      ["key-tpm", 1_000_000],
    ],
  ]);
  // This one was the last.
  assert.deepEqual(await limits(), [
    false,
    "rate_limit_exceeded",
    [
      ["key-rpm", 0],
      ["key-tpm", 1_000_000],
    ],
  ]);
});

for (const place of ["memory", "redis"] as const) {
  test(
    `an explanation does not stand in the way of the request that it explains (${place})`,
    { skip: place === "redis" && skipWithoutRedis },
    async (t) => {
      const redis = place === "redis" ? await startRedis() : undefined;
      if (redis) t.after(() => redis.stop());
      const gateway = redis ? await startGateway({ environment: { REDIS_URL: redis.url } }) : brikk;
      if (redis) t.after(() => gateway.close());
      assert.equal(gateway.gateway.rateLimiter.place, place);
      const { secret } = await gateway.createKey({ maxConcurrentRequests: 1 });
      for (let n = 0; n < 3; n += 1) {
        const answer = await post("/v1/explain", secret, chat(), gateway);
        const { passes, rate_limits: limits } = (await answer.json()) as Explained;
        assert.equal(passes, true);
        assert.deepEqual(limits[1], { rule: "key-concurrency", limit: 1, remaining: 1, wait_ms: 0 });
      }
    },
  );
}
