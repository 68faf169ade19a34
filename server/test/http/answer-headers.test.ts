import assert from "node:assert/strict";
import { after, test } from "node:test";
import { nanoUsd } from "../../src/lib/money.ts";
import { startGateway } from "../harness/gateway-under-test.ts";

const brikk = await startGateway();
after(() => brikk.close());

const CHAT = { model: "gpt-4o-mini", messages: [{ role: "user", content: "Hello there" }] };

function chat(secret: string, headers: Record<string, string> = {}, body: object = CHAT): Promise<Response> {
  return fetch(`${brikk.url}/v1/chat/completions`, {
    method: "POST",
    headers: { "content-type": "application/json", "x-brikk-api-key": secret, ...headers },
    body: JSON.stringify(body),
  });
}

test("an answer names who served, what it cost and where the key stands, in the ledger's own numbers", async () => {
  const { secret } = await brikk.createKey({ softCap: nanoUsd(2_000_000_000n), hardCap: nanoUsd(3_500_000_000n) });
  const response = await chat(secret);
  await response.arrayBuffer();
  const row = (await brikk.events()).at(-1);
  const cost = Number(row?.["cost_nano_usd"]);
  assert.ok(cost > 0);
  const header = (name: string): string | null => response.headers.get(name);
  assert.equal(header("x-brikk-provider"), "openai");
  assert.equal(header("x-brikk-model"), "gpt-4o-mini");
  assert.equal(header("x-brikk-fallback"), "false");
  assert.equal(header("x-brikk-simulated"), "true");
  assert.equal(Number(row?.["simulated"]), 1);
  assert.match(header("x-brikk-cost-usd") ?? "", /^0\.\d{1,9}$/);
  assert.equal(Math.round(Number(header("x-brikk-cost-usd")) * 1e9), cost);
  assert.equal(header("x-brikk-usage-today"), header("x-brikk-cost-usd"));
  assert.equal(header("x-brikk-soft-cap"), "2");
  assert.equal(header("x-brikk-hard-cap"), "3.5");
  assert.equal(header("x-brikk-soft-cap-exceeded"), "false");
  assert.equal(header("x-brikk-hard-cap-exceeded"), "false");
  assert.match(header("server-timing") ?? "", /^provider;dur=\d+\.\d, total;dur=\d+\.\d$/);
  assert.equal(header("content-type"), "application/json");
  assert.equal(header("x-content-type-options"), "nosniff");
});

test("a stream has the same headers before its first byte, but for the cost, which nobody knows yet", async () => {
  const { secret } = await brikk.createKey();
  const response = await chat(secret, {}, { ...CHAT, stream: true });
  const text = await response.text();
  assert.match(text, /data: \[DONE\]\n\n$/);
  assert.equal(response.headers.get("content-type"), "text/event-stream; charset=utf-8");
  assert.equal(response.headers.get("cache-control"), "no-store, no-transform");
  assert.equal(response.headers.get("x-brikk-provider"), "openai");
  assert.equal(response.headers.get("x-brikk-usage-today"), "0");
  assert.equal(response.headers.get("x-brikk-cost-usd"), null);
  assert.equal(response.headers.get("x-ratelimit-limit"), "100000");
  assert.ok(response.headers.get("x-request-id"));
});

test("the soft cap is said when it is passed and refuses nothing; the sum of the day grows by each cost", async () => {
  const { secret } = await brikk.createKey({ softCap: nanoUsd(1n), hardCap: nanoUsd(5_000_000_000n) });
  const first = await chat(secret);
  await first.arrayBuffer();
  const second = await chat(secret);
  await second.arrayBuffer();
  assert.equal(second.status, 200);
  assert.equal(first.headers.get("x-brikk-soft-cap-exceeded"), "true");
  const nano = (response: Response, name: string): number => Math.round(Number(response.headers.get(name)) * 1e9);
  assert.equal(nano(second, "x-brikk-usage-today"), nano(first, "x-brikk-cost-usd") + nano(second, "x-brikk-cost-usd"));
});

test("a request that does not fit under the hard cap is refused with where the key stands, plain or streamed", async () => {
  const { secret } = await brikk.createKey({ softCap: nanoUsd(1n), hardCap: nanoUsd(40_000n) });
  const first = await chat(secret);
  await first.arrayBuffer();
  assert.equal(first.status, 200);
  for (const stream of [false, true]) {
    const refused = await chat(secret, {}, { ...CHAT, stream });
    await refused.arrayBuffer();
    assert.equal(refused.status, 402);
    assert.equal(refused.headers.get("x-should-retry"), "false");
    assert.equal(refused.headers.get("x-brikk-usage-today"), first.headers.get("x-brikk-cost-usd"));
    assert.equal(refused.headers.get("x-brikk-hard-cap"), "0.00004");
    assert.equal(refused.headers.get("x-brikk-soft-cap-exceeded"), "true");
    assert.equal(refused.headers.get("x-brikk-hard-cap-exceeded"), "true");
  }
});

test("rate-limit headers, customary and IETF's, count down and agree with each other", async () => {
  const { secret } = await brikk.createKey({ rateLimitPerMin: 3 });
  for (const remaining of ["2", "1", "0"]) {
    const response = await chat(secret);
    await response.arrayBuffer();
    assert.equal(response.status, 200);
    assert.equal(response.headers.get("x-ratelimit-limit"), "3");
    assert.equal(response.headers.get("x-ratelimit-remaining"), remaining);
    const reset = response.headers.get("x-ratelimit-reset");
    assert.match(reset ?? "", /^\d+$/);
    assert.equal(response.headers.get("ratelimit"), `"key-rpm";r=${remaining};t=${reset}`);
    assert.equal(response.headers.get("ratelimit-policy"), `"key-rpm";q=3;w=60`);
    assert.equal(response.headers.get("retry-after"), null);
  }
  const refused = await chat(secret);
  const { error } = (await refused.json()) as { error: { code: string; details: Record<string, unknown> } };
  assert.equal(refused.status, 429);
  assert.equal(error.code, "rate_limit_exceeded");
  assert.deepEqual(
    { ...error.details, reset_seconds: 0 },
    { scope: "key", rule: "key-rpm", window: "minute", limit: 3, remaining: 0, reset_seconds: 0 },
  );
  const wait = Number(refused.headers.get("retry-after"));
  assert.ok(wait >= 1 && wait <= 20, "one request every 20 s comes back");
});

test("a sane request id is kept, in the answer, in the error and in the ledger; any other is replaced", async () => {
  const { secret } = await brikk.createKey();
  const kept = await chat(secret, { "x-request-id": "my-request.42:a_b" });
  await kept.arrayBuffer();
  assert.equal(kept.headers.get("x-request-id"), "my-request.42:a_b");
  assert.equal((await brikk.events()).at(-1)?.["request_id"], "my-request.42:a_b");
  const failed = await chat(
    secret,
    { "x-request-id": "my-error" },
    { model: "no-such-model", messages: CHAT.messages },
  );
  assert.equal(((await failed.json()) as { error: { request_id: string } }).error.request_id, "my-error");
  for (const insane of ["", "with space", "x".repeat(129), "a/b", "ünïcode", "<script>", "a;b"]) {
    const response = await chat(secret, { "x-request-id": insane });
    await response.arrayBuffer();
    assert.match(response.headers.get("x-request-id") ?? "", /^req_[0-9A-Za-z]{24}$/, insane);
  }
});

test("a caller's trace goes on with a span of the gateway's own, and the ledger keeps it; a broken one begins anew", async () => {
  const { secret } = await brikk.createKey();
  const traceId = "4bf92f3577b34da6a3ce929d0e0e4736";
  const continued = await chat(secret, { traceparent: `00-${traceId}-00f067aa0ba902b7-01` });
  await continued.arrayBuffer();
  const [version, trace, span, flags] = (continued.headers.get("traceparent") ?? "").split("-");
  assert.deepEqual([version, trace, flags], ["00", traceId, "01"]);
  assert.match(span ?? "", /^[0-9a-f]{16}$/);
  assert.notEqual(span, "00f067aa0ba902b7");
  assert.equal((await brikk.events()).at(-1)?.["trace_id"], traceId);
  for (const broken of [
    "00-zz-00-01",
    `00-${"0".repeat(32)}-00f067aa0ba902b7-01`,
    `ff-${traceId}-00f067aa0ba902b7-01`,
  ]) {
    const response = await chat(secret, { traceparent: broken });
    await response.arrayBuffer();
    assert.match(response.headers.get("traceparent") ?? "", /^00-[0-9a-f]{32}-[0-9a-f]{16}-00$/);
    assert.ok(!response.headers.get("traceparent")?.includes(traceId));
  }
});

test("the body of a plain answer is the provider's, byte for byte", async () => {
  const { secret } = await brikk.createKey();
  const body = { model: "text-embedding-3-small", input: "bytes" };
  const through = await fetch(`${brikk.url}/v1/embeddings`, {
    method: "POST",
    headers: { "content-type": "application/json", authorization: `Bearer ${secret}` },
    body: JSON.stringify(body),
  });
  const direct = await fetch(`${brikk.simulator.openaiBaseUrl}/embeddings`, {
    method: "POST",
    headers: { "content-type": "application/json", authorization: "Bearer any" },
    body: JSON.stringify(body),
  });
  assert.deepEqual(Buffer.from(await through.arrayBuffer()), Buffer.from(await direct.arrayBuffer()));
});

test("a provider's own headers and connection details do not leak to the caller", async () => {
  const { secret } = await brikk.createKey();
  const response = await chat(secret);
  await response.arrayBuffer();
  for (const name of ["openai-organization", "openai-version", "openai-processing-ms"])
    assert.equal(response.headers.get(name), null, name);
  assert.equal(response.headers.get("x-ratelimit-limit-requests"), "100000", "the gateway's own, not the provider's");
});
