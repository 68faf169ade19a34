import assert from "node:assert/strict";
import { after, suite, test } from "node:test";
import OpenAI from "openai";
import { nanoUsd } from "../../src/lib/money.ts";
import { startGateway } from "../harness/gateway-under-test.ts";
import { noPostgres } from "../harness/postgres-databases.ts";
import { createTestClock } from "../lib/test-clock.ts";

interface Answer {
  readonly status: number;
  readonly headers: Headers;
  readonly body: Record<string, unknown>;
  readonly code: string | undefined;
}

const SECRET = /^brikk_[0-9A-Za-z]{46}$/;

for (const database of ["sqlite", "postgres"] as const)
  suite(`rotation over HTTP (${database})`, { skip: database === "postgres" && (noPostgres ?? false) }, async () => {
    if (database === "postgres" && noPostgres !== undefined) return;
    const clock = createTestClock();
    const brikk = await startGateway({ database, clock });
    after(() => brikk.close());

    async function call(
      method: string,
      path: string,
      secret: string | undefined,
      options: Options = {},
    ): Promise<Answer> {
      const response = await fetch(`${brikk.url}${path}`, {
        method,
        headers: {
          ...(options.body !== undefined && { "content-type": "application/json" }),
          ...(secret !== undefined && { authorization: `Bearer ${secret}` }),
          ...(options.idempotencyKey !== undefined && { "idempotency-key": options.idempotencyKey }),
        },
        ...(options.body !== undefined && { body: JSON.stringify(options.body) }),
      });
      const body = (await response.json()) as Record<string, unknown>;
      return {
        status: response.status,
        headers: response.headers,
        body,
        code: (body["error"] as { code: string } | undefined)?.code,
      };
    }
    interface Options {
      readonly body?: unknown;
      readonly idempotencyKey?: string;
    }
    const rotate = (secret: string | undefined, options: Options = {}) => call("POST", "/keys/rotate", secret, options);
    const me = (secret: string) => call("GET", "/keys/me", secret);
    const chat = async (secret: string): Promise<string> => {
      const client = new OpenAI({ apiKey: secret, baseURL: `${brikk.url}/v1`, maxRetries: 0 });
      try {
        const completion = await client.chat.completions.create({
          model: "gpt-4o-mini",
          messages: [{ role: "user", content: "Hello" }],
        });
        return completion.object;
      } catch (error) {
        if (error instanceof OpenAI.AuthenticationError) return String(error.code);
        throw error;
      }
    };

    test("a rotation without a word ends the old secret at once, answers with the new one and is not cached", async () => {
      const { id, secret } = await brikk.createKey();
      const { status, headers, body } = await rotate(secret);
      assert.equal(status, 200);
      assert.equal(headers.get("cache-control"), "no-store");
      assert.equal(headers.get("idempotent-replayed"), null);
      const newKey = String(body["new_key"]);
      assert.match(newKey, SECRET);
      const now = new Date(clock.now()).toISOString();
      assert.deepEqual(body, {
        key_id: id,
        old_key_prefix: secret.slice(0, 12),
        new_key: newKey,
        rotated_at: now,
        old_key_valid_until: now,
      });
      assert.equal(await chat(secret), "key_expired");
      assert.equal(await chat(newKey), "chat.completion");
    });

    test("in the grace period OpenAI's SDK is served with both secrets, which use up one budget and one limit", async () => {
      const { secret } = await brikk.createKey({ hardCap: nanoUsd(1_000_000_000n), rateLimitPerMin: 10 });
      await chat(secret);
      const { body } = await rotate(secret, { body: { grace_period_seconds: 60 } });
      const newKey = String(body["new_key"]);
      assert.equal(body["old_key_valid_until"], new Date(clock.now() + 60_000).toISOString());
      assert.deepEqual([await chat(secret), await chat(newKey)], ["chat.completion", "chat.completion"]);
      const usage = (await call("GET", "/usage/me", newKey)).body;
      assert.equal((usage["today"] as { requests: number }).requests, 3);
      assert.deepEqual((await call("GET", "/usage/me", secret)).body, usage);
      assert.equal((await me(secret)).headers.get("x-ratelimit-remaining"), "3");
      const [old, fresh] = [(await me(secret)).body, (await me(newKey)).body];
      assert.deepEqual([old["state"], fresh["state"]], ["in_grace", "active"]);
      assert.deepEqual(fresh["secrets"], [
        {
          prefix: secret.slice(0, 12),
          created_at: new Date(clock.now()).toISOString(),
          valid_until: body["old_key_valid_until"],
        },
        { prefix: newKey.slice(0, 12), created_at: new Date(clock.now()).toISOString(), valid_until: null },
      ]);
      clock.advance(60_000);
      assert.deepEqual([await chat(secret), await chat(newKey)], ["key_expired", "chat.completion"]);
    });

    test("a lost answer comes again with the same Idempotency-Key, though its request's secret has ended", async () => {
      const { secret } = await brikk.createKey();
      const first = await rotate(secret, { idempotencyKey: "6f1c" });
      const again = await rotate(secret, { idempotencyKey: "6f1c" });
      assert.deepEqual([again.status, again.body], [200, first.body]);
      assert.equal(again.headers.get("idempotent-replayed"), "true");
      assert.equal((await rotate(secret)).code, "key_expired");
      assert.equal((await rotate(secret, { idempotencyKey: "6f1d" })).code, "key_expired");
      assert.equal(
        (await rotate(secret, { idempotencyKey: "6f1c", body: { grace_period_seconds: 9 } })).code,
        "key_expired",
      );
      for (const path of ["/keys/me", "/usage/me", "/v1/models"]) {
        const response = await fetch(`${brikk.url}${path}`, {
          headers: { authorization: `Bearer ${secret}`, "idempotency-key": "6f1c" },
        });
        assert.equal(response.status, 401, `${path} is nothing that an ended secret may do`);
        await response.arrayBuffer();
      }
      const newKey = String(first.body["new_key"]);
      const other = await rotate(newKey, { idempotencyKey: "6f1c", body: { grace_period_seconds: 9 } });
      assert.deepEqual([other.status, other.code], [422, "idempotency_key_reused"]);
      assert.equal(await chat(newKey), "chat.completion");
    });

    test("one key's Idempotency-Key is nothing to another key", async () => {
      const [one, two] = [await brikk.createKey(), await brikk.createKey()];
      const first = await rotate(one.secret, { idempotencyKey: "shared" });
      const second = await rotate(two.secret, { idempotencyKey: "shared" });
      assert.deepEqual([first.status, second.status], [200, 200]);
      assert.equal(second.headers.get("idempotent-replayed"), null);
      assert.notEqual(second.body["new_key"], first.body["new_key"]);
      assert.equal(second.body["key_id"], two.id);
    });

    test("50 rotations at once: one new secret, which is accepted, and refusals that say why", async () => {
      const { id, secret } = await brikk.createKey();
      const answers = await Promise.all(Array.from({ length: 50 }, () => rotate(secret)));
      const done = answers.filter(({ status }) => status === 200);
      assert.equal(done.length, 1);
      for (const { status, code } of answers)
        if (status !== 200) assert.deepEqual([status, code], [401, "key_expired"]);
      assert.equal((await me(String(done[0]!.body["new_key"]))).body["key_id"], id);
    });

    test("what is asked for wrongly is refused and changes nothing", async () => {
      const { secret } = await brikk.createKey();
      for (const body of [
        { grace_period_seconds: -1 },
        { grace_period_seconds: 604_801 },
        { grace_period_seconds: 1.5 },
        { grace_period_seconds: "60" },
        { reason: "leaked" },
        [],
      ])
        assert.equal((await rotate(secret, { body })).code, "invalid_request", JSON.stringify(body));
      for (const idempotencyKey of ["", "a b", "x".repeat(256)]) {
        const refused = await rotate(secret, { idempotencyKey });
        assert.equal(refused.code, "invalid_request", idempotencyKey);
        assert.equal((refused.body["error"] as { param: string }).param, "Idempotency-Key");
      }
      assert.equal((await me(secret)).status, 200);
      assert.equal((await rotate(secret, { body: { grace_period_seconds: 604_800 } })).status, 200);
    });

    test("the anonymous key is not rotated, whatever a caller sends in a key's place", async () => {
      for (const secret of [undefined, "sk-of-another-service"]) {
        const { status, code } = await rotate(secret, { idempotencyKey: "anonymous" });
        assert.deepEqual([status, code], [401, "missing_api_key"]);
      }
    });

    test("a secret in its grace is told that it was replaced, in a way that SDKs do not repeat", async () => {
      const { secret } = await brikk.createKey();
      await rotate(secret, { body: { grace_period_seconds: 60 } });
      const { status, code, headers } = await rotate(secret);
      assert.deepEqual([status, code, headers.get("x-should-retry")], [409, "secret_replaced", "false"]);
    });
  });
