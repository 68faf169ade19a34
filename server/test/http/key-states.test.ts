import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { suite, test } from "node:test";
import { after } from "node:test";
import { newSecret } from "../../src/access/secret.ts";
import { type GatewayUnderTest, startGateway } from "../harness/gateway-under-test.ts";
import { noPostgres } from "../harness/postgres-databases.ts";
import { createTestClock, type TestClock } from "../lib/test-clock.ts";

const MINUTE_MS = 60_000;
const IDEMPOTENCY_KEY = "a-rotation-that-was";
const DOCUMENT = readFileSync(new URL("../../../docs/keys.md", import.meta.url), "utf8");

interface Parts {
  readonly brikk: GatewayUnderTest;
  readonly clock: TestClock;
  readonly rotate: (secret: string, options?: { graceSeconds?: number; repeatable?: boolean }) => Promise<Response>;
}

const rotated = async (response: Response): Promise<string> => {
  assert.equal(response.status, 200);
  return ((await response.json()) as { new_key: string }).new_key;
};

/** How a secret comes into each state, the states being named as docs/keys.md names them. */
const STATES: Readonly<Record<string, (parts: Parts) => Promise<string>>> = {
  active: async ({ brikk, rotate }) => {
    const { secret } = await brikk.createKey();
    return rotated(await rotate(secret, { repeatable: true }));
  },
  "in grace": async ({ brikk, rotate }) => {
    const { secret } = await brikk.createKey();
    await rotated(await rotate(secret, { graceSeconds: 600, repeatable: true }));
    return secret;
  },
  "replaced, for 10 minutes after the rotation": async ({ brikk, rotate, clock }) => {
    const { secret } = await brikk.createKey();
    await rotated(await rotate(secret, { repeatable: true }));
    clock.advance(10 * MINUTE_MS - 1);
    return secret;
  },
  "replaced, later": async ({ brikk, rotate, clock }) => {
    const { secret } = await brikk.createKey();
    await rotated(await rotate(secret, { repeatable: true }));
    clock.advance(10 * MINUTE_MS);
    return secret;
  },
  "replaced, a dozen rotations ago": async ({ brikk, rotate, clock }) => {
    const { secret } = await brikk.createKey();
    let newest = await rotated(await rotate(secret, { repeatable: true }));
    for (let n = 0; n < 12; n += 1) {
      clock.advance(1);
      newest = await rotated(await rotate(newest));
    }
    return secret;
  },
  expired: async ({ brikk, rotate, clock }) => {
    const { secret } = await brikk.createKey({ expiresAtMs: clock.now() + 1 });
    const newest = await rotated(await rotate(secret, { repeatable: true }));
    clock.advance(1);
    return newest;
  },
  revoked: async ({ brikk, rotate }) => {
    const { id, secret } = await brikk.createKey();
    await rotated(await rotate(secret, { graceSeconds: 600, repeatable: true }));
    await brikk.gateway.keyStore.revoke(id);
    return secret;
  },
  unknown: async () => newSecret(),
  "mistyped or cut off": async ({ brikk }) => (await brikk.createKey()).secret.slice(0, -1),
};

async function saidOf(response: Response): Promise<string> {
  const body = (await response.json()) as { error?: { code: string } };
  if (body.error) return `${response.status} \`${body.error.code}\``;
  return response.headers.get("idempotent-replayed") === "true" ? "the same answer" : String(response.status);
}

for (const database of ["sqlite", "postgres"] as const)
  suite(`states of a secret (${database})`, { skip: database === "postgres" && (noPostgres ?? false) }, async () => {
    if (database === "postgres" && noPostgres !== undefined) return;
    const clock = createTestClock();
    const brikk = await startGateway({ database, clock, environment: { BRIKK_REQUIRE_AUTH: "true" } });
    after(() => brikk.close());
    const rotate: Parts["rotate"] = (secret, { graceSeconds = 0, repeatable = false } = {}) =>
      fetch(`${brikk.url}/keys/rotate`, {
        method: "POST",
        headers: {
          "content-type": "application/json",
          "x-brikk-api-key": secret,
          ...(repeatable && { "idempotency-key": IDEMPOTENCY_KEY }),
        },
        body: JSON.stringify({ grace_period_seconds: graceSeconds }),
      });
    const parts = { brikk, clock, rotate };

    for (const [state, reach] of Object.entries(STATES))
      test(`${state}: is answered as docs/keys.md says`, async () => {
        const request = await saidOf(
          await fetch(`${brikk.url}/keys/me`, { headers: { "x-brikk-api-key": await reach(parts) } }),
        );
        const rotation = await saidOf(await rotate(await reach(parts)));
        const graceSeconds = state === "in grace" || state === "revoked" ? 600 : 0;
        const repeat = await saidOf(await rotate(await reach(parts), { graceSeconds, repeatable: true }));
        const row = `| ${state} | ${request} | ${rotation} | ${repeat} |`;
        assert.ok(DOCUMENT.includes(row), `docs/keys.md has no row: ${row}`);
      });

    test("docs/keys.md has no state that is not one of these", () => {
      const [, table = ""] = DOCUMENT.split("## States of a secret");
      const rows = table
        .split("\n## ")[0]!
        .split("\n")
        .filter((line) => line.startsWith("| "));
      assert.deepEqual(
        rows.slice(2).map((row) => row.split(" | ")[0]!.slice(2)),
        Object.keys(STATES),
      );
    });
  });
