import assert from "node:assert/strict";
import { mock, type TestContext } from "node:test";
import { createKeyRing } from "../../src/access/key-ring.ts";
import { createKeyStore } from "../../src/access/key-store.ts";
import { hashSecret, newSecret } from "../../src/access/secret.ts";
import { BrikkError } from "../../src/errors.ts";
import type { Database, DialectName } from "../../src/storage/database.ts";
import { openDatabase } from "../../src/storage/open-database.ts";
import { createTestClock } from "../lib/test-clock.ts";
import { onEachDatabase, scratchDatabase } from "../storage/scratch.ts";

/** Passes everything on to the real database and counts the single statements. */
function counting(database: Database): { readonly database: Database; readonly count: () => number } {
  let count = 0;
  return {
    database: {
      ...database,
      all: (statement) => {
        count += 1;
        return database.all(statement);
      },
    },
    count: () => count,
  };
}

async function setUp(t: TestContext, dialect: DialectName) {
  const { database, url } = await scratchDatabase(t, dialect);
  const elsewhere = await openDatabase({ url });
  t.after(() => elsewhere.close());
  const clock = createTestClock();
  const counted = counting(database);
  const failures: unknown[] = [];
  const keyRing = createKeyRing({
    database: counted.database,
    clock,
    onRefreshFailed: (error) => failures.push(error),
  });
  t.after(() => keyRing.stop());
  /** A store in another process, as the command line's is. */
  const otherProcess = createKeyStore({ database: elsewhere, clock });
  return { database, elsewhere, clock, keyRing, otherProcess, queries: counted.count, failures };
}

const UNENDED = { secretNotAfterMs: undefined, secretReplaced: false, signingSecret: undefined };

const isPromise = (value: unknown): value is Promise<unknown> => value instanceof Promise;

onEachDatabase("keys that existed at the start are found synchronously", async (t, dialect) => {
  const { keyRing, otherProcess, queries } = await setUp(t, dialect);
  const { key, secret } = await otherProcess.create({ name: "early" });
  await keyRing.start();
  const asked = queries();
  assert.deepEqual(keyRing.find(hashSecret(secret)), { key, ...UNENDED });
  assert.deepEqual(keyRing.get(key.id), key);
  assert.equal(keyRing.get("bk_000000000000"), undefined);
  assert.equal(queries(), asked);
});

onEachDatabase("all keys are known when they are more than one answer of the database holds", async (t, dialect) => {
  const { keyRing, database, queries } = await setUp(t, dialect);
  const numbers = Array.from({ length: 4_100 }, (_, index) => index + 1);
  await database.transact(
    numbers.flatMap((number) => [
      {
        sql: "insert into api_keys (id, name, status, revision, created_at_ms) values (?, 'one of many', 'active', ?, 0)",
        params: [`bk_${number}`, number],
      },
      // The page's bound counts keys, of which some have more than one secret.
      ...(number % 2 === 0 ? ["old", "new"] : ["new"]).map((which) => ({
        sql: "insert into api_key_secrets (secret_hash, key_id, prefix, created_at_ms) values (?, ?, 'brikk_', 0)",
        params: [`${which} ${number}`, `bk_${number}`],
      })),
    ]),
  );
  await keyRing.start();
  assert.equal(queries(), 3);
  for (const number of numbers) {
    assert.equal(keyRing.recall(`new ${number}`)?.key.id, `bk_${number}`);
    assert.equal(keyRing.recall(`old ${number}`) !== undefined, number % 2 === 0);
  }
});

onEachDatabase("a row that cannot be read holds up what comes with it and loses none of it", async (t, dialect) => {
  const { keyRing, otherProcess, elsewhere } = await setUp(t, dialect);
  await keyRing.start();
  const { key, secret } = await otherProcess.create({ name: "sound" });
  const broken = await otherProcess.create({ name: "broken", metadata: { team: "billing" } });
  const setMetadata = (text: string) =>
    elsewhere.transact([{ sql: "update api_keys set metadata = ? where id = ?", params: [text, broken.key.id] }]);
  await setMetadata("no JSON");
  await assert.rejects(keyRing.refresh());
  await setMetadata("{}");
  await keyRing.refresh();
  assert.deepEqual(keyRing.find(hashSecret(secret)), { key, ...UNENDED });
  assert.equal(keyRing.get(broken.key.id)?.name, "broken");
});

onEachDatabase("a key that another process made a moment ago works at once", async (t, dialect) => {
  const { keyRing, otherProcess } = await setUp(t, dialect);
  await keyRing.start();
  const { key, secret } = await otherProcess.create({ name: "new" });
  const found = keyRing.find(hashSecret(secret));
  assert.ok(isPromise(found));
  assert.deepEqual((await found)?.key, key);
});

onEachDatabase(
  "a key revoked by another process is known as revoked after the next refresh, while cached",
  async (t, dialect) => {
    const { keyRing, otherProcess } = await setUp(t, dialect);
    const { key, secret } = await otherProcess.create({ name: "doomed" });
    await keyRing.start();
    await otherProcess.revoke(key.id);
    await keyRing.refresh();
    const found = keyRing.find(hashSecret(secret));
    assert.ok(found !== undefined && !isPromise(found));
    assert.equal(found.key.state.kind, "revoked");
  },
);

onEachDatabase("polls run twice a second, find changes, survive failures and end with stop()", async (t, dialect) => {
  mock.timers.enable({ apis: ["setTimeout"] });
  t.after(() => mock.timers.reset());
  const { keyRing, otherProcess, queries, failures, database } = await setUp(t, dialect);
  await keyRing.start();
  await keyRing.start();
  const { key } = await otherProcess.create({ name: "polled" });
  const before = queries();
  mock.timers.tick(499);
  assert.equal(queries(), before);
  mock.timers.tick(1);
  assert.equal(queries(), before + 1);
  // Shares the order of the connection: once this is through, so is the poll.
  await keyRing.refresh();
  assert.deepEqual(keyRing.get(key.id), key);

  await database.close();
  await assert.rejects(keyRing.refresh());
  mock.timers.tick(500);
  await assert.rejects(keyRing.refresh());
  assert.equal(failures.length, 1);
  assert.deepEqual(keyRing.get(key.id), key);
  await new Promise((resolve) => setImmediate(resolve));
  mock.timers.tick(500);
  await new Promise((resolve) => setImmediate(resolve));
  assert.equal(failures.length, 2);

  keyRing.stop();
  const last = queries();
  mock.timers.tick(10_000);
  assert.equal(queries(), last);
});

onEachDatabase(
  "any number of unknown secrets at once cost two queries, and all get their answer",
  async (t, dialect) => {
    const { keyRing, queries, otherProcess } = await setUp(t, dialect);
    await keyRing.start();
    const { secret } = await otherProcess.create({ name: "among them" });
    const before = queries();
    const hashes = [
      ...Array.from({ length: 500 }, () => hashSecret(newSecret())),
      hashSecret(secret),
      hashSecret(secret),
    ];
    const answers = await Promise.all(hashes.map(async (hash) => keyRing.find(hash)));
    assert.equal(queries() - before, 2);
    assert.equal(answers.filter((answer) => answer !== undefined).length, 2);
  },
);

onEachDatabase("a key made while a query was already under way is found by the one after it", async (t, dialect) => {
  const { keyRing, otherProcess } = await setUp(t, dialect);
  await keyRing.start();
  const underWay = keyRing.find(hashSecret(newSecret()));
  const { secret } = await otherProcess.create({ name: "late" });
  const again = keyRing.find(hashSecret(newSecret()));
  const found = keyRing.find(hashSecret(secret));
  assert.equal(await underWay, undefined);
  assert.equal(await again, undefined);
  assert.equal((await found)?.key.name, "late");
});

onEachDatabase("an unknown secret is not asked about again for a second, then it is", async (t, dialect) => {
  const { keyRing, clock, queries } = await setUp(t, dialect);
  await keyRing.start();
  const hash = hashSecret(newSecret());
  assert.equal(await keyRing.find(hash), undefined);
  const before = queries();
  clock.advance(999);
  assert.equal(keyRing.find(hash), undefined);
  assert.equal(queries(), before);
  clock.advance(1);
  assert.ok(isPromise(keyRing.find(hash)));
});

onEachDatabase("a secret that was unknown a moment ago is found once a refresh has seen it", async (t, dialect) => {
  const { keyRing, otherProcess, elsewhere } = await setUp(t, dialect);
  await keyRing.start();
  const { key } = await otherProcess.create({ name: "owner" });
  const added = newSecret();
  assert.equal(await keyRing.find(hashSecret(added)), undefined);
  await elsewhere.transact([
    {
      sql: "insert into api_key_secrets (secret_hash, key_id, prefix, created_at_ms, not_after_ms) values (?, ?, 'brikk_', 0, 42)",
      params: [hashSecret(added), key.id],
    },
    { sql: "update api_keys set revision = (select max(revision) + 1 from api_keys) where id = ?", params: [key.id] },
  ]);
  await keyRing.refresh();
  assert.deepEqual(keyRing.find(hashSecret(added)), {
    key: { ...key, revision: key.revision + 1 },
    secretNotAfterMs: 42,
    secretReplaced: true,
    signingSecret: undefined,
  });
});

onEachDatabase("a secret that was taken from a key is forgotten with the key's next change", async (t, dialect) => {
  const { keyRing, otherProcess, elsewhere } = await setUp(t, dialect);
  const { key, secret } = await otherProcess.create({ name: "owner" });
  await keyRing.start();
  await elsewhere.transact([
    { sql: "delete from api_key_secrets where key_id = ?", params: [key.id] },
    { sql: "update api_keys set revision = (select max(revision) + 1 from api_keys) where id = ?", params: [key.id] },
  ]);
  await keyRing.refresh();
  assert.equal(await keyRing.find(hashSecret(secret)), undefined);
});

onEachDatabase("remembered unknown secrets are bounded: the oldest is asked about again", async (t, dialect) => {
  const { keyRing, queries } = await setUp(t, dialect);
  await keyRing.start();
  const oldest = hashSecret(newSecret());
  await keyRing.find(oldest);
  await Promise.all(Array.from({ length: 10_000 }, async (_, n) => keyRing.find(`unknown ${n}`)));
  const before = queries();
  assert.equal(keyRing.find("unknown 9999"), undefined);
  assert.equal(await keyRing.find(oldest), undefined);
  assert.equal(queries(), before + 1);
});

onEachDatabase(
  "while storage is down known keys work and unknown ones get storage_unavailable, which is not remembered",
  async (t, dialect) => {
    const { keyRing, otherProcess, database } = await setUp(t, dialect);
    const { key, secret } = await otherProcess.create({ name: "known" });
    await keyRing.start();
    await database.close();
    assert.deepEqual(keyRing.find(hashSecret(secret)), { key, ...UNENDED });
    const unknown = hashSecret(newSecret());
    for (const _ of [1, 2]) {
      await assert.rejects(
        async () => keyRing.find(unknown),
        (error) => error instanceof BrikkError && error.code === "storage_unavailable" && error.status === 503,
      );
    }
  },
);

onEachDatabase("a start without storage says so", async (t, dialect) => {
  const { keyRing, database } = await setUp(t, dialect);
  await database.close();
  await assert.rejects(keyRing.start());
});

onEachDatabase(
  "a key that another process makes, and its revocation, are known within two seconds",
  async (t, dialect) => {
    const { keyRing, otherProcess } = await setUp(t, dialect);
    await keyRing.start();
    const knownWithinMs = async (check: () => boolean): Promise<number> => {
      const startedAtMs = performance.now();
      while (!check() && performance.now() - startedAtMs < 10_000)
        await new Promise((resolve) => setTimeout(resolve, 10));
      return performance.now() - startedAtMs;
    };
    const { key } = await otherProcess.create({ name: "new" });
    assert.ok((await knownWithinMs(() => keyRing.get(key.id) !== undefined)) < 2_000);
    await otherProcess.revoke(key.id);
    assert.ok((await knownWithinMs(() => keyRing.get(key.id)?.state.kind === "revoked")) < 2_000);
  },
);
