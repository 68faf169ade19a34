import assert from "node:assert/strict";
import type { TestContext } from "node:test";
import type { ApiKey } from "../../src/access/api-key.ts";
import { createAuthenticator } from "../../src/access/authenticate.ts";
import { createKeyRing } from "../../src/access/key-ring.ts";
import { createKeyStore, type Idempotency, type Rotation } from "../../src/access/key-store.ts";
import type { Secret } from "../../src/access/secret.ts";
import { createVault } from "../../src/access/vault.ts";
import type { AuditedAct } from "../../src/audit/audit-trail.ts";
import { NO_AUDIT_TRAIL } from "../../src/audit/audit-trail.ts";
import { BrikkError, type ErrorCode } from "../../src/errors.ts";
import { nanoUsd } from "../../src/lib/money.ts";
import { parseFernetKeys } from "../../src/lib/fernet.ts";
import type { DialectName } from "../../src/storage/database.ts";
import { openDatabase } from "../../src/storage/open-database.ts";
import { createTestClock } from "../lib/test-clock.ts";
import { onEachDatabase, scratchDatabase } from "../storage/scratch.ts";

const MINUTE_MS = 60_000;
const HOUR_MS = 60 * MINUTE_MS;
const KEYS = parseFernetKeys(Buffer.alloc(32, 7).toString("base64url") + "=")!;

async function setUp(t: TestContext, dialect: DialectName) {
  const { database, url } = await scratchDatabase(t, dialect);
  const clock = createTestClock();
  const acts: AuditedAct[] = [];
  const keyRing = createKeyRing({ database, clock });
  const parts = { clock, vault: createVault({ keys: KEYS, clock }) };
  const keyStore = createKeyStore({
    database,
    ...parts,
    audit: { ...NO_AUDIT_TRAIL, recordIn: async (_, act) => void acts.push(act) },
    onChange: () => keyRing.refresh(),
  });
  const anonymousKey = await keyStore.ensureAnonymousKey();
  const { key, secret } = await keyStore.create({ name: "k", hardCap: nanoUsd(7n), rateLimitPerMin: 3 });
  await keyRing.start();
  t.after(() => keyRing.stop());
  const authenticate = createAuthenticator({ keyRing, requireAuth: true, anonymousKey, clock });
  const accepted = async (one: string): Promise<string> => {
    try {
      return (await authenticate({ "x-brikk-api-key": one })).id;
    } catch (error) {
      if (error instanceof BrikkError) return error.code;
      throw error;
    }
  };
  const elsewhere = async () => {
    const other = await openDatabase({ url });
    t.after(() => other.close());
    return createKeyStore({ database: other, ...parts });
  };
  return { database, clock, keyStore, keyRing, key, secret, acts, authenticate, accepted, elsewhere };
}

const refusedWith = (code: ErrorCode) => (error: unknown) => error instanceof BrikkError && error.code === code;
const asSecret = (text: string): Secret => text as Secret;
const rotated = (rotation: Rotation | undefined): Rotation => {
  assert.ok(rotation);
  return rotation;
};
const idempotent = (key: ApiKey, name: string, requestHash = "asked"): Idempotency => ({
  scope: key.id,
  key: name,
  requestHash,
});

onEachDatabase(
  "without grace the old secret ends with the rotation, and what the key has goes on",
  async (t, dialect) => {
    const { keyStore, clock, key, secret, accepted } = await setUp(t, dialect);
    clock.advance(5);
    const rotation = rotated(await keyStore.rotate(key.id, { graceMs: 0, replaces: secret }));
    assert.deepEqual(rotation, {
      key: { ...key, revision: rotation.key.revision },
      secret: rotation.secret,
      oldKeyPrefix: secret.slice(0, 12),
      rotatedAtMs: clock.now(),
      oldValidUntilMs: clock.now(),
      replayed: false,
    });
    assert.ok(rotation.key.revision > key.revision);
    assert.equal(await accepted(secret), "key_expired");
    assert.equal(await accepted(rotation.secret), key.id);
  },
);

onEachDatabase(
  "in its grace the old secret is accepted beside the new one, to the last millisecond",
  async (t, dialect) => {
    const { keyStore, clock, key, secret, accepted } = await setUp(t, dialect);
    const rotation = rotated(await keyStore.rotate(key.id, { graceMs: HOUR_MS, replaces: secret }));
    assert.equal(rotation.oldValidUntilMs, clock.now() + HOUR_MS);
    assert.deepEqual((await keyStore.find(key.id))?.secrets, [
      { prefix: secret.slice(0, 12), createdAtMs: key.createdAtMs, notAfterMs: clock.now() + HOUR_MS },
      { prefix: rotation.secret.slice(0, 12), createdAtMs: clock.now() },
    ]);
    clock.advance(HOUR_MS - 1);
    assert.deepEqual([await accepted(secret), await accepted(rotation.secret)], [key.id, key.id]);
    clock.advance(1);
    assert.deepEqual([await accepted(secret), await accepted(rotation.secret)], ["key_expired", key.id]);
    assert.equal((await keyStore.find(key.id))?.secrets.length, 1);
  },
);

onEachDatabase(
  "a further rotation ends an older secret's grace: at most two secrets are accepted",
  async (t, dialect) => {
    const { keyStore, clock, key, secret, accepted } = await setUp(t, dialect);
    const second = rotated(await keyStore.rotate(key.id, { graceMs: HOUR_MS, replaces: secret }));
    clock.advance(1);
    const third = rotated(await keyStore.rotate(key.id, { graceMs: HOUR_MS, replaces: second.secret }));
    assert.equal(await accepted(secret), "key_expired");
    assert.equal(await accepted(second.secret), key.id);
    assert.equal(await accepted(third.secret), key.id);
  },
);

onEachDatabase(
  "a secret in its grace rotates nothing: who found it cannot keep the key beyond it",
  async (t, dialect) => {
    const { keyStore, key, secret, accepted } = await setUp(t, dialect);
    const second = rotated(await keyStore.rotate(key.id, { graceMs: HOUR_MS, replaces: secret }));
    await assert.rejects(keyStore.rotate(key.id, { graceMs: 0, replaces: secret }), refusedWith("secret_replaced"));
    assert.equal(await accepted(second.secret), key.id);
  },
);

onEachDatabase("a grace never outlasts the key", async (t, dialect) => {
  const { keyStore, clock } = await setUp(t, dialect);
  const { key, secret } = await keyStore.create({ name: "short", expiresAtMs: clock.now() + 10 });
  const rotation = rotated(await keyStore.rotate(key.id, { graceMs: HOUR_MS, replaces: secret }));
  assert.equal(rotation.oldValidUntilMs, clock.now() + 10);
});

onEachDatabase(
  "an administrator rotates whichever secret is the newest; what cannot be used gets none",
  async (t, dialect) => {
    const { keyStore, clock, key, secret, accepted } = await setUp(t, dialect);
    const second = rotated(await keyStore.rotate(key.id, { graceMs: HOUR_MS, replaces: secret }));
    const third = rotated(await keyStore.rotate(key.id, { graceMs: 0 }));
    assert.equal(third.oldKeyPrefix, second.secret.slice(0, 12));
    assert.deepEqual(
      [await accepted(secret), await accepted(second.secret), await accepted(third.secret)],
      ["key_expired", "key_expired", key.id],
    );
    assert.equal(await keyStore.rotate("bk_000000000000", { graceMs: 0 }), undefined);
    await assert.rejects(keyStore.rotate("bk_anonymous000", { graceMs: 0 }), refusedWith("invalid_request"));
    const short = await keyStore.create({ name: "short", expiresAtMs: clock.now() + 10 });
    clock.advance(10);
    await assert.rejects(keyStore.rotate(short.key.id, { graceMs: 0 }), refusedWith("invalid_request"));
    await assert.rejects(
      keyStore.rotate(short.key.id, { graceMs: 0, replaces: short.secret }),
      refusedWith("key_expired"),
    );
    await keyStore.revoke(key.id);
    await assert.rejects(keyStore.rotate(key.id, { graceMs: 0 }), refusedWith("invalid_request"));
    await assert.rejects(
      keyStore.rotate(key.id, { graceMs: 0, replaces: third.secret }, undefined, idempotent(key, "late")),
      refusedWith("key_revoked"),
    );
  },
);

for (const graceMs of [0, HOUR_MS])
  onEachDatabase(
    `50 rotations at once, of two instances, with ${graceMs} ms of grace: one is done, its secret is accepted, and nobody is locked out`,
    async (t, dialect) => {
      const { keyStore, keyRing, key, secret, accepted, elsewhere, database } = await setUp(t, dialect);
      const other = await elsewhere();
      const outcomes = await Promise.allSettled(
        Array.from({ length: 50 }, (_, n) => (n % 2 ? keyStore : other).rotate(key.id, { graceMs, replaces: secret })),
      );
      const done = outcomes.flatMap((one) => (one.status === "fulfilled" ? [rotated(one.value)] : []));
      assert.equal(done.length, 1);
      const code = graceMs === 0 ? "key_expired" : "secret_replaced";
      for (const one of outcomes) if (one.status === "rejected") assert.ok(refusedWith(code)(one.reason));
      await keyRing.refresh();
      assert.equal(await accepted(done[0]!.secret), key.id);
      assert.equal(await accepted(secret), graceMs === 0 ? "key_expired" : key.id);
      const rows = await database.query
        .selectFrom("api_key_secrets")
        .selectAll()
        .where("key_id", "=", key.id)
        .execute();
      assert.equal(rows.filter(({ not_after_ms: end }) => end === null).length, 1);
    },
  );

onEachDatabase(
  "50 repeats at once of a rotation with one Idempotency-Key rotate once, and all get the same answer",
  async (t, dialect) => {
    const { keyStore, key, secret, elsewhere, acts } = await setUp(t, dialect);
    const other = await elsewhere();
    const answers = await Promise.all(
      Array.from({ length: 50 }, (_, n) =>
        (n % 2 ? keyStore : other).rotate(key.id, { graceMs: 0, replaces: secret }, undefined, idempotent(key, "once")),
      ),
    );
    assert.equal(new Set(answers.map((one) => rotated(one).secret)).size, 1);
    assert.equal(answers.filter((one) => !one!.replayed).length, 1);
    assert.ok(acts.filter(({ action }) => action === "key.rotate").length <= 1);
    assert.equal((await keyStore.find(key.id))?.secrets.length, 1);
  },
);

onEachDatabase(
  "for 10 minutes an ended secret fetches its rotation's answer with its Idempotency-Key, and does nothing else",
  async (t, dialect) => {
    const { keyStore, clock, key, secret, authenticate } = await setUp(t, dialect);
    const wish = { graceMs: 0, replaces: secret };
    const first = rotated(await keyStore.rotate(key.id, wish, undefined, idempotent(key, "lost")));
    const next = rotated(
      await keyStore.rotate(key.id, { graceMs: 0, replaces: first.secret }, undefined, idempotent(key, "next")),
    );
    clock.advance(10 * MINUTE_MS - 1);
    const again = rotated(await keyStore.rotate(key.id, wish, undefined, idempotent(key, "lost")));
    assert.deepEqual([again.secret, again.rotatedAtMs, again.replayed], [first.secret, first.rotatedAtMs, true]);

    const refused = (idempotency?: Idempotency) =>
      assert.rejects(keyStore.rotate(key.id, wish, undefined, idempotency), refusedWith("key_expired"));
    await refused();
    await refused(idempotent(key, "another"));
    await refused(idempotent(key, "lost", "something else asked for"));
    await refused(idempotent(key, "next"));
    assert.deepEqual(
      (await keyStore.find(key.id))?.secrets.map(({ prefix }) => prefix),
      [next.secret.slice(0, 12)],
    );

    const repeat = () => authenticate({ "x-brikk-api-key": secret }, "repeat-of-rotation");
    assert.throws(() => authenticate({ "x-brikk-api-key": secret }), refusedWith("key_expired"));
    for (let n = 0; n < 10; n += 1) assert.equal((repeat() as ApiKey).id, key.id);
    assert.throws(repeat, refusedWith("key_expired"), "it is no way to use up the key's limits, or to look for keys");
    clock.advance(1);
    await refused(idempotent(key, "lost"));
    assert.throws(repeat, refusedWith("key_expired"));
  },
);

onEachDatabase("a revoked key's ended secret fetches nothing", async (t, dialect) => {
  const { keyStore, key, secret, authenticate } = await setUp(t, dialect);
  const repeat = () => keyStore.rotate(key.id, { graceMs: 0, replaces: secret }, undefined, idempotent(key, "lost"));
  await repeat();
  await keyStore.revoke(key.id);
  await assert.rejects(repeat(), refusedWith("key_revoked"));
  assert.throws(() => authenticate({ "x-brikk-api-key": secret }, "repeat-of-rotation"), refusedWith("key_revoked"));
});

onEachDatabase(
  "a repeat may come with the new secret too; another request under the same key is refused; after 24 hours it is a new one",
  async (t, dialect) => {
    const { keyStore, clock, key, secret, database } = await setUp(t, dialect);
    const rotate = (replaces: string, asked?: string) =>
      keyStore.rotate(
        key.id,
        { graceMs: 0, replaces: asSecret(replaces) },
        undefined,
        idempotent(key, "monthly", asked),
      );
    const first = rotated(await rotate(secret));
    assert.equal(rotated(await rotate(first.secret)).secret, first.secret);
    await assert.rejects(rotate(first.secret, "other"), refusedWith("idempotency_key_reused"));
    clock.advance(24 * HOUR_MS - 1);
    assert.equal(rotated(await rotate(first.secret)).replayed, true);
    clock.advance(1);
    const second = rotated(await rotate(first.secret));
    assert.equal(second.replayed, false);
    assert.notEqual(second.secret, first.secret);
    assert.equal((await database.query.selectFrom("idempotent_answers").selectAll().execute()).length, 1);
  },
);

onEachDatabase("what is kept of a rotation for its repeat holds no secret in the clear", async (t, dialect) => {
  const { keyStore, key, secret, database } = await setUp(t, dialect);
  const rotation = rotated(
    await keyStore.rotate(key.id, { graceMs: 0, replaces: secret }, undefined, idempotent(key, "visible")),
  );
  const kept = JSON.stringify(
    [
      await database.query.selectFrom("idempotent_answers").selectAll().execute(),
      await database.query.selectFrom("api_key_secrets").selectAll().execute(),
    ],
    (_, value: unknown) => (typeof value === "bigint" ? String(value) : value),
  );
  for (const hidden of [rotation.secret, rotation.secret.slice(12), secret.slice(12), "visible"])
    assert.equal(kept.includes(hidden), false);
});

onEachDatabase("a key that is rotated for ever keeps few of its ended secrets", async (t, dialect) => {
  const { keyStore, clock, key, secret, database, accepted } = await setUp(t, dialect);
  let newest = secret;
  for (let n = 0; n < 30; n += 1) {
    clock.advance(1);
    newest = rotated(await keyStore.rotate(key.id, { graceMs: 0, replaces: newest })).secret;
  }
  assert.equal(await accepted(newest), key.id);
  assert.equal(await accepted(secret), "invalid_api_key");
  const rows = await database.query.selectFrom("api_key_secrets").selectAll().where("key_id", "=", key.id).execute();
  assert.equal(rows.length, 12);
});

onEachDatabase("a rotation is on record with who asked for it, and without a secret", async (t, dialect) => {
  const { keyStore, key, secret, acts } = await setUp(t, dialect);
  const by = { kind: "key", keyId: key.id, ip: "192.0.2.1", requestId: "req_1" } as const;
  const rotation = rotated(await keyStore.rotate(key.id, { graceMs: HOUR_MS, replaces: secret }, by));
  assert.deepEqual(acts.at(-1), {
    actor: by,
    action: "key.rotate",
    target: key.id,
    before: { secret_prefix: secret.slice(0, 12) },
    after: {
      secret_prefix: rotation.secret.slice(0, 12),
      old_valid_until: new Date(rotation.oldValidUntilMs).toISOString(),
    },
  });
  assert.equal(JSON.stringify(acts).includes(rotation.secret), false);
});
