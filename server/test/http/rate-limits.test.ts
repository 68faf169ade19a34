import assert from "node:assert/strict";
import { once } from "node:events";
import { type IncomingMessage, request as httpRequest } from "node:http";
import { connect } from "node:net";
import { after, test } from "node:test";
import { setTimeout as delay } from "node:timers/promises";
import fc from "fast-check";
import { ANONYMOUS_KEY_ID, type ApiKey } from "../../src/access/api-key.ts";
import type { NewKey } from "../../src/access/key-store.ts";
import { type GatewayUnderTest, startGateway } from "../harness/gateway-under-test.ts";
import { type RedisUnderTest, skipWithoutRedis, startRedis } from "../harness/redis-server.ts";

const brikk = await startGateway({
  environment: { BRIKK_RATE_LIMIT_PER_MIN: "60", BRIKK_ANONYMOUS_RATE_LIMIT_PER_MIN: "3" },
});
after(() => brikk.close());

const CHAT = { model: "gpt-4o-mini", messages: [{ role: "user", content: "Hello there" }] };

const chat = (gateway: GatewayUnderTest, secret: string, body: object = {}): Promise<Response> =>
  fetch(`${gateway.url}/v1/chat/completions`, {
    method: "POST",
    headers: { "content-type": "application/json", authorization: `Bearer ${secret}` },
    body: JSON.stringify({ ...CHAT, ...body }),
  });

interface Caller {
  /** Resolves when the first of the answer's body has come. */
  readonly answered: Promise<void>;
  /** Closes the socket, as a browser tab does. */
  leave(): void;
}

function call(gateway: GatewayUnderTest, secret: string, body: object): Caller {
  const outgoing = httpRequest(`${gateway.url}/v1/chat/completions`, {
    method: "POST",
    agent: false,
    headers: { "content-type": "application/json", authorization: `Bearer ${secret}` },
  }).on("error", () => undefined);
  const answered = new Promise<void>((resolve) =>
    outgoing.on("response", (response) => response.on("error", () => undefined).on("data", () => resolve())),
  );
  outgoing.end(JSON.stringify({ ...CHAT, ...body }));
  return { answered, leave: () => void outgoing.destroy() };
}

interface Refusal {
  readonly code: string;
  readonly message: string;
  readonly details: Readonly<Record<string, unknown>>;
}

async function refusalOf(response: Response): Promise<Refusal> {
  const { error } = (await response.json()) as { error: Refusal };
  assert.equal(response.status, 429);
  assert.equal(error.code, "rate_limit_exceeded");
  return error;
}

/** One moment, said in every way there is. */
function assertWaitsAgree(response: Response, { details }: Refusal): void {
  const seconds = Number(response.headers.get("retry-after"));
  const ms = Number(response.headers.get("retry-after-ms"));
  assert.ok(seconds >= 1);
  assert.equal(Math.ceil(ms / 1_000), seconds);
  assert.equal(details["reset_seconds"], seconds);
  assert.equal(response.headers.get("x-should-retry"), String(ms <= 60_000));
  const { rule } = details as { rule: string };
  if (rule !== "key-concurrency")
    assert.ok(response.headers.get("ratelimit")?.includes(`"${rule}";r=0;t=${seconds}`), rule);
}

const keyOf = (gateway: GatewayUnderTest, secret: string): Promise<ApiKey> =>
  Promise.resolve(gateway.gateway.authenticate({ authorization: `Bearer ${secret}` }));

async function remaining(gateway: GatewayUnderTest, key: ApiKey, rule: string): Promise<number | undefined> {
  const { rules } = await gateway.gateway.rateLimiter.peek({ key, remoteAddress: "127.0.0.1" });
  return rules.find(({ name }) => name === rule)?.remaining;
}

test("every answer of a limited route has the limit's headers: whole, streamed, refused by any step, or wrong", async () => {
  const { secret } = await brikk.createKey({ rateLimitPerMin: 100, tokensPerMin: 1_000_000 });
  const answers: [number, Promise<Response>][] = [
    [200, chat(brikk, secret)],
    [200, chat(brikk, secret, { stream: true })],
    [404, chat(brikk, secret, { model: "no-such-model" })],
    [400, chat(brikk, secret, { messages: "none" })],
    [415, fetch(`${brikk.url}/v1/embeddings`, { method: "POST", body: "x", headers: { "x-brikk-api-key": secret } })],
    [200, fetch(`${brikk.url}/usage/me`, { headers: { "x-brikk-api-key": secret } })],
  ];
  for (const [status, answer] of answers) {
    const response = await answer;
    await response.arrayBuffer();
    assert.equal(response.status, status);
    const header = (name: string): string => response.headers.get(name) ?? assert.fail(`${status} has no ${name}`);
    assert.equal(header("ratelimit-policy"), '"key-rpm";q=100;w=60, "key-tpm";q=1000000;qu="tokens";w=60');
    const [, left, reset] = /^"key-rpm";r=(\d+);t=(\d+), "key-tpm";r=\d+;t=\d+$/.exec(header("ratelimit")) ?? [];
    assert.deepEqual(
      ["limit", "remaining", "reset"].map((name) => header(`x-ratelimit-${name}`)),
      ["100", left, reset],
    );
    assert.equal(header("x-ratelimit-limit-requests"), "100");
    assert.equal(header("x-ratelimit-remaining-requests"), left);
    assert.match(header("x-ratelimit-reset-requests"), /^\d+(ms|s)$/);
    assert.equal(header("x-ratelimit-limit-tokens"), "1000000");
    assert.ok(Number(header("x-ratelimit-remaining-tokens")) <= 1_000_000);
    assert.match(header("x-ratelimit-reset-tokens"), /^\d+(ms|s)$/);
  }
});

test("a key over its requests per minute reads which rule, which numbers, and when, in every form alike", async () => {
  const { secret } = await brikk.createKey({ rateLimitPerMin: 2 });
  for (let n = 0; n < 2; n += 1) await (await chat(brikk, secret)).arrayBuffer();
  const response = await chat(brikk, secret, { stream: true });
  const refusal = await refusalOf(response);
  assertWaitsAgree(response, refusal);
  assert.deepEqual(
    { ...refusal.details, reset_seconds: 0 },
    { scope: "key", rule: "key-rpm", window: "minute", limit: 2, remaining: 0, reset_seconds: 0 },
  );
  assert.match(refusal.message, /^This key may make 2 requests a minute, .* in \d+ s\.$/);
});

test("tokens are charged when a request is settled, and refuse the next one until they are paid", async () => {
  const { secret } = await brikk.createKey({ tokensPerMin: 10 });
  const first = await chat(brikk, secret);
  const { usage } = (await first.json()) as { usage: { total_tokens: number } };
  assert.equal(first.headers.get("x-ratelimit-remaining-tokens"), "10");
  assert.ok(usage.total_tokens > 10);
  const second = await chat(brikk, secret);
  const refusal = await refusalOf(second);
  assertWaitsAgree(second, refusal);
  assert.deepEqual([refusal.details["rule"], refusal.details["limit"]], ["key-tpm", 10]);
  // The debt and the one token that must be there, at one every six seconds; less what drained since.
  const seconds = (usage.total_tokens - 10 + 1) * 6;
  const told = Number(refusal.details["reset_seconds"]);
  assert.ok(told <= seconds && told >= seconds - 3, `${told} of ${seconds} s`);
});

test("tokens of a stream that its caller left, and of one that was cut, are charged too", async () => {
  for (const way of ["left", "cut"] as const) {
    const gateway = await startGateway({ simulator: { tokensPerSecond: 200 } });
    try {
      const { secret } = await gateway.createKey({ tokensPerMin: 100 });
      const key = await keyOf(gateway, secret);
      if (way === "cut") gateway.simulator.faults.set({ vendor: "openai", fault: { kind: "cut", afterTokens: 5 } });
      const caller = call(gateway, secret, { stream: true });
      await caller.answered;
      if (way === "left") caller.leave();
      while ((await gateway.events()).length === 0) await delay(5);
      const [row] = await gateway.events();
      const used = Number(row?.["fresh_input_tokens"]) + Number(row?.["output_tokens"]);
      assert.ok(used > 0, way);
      const left = (await remaining(gateway, key, "key-tpm"))!;
      // What drained since then is at most a few seconds' worth.
      assert.ok(left < 100 && left >= 100 - used, `${way}: ${left} left after ${used}`);
    } finally {
      await gateway.close();
    }
  }
});

test("SDKs obey no wait beyond a minute, so x-should-retry is false for a longer debt", async () => {
  const { secret } = await brikk.createKey({ tokensPerMin: 1 });
  await (await chat(brikk, secret)).arrayBuffer();
  const response = await chat(brikk, secret);
  const refusal = await refusalOf(response);
  assertWaitsAgree(response, refusal);
  assert.equal(response.headers.get("x-should-retry"), "false");
});

function askFrom(localAddress: string, gateway: GatewayUnderTest): Promise<IncomingMessage> {
  return new Promise((resolve, reject) => {
    httpRequest(`${gateway.url}/v1/models`, { localAddress, agent: false })
      .on("response", (response) => resolve(response.resume()))
      .on("error", reject)
      .end();
  });
}

test("callers without a key are limited by address too, and one address' excess is not another's", async () => {
  for (let n = 0; n < 3; n += 1) {
    const response = await askFrom("127.0.0.1", brikk);
    assert.equal(response.statusCode, 200);
    assert.equal(response.headers["x-ratelimit-limit"], "3");
    assert.equal(response.headers["ratelimit-policy"], '"key-rpm";q=60;w=60, "ip-rpm";q=3;w=60');
  }
  const refused = await fetch(`${brikk.url}/v1/models`);
  const refusal = await refusalOf(refused);
  assertWaitsAgree(refused, refusal);
  assert.deepEqual([refusal.details["scope"], refusal.details["rule"], refusal.details["limit"]], ["ip", "ip-rpm", 3]);
  assert.match(refusal.message, /from one address/);
  const other = await askFrom("127.0.0.2", brikk);
  assert.equal(other.statusCode, 200);
  assert.equal(other.headers["x-ratelimit-remaining"], "2");
  // What the address was refused for, the shared key has not counted.
  const anonymous = await keyOf(brikk, "sk-none");
  assert.equal(anonymous.id, ANONYMOUS_KEY_ID);
  assert.equal(await remaining(brikk, anonymous, "key-rpm"), 60 - 4);
  const { secret } = await brikk.createKey();
  assert.equal((await chat(brikk, secret)).status, 200);
});

const slow = { firstTokenMs: 10, tokensPerSecond: 400 };

/** All that may happen to a request, each at a random moment. */
const fates = fc.constantFrom("whole", "streamed", "left-whole", "left-stream", "wrong", "half-sent", "pipelined");

async function meetFate(gateway: GatewayUnderTest, secret: string, fate: string, afterMs: number): Promise<void> {
  const head = `POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer ${secret}\r\nContent-Type: application/json\r\n`;
  const body = JSON.stringify({ ...CHAT, stream: true });
  const raw = async (bytes: string): Promise<void> => {
    const socket = connect(Number(new URL(gateway.url).port), "127.0.0.1").on("error", () => undefined);
    socket.resume().write(bytes);
    await delay(afterMs);
    socket.destroy();
    await once(socket, "close");
  };
  switch (fate) {
    case "whole":
    case "streamed":
    case "wrong": {
      const response = await chat(
        gateway,
        secret,
        fate === "wrong" ? { messages: 1 } : { stream: fate === "streamed" },
      );
      await response.arrayBuffer();
      assert.ok([200, 400, 429].includes(response.status), `${fate}: ${response.status}`);
      break;
    }
    case "left-whole":
    case "left-stream": {
      const caller = call(gateway, secret, { stream: fate === "left-stream" });
      await delay(afterMs);
      caller.leave();
      break;
    }
    case "half-sent":
      await raw(`${head}Content-Length: 1000\r\n\r\n{"model"`);
      break;
    case "pipelined":
      await raw(`${head}Content-Length: ${body.length}\r\n\r\n${body}`.repeat(3));
      break;
    default:
      assert.fail(fate);
  }
}

async function assertNoSlotLeaks(gateway: GatewayUnderTest, newKey: Partial<NewKey>): Promise<void> {
  await fc.assert(
    fc.asyncProperty(
      fc.array(fc.tuple(fates, fc.integer({ min: 0, max: 80 })), { minLength: 1, maxLength: 25 }),
      async (requests) => {
        const { secret } = await gateway.createKey(newKey);
        const key = await keyOf(gateway, secret);
        await Promise.all(requests.map(([fate, afterMs]) => meetFate(gateway, secret, fate, afterMs)));
        const deadline = performance.now() + 20_000;
        while ((await remaining(gateway, key, "key-concurrency")) !== newKey.maxConcurrentRequests) {
          assert.ok(performance.now() < deadline, `slots were kept after ${JSON.stringify(requests)}`);
          await delay(2);
        }
      },
    ),
    { numRuns: 12 },
  );
}

test("slots never leak, whatever becomes of requests: finished, refused, half sent, or left at any moment", async () => {
  const gateway = await startGateway({ simulator: slow });
  try {
    await assertNoSlotLeaks(gateway, { maxConcurrentRequests: 4 });
  } finally {
    await gateway.close();
  }
});

test("slots in Redis never leak either", { skip: skipWithoutRedis }, async () => {
  const redis = await startRedis();
  const gateway = await startGateway({
    simulator: slow,
    environment: { REDIS_URL: redis.url, REDIS_TIMEOUT_MS: "10000" },
  });
  try {
    await assertNoSlotLeaks(gateway, { maxConcurrentRequests: 4 });
    assert.equal(gateway.gateway.rateLimiter.place, "redis");
  } finally {
    await gateway.close();
    await redis.stop();
  }
});

test("one request after the other, a caller who may have one in hand is never refused", async () => {
  const { secret } = await brikk.createKey({ maxConcurrentRequests: 1, rateLimitPerMin: 1_000 });
  for (let n = 0; n < 100; n += 1) {
    const response = await chat(brikk, secret, { stream: n % 2 === 0 });
    await response.arrayBuffer();
    assert.equal(response.status, 200, `request ${n}`);
  }
});

test("a key has no more streams open than it may, the one too many is told so, and the next one passes when one ends", async () => {
  const gateway = await startGateway({ simulator: { firstTokenMs: 0, tokensPerSecond: 20 } });
  try {
    const { secret } = await gateway.createKey({ maxConcurrentRequests: 2 });
    const key = await keyOf(gateway, secret);
    const [one, two] = [call(gateway, secret, { stream: true }), call(gateway, secret, { stream: true })];
    await Promise.all([one.answered, two.answered]);
    const response = await chat(gateway, secret);
    const refusal = await refusalOf(response);
    assertWaitsAgree(response, refusal);
    assert.equal(response.headers.get("retry-after"), "1");
    assert.deepEqual(refusal.details, {
      scope: "key",
      rule: "key-concurrency",
      window: null,
      limit: 2,
      remaining: 0,
      reset_seconds: 1,
    });
    one.leave();
    while ((await remaining(gateway, key, "key-concurrency")) === 0) await delay(2);
    assert.equal((await fetch(`${gateway.url}/usage/me`, { headers: { "x-brikk-api-key": secret } })).status, 200);
    two.leave();
  } finally {
    await gateway.close();
  }
});

interface LogLine {
  readonly level: string;
  readonly msg: string;
}

async function withRedis(
  redis: RedisUnderTest,
  body: (gateway: GatewayUnderTest, lines: LogLine[]) => Promise<void>,
): Promise<void> {
  const lines: LogLine[] = [];
  const gateway = await startGateway({
    environment: { REDIS_URL: redis.url, REDIS_TIMEOUT_MS: "10000" },
    log: { write: (line) => void lines.push(JSON.parse(line) as LogLine) },
  });
  try {
    await body(gateway, lines);
  } finally {
    await gateway.close();
    await redis.stop();
  }
}

interface Readiness {
  readonly ready: boolean;
  readonly checks: { readonly rate_limits: { readonly ok: boolean; readonly detail: string } };
}

test(
  "Redis killed and back in the midst of traffic: limits go on, one log line each way, and readiness and metrics say it",
  { skip: skipWithoutRedis },
  async () => {
    const redis = await startRedis();
    await withRedis(redis, async (gateway, lines) => {
      const readiness = async (): Promise<Readiness> =>
        (await (await fetch(`${gateway.url}/health/ready`)).json()) as Readiness;
      const degraded = async (): Promise<string | undefined> =>
        /^brikk_rate_limits_degraded (\d)$/m.exec(await (await fetch(`${gateway.url}/metrics`)).text())?.[1];
      const { secret } = await gateway.createKey({ rateLimitPerMin: 100_000, maxConcurrentRequests: 50 });
      const { secret: limited } = await gateway.createKey({ rateLimitPerMin: 20 });
      let asked = 0;
      let running = true;
      const traffic = Array.from({ length: 4 }, async () => {
        while (running) {
          const response = await chat(gateway, secret, { stream: asked % 2 === 0 });
          await response.arrayBuffer();
          assert.equal(response.status, 200);
          assert.equal(response.headers.get("x-ratelimit-limit"), "100000");
          asked += 1;
        }
      });
      const untilAsked = async (more: number): Promise<void> => {
        const goal = asked + more;
        while (asked < goal) await delay(2);
      };
      await untilAsked(20);
      assert.deepEqual((await readiness()).checks.rate_limits, { ok: true, detail: "shared in Redis" });

      await redis.kill();
      await untilAsked(50);
      const down = await readiness();
      assert.equal(down.ready, true);
      assert.deepEqual(down.checks.rate_limits, { ok: true, detail: "in memory; Redis does not answer" });
      assert.equal(await degraded(), "1");
      const statuses: number[] = [];
      for (let n = 0; n < 30; n += 1) {
        const response = await fetch(`${gateway.url}/v1/models`, { headers: { authorization: `Bearer ${limited}` } });
        await response.arrayBuffer();
        statuses.push(response.status);
      }
      const passed = statuses.filter((status) => status === 200).length;
      assert.ok(passed >= 20 && passed <= 25, `${passed} of 30 passed a limit of 20`);

      await redis.restart();
      while ((await readiness()).checks.rate_limits.detail !== "shared in Redis") await delay(10);
      await untilAsked(20);
      running = false;
      await Promise.all(traffic);
      assert.equal(await degraded(), "0");
      assert.deepEqual(
        lines.filter(({ msg }) => msg.includes("rate limits")).map(({ level, msg }) => `${level}: ${msg}`),
        [
          "error: Redis does not answer; rate limits go on in memory, for this instance by itself",
          "info: Redis answers again; rate limits are shared",
        ],
      );
      const key = await keyOf(gateway, secret);
      while ((await remaining(gateway, key, "key-concurrency")) !== 50) await delay(2);
    });
  },
);

test(
  "a server whose Redis cannot be reached starts all the same, serves from memory, and never shows the password",
  { skip: skipWithoutRedis },
  async () => {
    const redis = await startRedis();
    await redis.kill();
    const secretUrl = redis.url.replace("redis://", "redis://:hunter2-secret@");
    await withRedis({ ...redis, url: secretUrl }, async (gateway, lines) => {
      const { secret } = await gateway.createKey({ rateLimitPerMin: 1 });
      assert.equal((await chat(gateway, secret)).status, 200);
      assert.equal((await chat(gateway, secret)).status, 429);
      const text = await (await fetch(`${gateway.url}/health/ready`)).text();
      assert.ok(text.includes("in memory; Redis does not answer"));
      assert.equal(lines.filter(({ level, msg }) => level === "error" && msg.includes("rate limits")).length, 1);
      assert.ok(!JSON.stringify(lines).includes("hunter2") && !text.includes("hunter2"));
    });
  },
);
