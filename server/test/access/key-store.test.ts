import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import type { TestContext } from "node:test";
import { ANONYMOUS_KEY_ID, keyStatusAt } from "../../src/access/api-key.ts";
import { type CreatedKey, createKeyStore } from "../../src/access/key-store.ts";
import { parseSecret } from "../../src/access/secret.ts";
import { nanoUsd } from "../../src/lib/money.ts";
import type { DialectName } from "../../src/storage/database.ts";
import { databasePathOf } from "../../src/storage/database-path.ts";
import { openDatabase } from "../../src/storage/open-database.ts";
import { createTestClock } from "../lib/test-clock.ts";
import { onEachDatabase, scratchDatabase } from "../storage/scratch.ts";

async function setUp(t: TestContext, dialect: DialectName) {
  const { database, url } = await scratchDatabase(t, dialect);
  const clock = createTestClock();
  const changes: number[] = [];
  const keyStore = createKeyStore({ database, clock, onChange: async () => void changes.push(clock.now()) });
  return { database, url, clock, keyStore, changes };
}

onEachDatabase(
  "a created key carries what was asked for and a valid secret; what was not asked for follows the settings",
  async (t, dialect) => {
    const { keyStore, clock, changes } = await setUp(t, dialect);
    const expiresAtMs = clock.now() + 1_000;
    const { key, secret } = await keyStore.create({
      name: "all",
      softCap: nanoUsd(5n),
      hardCap: nanoUsd(2n ** 60n),
      rateLimitPerMin: 7,
      expiresAtMs,
    });
    assert.match(key.id, /^bk_[0-9A-Za-z]{12}$/);
    assert.equal(parseSecret(secret), secret);
    assert.deepEqual(key, {
      id: key.id,
      name: "all",
      state: { kind: "active" },
      revision: 1,
      softCap: 5n,
      hardCap: 2n ** 60n,
      rateLimitPerMin: 7,
      createdAtMs: clock.now(),
      expiresAtMs,
    });
    const { key: plain } = await keyStore.create({ name: "plain" });
    assert.deepEqual(Object.keys(plain).sort(), ["createdAtMs", "id", "name", "revision", "state"]);
    assert.equal(changes.length, 2);
    assert.throws(() => Object.assign(key, { name: "other" }), TypeError);
  },
);

onEachDatabase("a secret is nowhere in the database, nor are its random characters", async (t, dialect) => {
  const { keyStore, database, url } = await setUp(t, dialect);
  const { secret } = await keyStore.create({ name: "hidden" });
  let kept: string;
  if (dialect === "sqlite") {
    const path = databasePathOf(url);
    kept = [path, `${path}-wal`].map((file) => readFileSync(file).toString("latin1")).join();
  } else {
    const rows = await database.all({
      sql: "select cast(k as text) as k, cast(s as text) as s from api_keys k join api_key_secrets s on s.key_id = k.id",
      params: [],
    });
    kept = JSON.stringify(rows);
  }
  assert.ok(kept.includes("hidden"));
  assert.ok(!kept.includes(secret));
  assert.ok(!kept.includes(secret.slice(12, 40)));
});

onEachDatabase("keys are listed oldest first with the first 12 characters of their secrets", async (t, dialect) => {
  const { keyStore, clock } = await setUp(t, dialect);
  const first = await keyStore.create({ name: "first" });
  clock.advance(1);
  await keyStore.ensureAnonymousKey();
  clock.advance(1);
  const last = await keyStore.create({ name: "last" });
  const secretOf = ({ key, secret }: CreatedKey) => ({ prefix: secret.slice(0, 12), createdAtMs: key.createdAtMs });
  assert.deepEqual(await keyStore.list({ limit: 10 }), {
    keys: [
      { key: first.key, secrets: [secretOf(first)], hasSigningSecret: false },
      { key: await keyStore.ensureAnonymousKey(), secrets: [], hasSigningSecret: false },
      { key: last.key, secrets: [secretOf(last)], hasSigningSecret: false },
    ],
    next: undefined,
  });
});

onEachDatabase(
  "revoking is for good, keeps its first moment, and says when there is no such key",
  async (t, dialect) => {
    const { keyStore, clock, changes } = await setUp(t, dialect);
    const { key } = await keyStore.create({ name: "short-lived", expiresAtMs: clock.now() + 10 });
    const atMs = clock.now();
    const first = await keyStore.revoke(key.id);
    assert.deepEqual(first, {
      key: { ...key, revision: 2, state: { kind: "revoked", revokedAtMs: atMs } },
      changed: true,
    });
    clock.advance(50);
    const second = await keyStore.revoke(key.id);
    assert.deepEqual(second, { key: first?.key, changed: false });
    assert.equal(keyStatusAt(first.key, clock.now()), "revoked");
    assert.equal(await keyStore.revoke("bk_000000000000"), undefined);
    assert.equal(changes.length, 2);
  },
);

onEachDatabase(
  "a change is made on the newest state, replaces what was chosen and nothing else, and is a change for key rings",
  async (t, dialect) => {
    const { keyStore, database, url, clock, changes } = await setUp(t, dialect);
    const { key } = await keyStore.create({ name: "k", hardCap: nanoUsd(5n), month: { softCap: nanoUsd(1n) } });
    const updated = await keyStore.update(key.id, ({ name, rateLimitPerMin = 0 }) => ({
      name: `${name}2`,
      rateLimitPerMin: rateLimitPerMin + 7,
      week: { hardCap: nanoUsd(9n) },
    }));
    const expected = { id: key.id, state: key.state, revision: 2, createdAtMs: key.createdAtMs };
    assert.deepEqual(updated, { ...expected, name: "k2", rateLimitPerMin: 7, week: { hardCap: 9n } });
    assert.equal(changes.length, 2);
    await assert.rejects(
      keyStore.update(key.id, () => {
        throw new Error("no");
      }),
      /^Error: no$/,
    );
    assert.equal(await keyStore.update("bk_000000000000", (before) => before), undefined);
    assert.equal(changes.length, 2);

    const elsewhere = await openDatabase({ url });
    t.after(() => elsewhere.close());
    const other = createKeyStore({ database: elsewhere, clock });
    await Promise.all(
      Array.from({ length: 20 }, (_, n) =>
        (n % 2 === 0 ? keyStore : other).update(key.id, (before) => ({
          ...before,
          rateLimitPerMin: before.rateLimitPerMin! + 1,
        })),
      ),
    );
    const [row] = await database.query.selectFrom("api_keys").select(["rate_limit_per_min", "revision"]).execute();
    assert.deepEqual([row?.rate_limit_per_min, row?.revision], [27n, 22n]);
  },
);

onEachDatabase("a key is expired from the very millisecond that was set", async (t, dialect) => {
  const { keyStore, clock } = await setUp(t, dialect);
  const { key } = await keyStore.create({ name: "k", expiresAtMs: clock.now() + 10 });
  assert.equal(keyStatusAt(key, clock.now() + 9), "active");
  assert.equal(keyStatusAt(key, clock.now() + 10), "expired");
});

onEachDatabase("the anonymous key is made once, whoever asks and how often", async (t, dialect) => {
  const { keyStore, url, clock, changes } = await setUp(t, dialect);
  const elsewhere = await openDatabase({ url });
  t.after(() => elsewhere.close());
  const other = createKeyStore({ database: elsewhere, clock });
  const made = await Promise.all([
    keyStore.ensureAnonymousKey(),
    other.ensureAnonymousKey(),
    keyStore.ensureAnonymousKey(),
  ]);
  for (const key of made) assert.deepEqual(key, made[0]);
  assert.equal(made[0].id, ANONYMOUS_KEY_ID);
  assert.equal((await keyStore.list({ limit: 10 })).keys.length, 1);
  assert.ok(changes.length <= 1);
});

onEachDatabase(
  "every change has a revision of its own, higher than all before, with two processes writing",
  async (t, dialect) => {
    const { keyStore, database, url, clock } = await setUp(t, dialect);
    const elsewhere = await openDatabase({ url });
    t.after(() => elsewhere.close());
    const other = createKeyStore({ database: elsewhere, clock });
    const made = await Promise.all(
      Array.from({ length: 20 }, (_, n) => (n % 2 === 0 ? keyStore : other).create({ name: `k${n}` })),
    );
    await Promise.all(made.slice(0, 10).map(({ key }, n) => (n % 2 === 0 ? other : keyStore).revoke(key.id)));
    const rows = await database.query
      .selectFrom("api_keys")
      .select(["revision", "status"])
      .orderBy("revision")
      .execute();
    assert.equal(new Set(rows.map((row) => row.revision)).size, 20);
    assert.equal(rows.at(-1)?.revision, 30n);
    assert.ok(rows.slice(-10).every((row) => row.status === "revoked"));
  },
);

onEachDatabase(
  "a reader that asks for what is above the highest revision it saw misses no change of many writers",
  async (t, dialect) => {
    const { database, url, clock } = await setUp(t, dialect);
    const WRITERS = 4;
    const EACH = 15;
    const stores = await Promise.all(
      Array.from({ length: WRITERS }, async () => {
        const elsewhere = await openDatabase({ url });
        t.after(() => elsewhere.close());
        return createKeyStore({ database: elsewhere, clock });
      }),
    );
    const seen = new Map<string, string>();
    let highest = 0n;
    const look = async (): Promise<void> => {
      const rows = await database.all({
        sql: "select id, status, revision from api_keys where revision > ? order by revision",
        params: [highest],
      });
      for (const row of rows) {
        seen.set(String(row["id"]), String(row["status"]));
        highest = row["revision"] as bigint;
      }
    };
    let writing = true;
    const watching = (async () => {
      while (writing) await look();
    })();
    const made = await Promise.all(
      stores.flatMap((store, writer) =>
        // Ten at once of each, as many as there are connections.
        Array.from({ length: EACH }, async (_, n) => {
          const { key } = await store.create({ name: `${writer}-${n}` });
          if (n % 3 === 0) await stores[(writer + 1) % WRITERS]!.revoke(key.id);
          return { id: key.id, status: n % 3 === 0 ? "revoked" : "active" };
        }),
      ),
    );
    writing = false;
    await watching;
    await look();
    for (const { id, status } of made) assert.equal(seen.get(id), status);
    assert.equal(highest, BigInt(WRITERS * EACH + WRITERS * (EACH / 3)));
  },
);
