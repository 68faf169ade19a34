import assert from "node:assert/strict";
import type { TestContext } from "node:test";
import type { ApiKey } from "../../src/access/api-key.ts";
import { type CredentialHeaders, createAuthenticator } from "../../src/access/authenticate.ts";
import { createKeyRing } from "../../src/access/key-ring.ts";
import { createKeyStore } from "../../src/access/key-store.ts";
import { hashSecret, newSecret, type Secret } from "../../src/access/secret.ts";
import { BrikkError, type ErrorCode } from "../../src/errors.ts";
import type { DialectName } from "../../src/storage/database.ts";
import { createTestClock } from "../lib/test-clock.ts";
import { onEachDatabase, scratchDatabase } from "../storage/scratch.ts";

async function setUp(t: TestContext, dialect: DialectName) {
  const { database } = await scratchDatabase(t, dialect);
  const clock = createTestClock();
  const keyStore = createKeyStore({ database, clock });
  const anonymousKey = await keyStore.ensureAnonymousKey();
  const { key, secret } = await keyStore.create({ name: "demo", expiresAtMs: clock.now() + 60_000 });
  const keyRing = createKeyRing({ database, clock });
  await keyRing.start();
  t.after(() => keyRing.stop());
  const strict = createAuthenticator({ keyRing, requireAuth: true, anonymousKey, clock });
  const open = createAuthenticator({ keyRing, requireAuth: false, anonymousKey, clock });
  return { database, clock, keyStore, keyRing, anonymousKey, key, secret, strict, open };
}

type Parts = Awaited<ReturnType<typeof setUp>>;

/** The message of the refusal, after checking its code and that it gives away no secret. */
async function refusal(authenticate: Parts["open"], headers: CredentialHeaders, code: ErrorCode): Promise<string> {
  let admitted: ApiKey;
  try {
    admitted = await authenticate(headers);
  } catch (error) {
    assert.ok(error instanceof BrikkError, String(error));
    assert.equal(error.code, code);
    for (const sent of [headers.authorization ?? "", headers["x-brikk-api-key"] ?? ""].flat()) {
      const secret = sent.split(" ").at(-1) ?? "";
      if (secret.length > 15)
        assert.ok(!error.message.includes(secret.slice(0, 13)), "the message holds more than the prefix");
    }
    return error.message;
  }
  assert.fail(`${admitted.id} was admitted where ${code} was due`);
}

const bearer = (token: string): CredentialHeaders => ({ authorization: `Bearer ${token}` });
const own = (token: string): CredentialHeaders => ({ "x-brikk-api-key": token });

const mistyped = (secret: Secret): string => `${secret.slice(0, -1)}${secret.endsWith("a") ? "b" : "a"}`;

onEachDatabase(
  "a known secret is admitted synchronously through either header, whatever the scheme's case",
  async (t, dialect) => {
    const { strict, open, key, secret } = await setUp(t, dialect);
    for (const authenticate of [strict, open]) {
      for (const headers of [
        own(secret),
        own(` ${secret} `),
        { "x-brikk-api-key": [secret, secret] },
        bearer(secret),
        { authorization: `bEARER   ${secret} ` },
      ]) {
        assert.equal(authenticate(headers), authenticate(own(secret)));
        assert.deepEqual(authenticate(headers), key);
      }
    }
  },
);

onEachDatabase("X-Brikk-API-Key wins over Authorization, for better and for worse", async (t, dialect) => {
  const { strict, open, key, secret } = await setUp(t, dialect);
  assert.deepEqual(strict({ ...own(secret), ...bearer(newSecret()) }), key);
  assert.deepEqual(strict({ ...own(secret), ...bearer("sk-unused") }), key);
  await refusal(open, { ...own(newSecret()), ...bearer(secret) }, "invalid_api_key");
  assert.deepEqual(strict({ ...own(""), ...bearer(secret) }), key);
  assert.deepEqual(strict({ "x-brikk-api-key": [""], ...bearer(secret) }), key);
  await refusal(open, { "x-brikk-api-key": [secret, newSecret()] }, "invalid_api_key");
});

onEachDatabase(
  "a caller without a key is anonymous where that is allowed, and told how to send one where not",
  async (t, dialect) => {
    const { strict, open, anonymousKey } = await setUp(t, dialect);
    for (const headers of [
      {},
      own(""),
      own("  "),
      { authorization: "" },
      { authorization: "Bearer" },
      { authorization: "Bearer " },
    ]) {
      assert.deepEqual(open(headers), anonymousKey);
      assert.match(await refusal(strict, headers, "missing_api_key"), /No API key was sent.*X-Brikk-API-Key/);
    }
  },
);

onEachDatabase(
  "what SDKs send when they have no key is anonymous where that is allowed, else invalid",
  async (t, dialect) => {
    const { strict, open, anonymousKey } = await setUp(t, dialect);
    for (const headers of [
      bearer("sk-aaaaaaaaaaaaaaaaaaaaaaaaaaaa"),
      bearer("unused"),
      { authorization: "Basic dXNlcjpwYXNz" },
      { authorization: "Bearerunused" },
    ]) {
      assert.deepEqual(open(headers), anonymousKey);
      assert.match(await refusal(strict, headers, "invalid_api_key"), /is not a key of this gateway/);
    }
  },
);

onEachDatabase("what was meant as a key of this gateway is never passed over as anonymous", async (t, dialect) => {
  const { strict, open, secret, key } = await setUp(t, dialect);
  for (const authenticate of [strict, open]) {
    assert.match(await refusal(authenticate, bearer(mistyped(secret)), "invalid_api_key"), /mistyped or cut off/);
    assert.match(await refusal(authenticate, bearer(secret.slice(0, 30)), "invalid_api_key"), /mistyped or cut off/);
    assert.match(await refusal(authenticate, bearer("brikk_"), "invalid_api_key"), /mistyped or cut off/);
    assert.match(
      await refusal(authenticate, own("sk-aaaaaaaaaaaaaaaaaaaaaaaaaaaa"), "invalid_api_key"),
      /not a key of this gateway/,
    );
    assert.match(await refusal(authenticate, bearer(key.id), "invalid_api_key"), /public id of a key, not its secret/);
    const stranger = newSecret();
    const said = await refusal(authenticate, bearer(stranger), "invalid_api_key");
    assert.ok(said.includes(`${stranger.slice(0, 12)}...`));
  }
});

onEachDatabase("a revoked secret is refused while cached", async (t, dialect) => {
  const { strict, keyStore, keyRing, key, secret } = await setUp(t, dialect);
  assert.deepEqual(strict(own(secret)), key);
  await keyStore.revoke(key.id);
  await keyRing.refresh();
  assert.throws(() => strict(own(secret)), BrikkError);
  assert.match(await refusal(strict, own(secret), "key_revoked"), new RegExp(`${key.id}.*revoked`));
});

onEachDatabase(
  "a key that expires while cached is refused from that moment, and the message says when",
  async (t, dialect) => {
    const { strict, clock, key, secret } = await setUp(t, dialect);
    clock.advance(59_999);
    assert.deepEqual(strict(own(secret)), key);
    clock.advance(1);
    assert.ok((await refusal(strict, own(secret), "key_expired")).includes(new Date(clock.now()).toISOString()));
  },
);

onEachDatabase("a key that is both revoked and expired is called revoked", async (t, dialect) => {
  const { strict, clock, keyStore, keyRing, key, secret } = await setUp(t, dialect);
  await keyStore.revoke(key.id);
  await keyRing.refresh();
  clock.advance(120_000);
  await refusal(strict, own(secret), "key_revoked");
});

onEachDatabase(
  "a replaced secret ends when its grace does, while the key's other secret goes on",
  async (t, dialect) => {
    const { strict, clock, keyRing, database, key, secret } = await setUp(t, dialect);
    const replacement = newSecret();
    await database.transact([
      { sql: "update api_key_secrets set not_after_ms = ? where key_id = ?", params: [clock.now() + 10, key.id] },
      {
        sql: "insert into api_key_secrets (secret_hash, key_id, prefix, created_at_ms) values (?, ?, ?, ?)",
        params: [hashSecret(replacement), key.id, replacement.slice(0, 12), clock.now()],
      },
      { sql: "update api_keys set revision = (select max(revision) + 1 from api_keys) where id = ?", params: [key.id] },
    ]);
    await keyRing.refresh();
    const rotated = { ...key, revision: key.revision + 1 };
    assert.deepEqual(strict(own(secret)), rotated);
    clock.advance(10);
    assert.match(await refusal(strict, own(secret), "key_expired"), /replaced by a newer secret/);
    assert.deepEqual(strict(own(replacement)), rotated);
  },
);

onEachDatabase("a key made a moment ago in another process is admitted on its first request", async (t, dialect) => {
  const { strict, keyStore } = await setUp(t, dialect);
  const { key, secret } = await keyStore.create({ name: "fresh" });
  const admitted = strict(bearer(secret));
  assert.ok(admitted instanceof Promise);
  assert.deepEqual(await admitted, key);
});

onEachDatabase(
  "when storage cannot say whether a key is valid the answer is 503, never 401; a mistyped key is still a 401",
  async (t, dialect) => {
    const { strict, open, database, key, secret } = await setUp(t, dialect);
    await database.close();
    for (const authenticate of [strict, open]) {
      assert.match(await refusal(authenticate, bearer(newSecret()), "storage_unavailable"), /may well be valid/);
      assert.deepEqual(authenticate(bearer(secret)), key);
      await refusal(authenticate, bearer(mistyped(secret)), "invalid_api_key");
    }
  },
);

onEachDatabase(
  "the anonymous key's newest state counts: its caps may change and it may be closed",
  async (t, dialect) => {
    const { open, database, keyRing, anonymousKey } = await setUp(t, dialect);
    const change = (set: string) =>
      database.transact([
        {
          sql: `update api_keys set ${set}, revision = (select max(revision) + 1 from api_keys) where id = ?`,
          params: [anonymousKey.id],
        },
      ]);
    await change("hard_cap_nano_usd = 7");
    await keyRing.refresh();
    const { revision } = keyRing.get(anonymousKey.id)!;
    assert.ok(revision > anonymousKey.revision);
    assert.deepEqual(open({}), { ...anonymousKey, revision, hardCap: 7n });
    await change("status = 'revoked'");
    await keyRing.refresh();
    assert.match(await refusal(open, {}, "key_revoked"), /no longer serves callers without a key/);
  },
);

onEachDatabase(
  "a secret that is forged, cut off or has characters swapped is refused by its checksum, without a single query",
  async (t, dialect) => {
    const { database, clock, anonymousKey, secret, keyRing } = await setUp(t, dialect);
    keyRing.stop();
    let queries = 0;
    const counted = createKeyRing({
      database: { ...database, all: (statement) => ((queries += 1), database.all(statement)) },
      clock,
    });
    await counted.start();
    t.after(() => counted.stop());
    const strict = createAuthenticator({ keyRing: counted, requireAuth: true, anonymousKey, clock });
    // Polls come twice a second, of which a slow machine may fit some in here.
    counted.stop();
    const before = queries;
    const wrong = new Set<string>();
    for (let at = "brikk_".length; at < secret.length; at += 1) {
      wrong.add(secret.slice(0, at));
      for (const other of ["0", "z", "A"]) wrong.add(secret.slice(0, at) + other + secret.slice(at + 1));
      wrong.add(secret.slice(0, at) + (secret[at + 1] ?? "") + secret[at] + secret.slice(at + 2));
    }
    for (const ending of ["0", "=", "000000"]) wrong.add(secret + ending);
    wrong.add(secret.toLowerCase());
    wrong.add(`brikk_${"A".repeat(46)}`);
    wrong.delete(secret);
    assert.ok(wrong.size > 150);
    for (const text of wrong) assert.match(await refusal(strict, own(text), "invalid_api_key"), /checksum|not a key/);
    assert.equal(queries, before);
    await refusal(strict, own(newSecret()), "invalid_api_key");
    assert.equal(queries, before + 1, "a well-formed one is looked up");
  },
);

onEachDatabase(
  "a secret that was replaced without a grace has ended by a clock that is behind as well, one in its grace has not",
  async (t, dialect) => {
    const { clock, keyStore, keyRing, anonymousKey, key, secret } = await setUp(t, dialect);
    const behind = { ...clock, now: () => clock.now() - 3_600_000 };
    const authenticate = createAuthenticator({ keyRing, requireAuth: true, anonymousKey, clock: behind });
    assert.equal((await authenticate(bearer(secret))).id, key.id);
    const inGrace = (await keyStore.rotate(key.id, { graceMs: 30_000 }))!.secret;
    await keyRing.refresh();
    assert.equal((await authenticate(bearer(secret))).id, key.id);
    clock.advance(1);
    const newest = (await keyStore.rotate(key.id, { graceMs: 0 }))!.secret;
    await keyRing.refresh();
    for (const ended of [secret, inGrace]) await refusal(authenticate, bearer(ended), "key_expired");
    assert.equal((await authenticate(bearer(newest))).id, key.id);
  },
);
