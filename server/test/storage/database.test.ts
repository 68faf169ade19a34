import assert from "node:assert/strict";
import { DatabaseSync } from "node:sqlite";
import { test } from "node:test";
import type { Worker } from "node:worker_threads";
import fc from "fast-check";
import {
  ConstraintViolation,
  type SqlValue,
  StatementRejected,
  StorageUnavailable,
} from "../../src/storage/database.ts";
import { databaseOver, openDatabase } from "../../src/storage/open-database.ts";
import { countPlaceholders } from "../../src/storage/placeholders.ts";
import { SqliteThread, startSqliteWorker } from "../../src/storage/sqlite-thread.ts";
import { runChild, scratchDatabase, scratchFolder, sourceUrl } from "./scratch.ts";

const ADD_KEY = "insert into api_keys (id, name, status, created_at_ms, revision) values (?, ?, 'active', ?, ?)";
const addKey = (id: string, revision: number) => ({ sql: ADD_KEY, params: [id, `name of ${id}`, 0, revision] });
const COUNT_KEYS = { sql: "select count(*) as n from api_keys", params: [] };

test("a transaction whose second statement fails leaves nothing of the first", async (t) => {
  const { database } = await scratchDatabase(t);
  await assert.rejects(
    database.transact([addKey("a", 1), addKey("a", 2)]),
    (error) => error instanceof ConstraintViolation && error.constraint === "unique",
  );
  assert.deepEqual(await database.all(COUNT_KEYS), [{ n: 0n }]);
  await database.transact([addKey("a", 1), addKey("b", 2)]);
  assert.deepEqual(await database.all(COUNT_KEYS), [{ n: 2n }]);
});

test("each statement of a transaction gives its own rows and sees those before it", async (t) => {
  const { database } = await scratchDatabase(t);
  const rows = await database.transact([
    addKey("a", 1),
    COUNT_KEYS,
    { sql: "update api_keys set revision = ? returning id, revision", params: [9] },
  ]);
  assert.deepEqual(rows, [[], [{ n: 1n }], [{ id: "a", revision: 9n }]]);
  assert.deepEqual(await database.transact([]), []);
});

test("whole numbers are stored as integers and come back exactly, beyond 2^53 too", async (t) => {
  const { database } = await scratchDatabase(t);
  const most = 2n ** 63n - 1n;
  const rows = await database.all({
    sql: "select ? as a, typeof(?) as b, ? as c, ? as d, ? as e",
    params: [most, 7, null, "text", new Uint8Array([1, 2])],
  });
  assert.deepEqual(rows, [{ a: most, b: "integer", c: null, d: "text", e: new Uint8Array([1, 2]) }]);
});

const refusedParameters: readonly [string, unknown[]][] = [
  ["too few", ["a"]],
  ["too many", ["a", "b", 1, 2, 3]],
  ["undefined", ["a", undefined, 1, 1]],
  ["NaN", ["a", "b", Number.NaN, 1]],
  ["a fraction", ["a", "b", 0.5, 1]],
  ["a number that lost digits", ["a", "b", 2 ** 60, 1]],
  ["a boolean", ["a", "b", true, 1]],
  ["a date", [new Date(0), "b", 1, 1]],
  ["a function", ["a", () => 1, 1, 1]],
];
for (const [what, params] of refusedParameters) {
  test(`parameters are refused, and nothing is written, for ${what}`, async (t) => {
    const { database } = await scratchDatabase(t);
    await assert.rejects(
      database.transact([addKey("x", 1), { sql: ADD_KEY, params: params as SqlValue[] }]),
      StatementRejected,
    );
    assert.deepEqual(await database.all(COUNT_KEYS), [{ n: 0n }]);
  });
}

test("SQL that is wrong, or uses named or numbered placeholders, is refused as a fault in the statement", async (t) => {
  const { database } = await scratchDatabase(t);
  for (const sql of ["select ?1", "select :name", "select $name", "selec 1", "select * from nowhere"]) {
    await assert.rejects(database.all({ sql, params: [] }), StatementRejected);
  }
});

test("placeholders are counted outside of literals, quoted names and comments only", () => {
  const silent = fc.constantFrom(
    "'it''s ?'",
    '"a ""?"" b"',
    "`?`",
    "[?]",
    "-- ?\n",
    "/* ?\n? */",
    "x",
    ", ",
    " = ",
    "'?'",
  );
  fc.assert(
    fc.property(fc.array(fc.oneof(silent, fc.constant("?"))), (pieces) => {
      assert.equal(countPlaceholders(pieces.join(" ")), pieces.filter((piece) => piece === "?").length);
    }),
  );
});

test("every kind of constraint is named", async (t) => {
  const { database } = await scratchDatabase(t);
  const cases: readonly [string, string][] = [
    ["insert into api_keys (id, name, status, created_at_ms, revision) values ('a', 'a', 'odd', 0, 1)", "check"],
    ["insert into api_keys (id, status, created_at_ms, revision) values ('a', 'active', 0, 1)", "not-null"],
    ["insert into api_keys (id, name, status, created_at_ms, revision) values ('a', 'a', 'active', 'noon', 1)", "type"],
    [
      "insert into api_key_secrets (secret_hash, key_id, prefix, created_at_ms) values ('h', 'nobody', 'p', 0)",
      "foreign-key",
    ],
  ];
  for (const [sql, constraint] of cases) {
    await assert.rejects(
      database.all({ sql, params: [] }),
      (error) => error instanceof ConstraintViolation && error.constraint === constraint,
    );
  }
});

test("a batch never lands inside an open builder transaction, whose end it outlives", async (t) => {
  const { database } = await scratchDatabase(t);
  let batch: Promise<unknown> | undefined;
  let read: Promise<unknown> | undefined;
  const seen: string[] = [];
  await assert.rejects(
    database.query.transaction().execute(async (transaction) => {
      await transaction
        .insertInto("api_keys")
        .values({ id: "inside", name: "", status: "active", created_at_ms: 0, revision: 1 })
        .execute();
      batch = database.transact([addKey("batch", 2)]).then(() => seen.push("batch"));
      read = database.all(COUNT_KEYS).then((rows) => seen.push(`read ${String(rows[0]?.["n"])}`));
      await transaction.selectFrom("api_keys").selectAll().execute();
      assert.deepEqual(seen, []);
      throw new Error("changed my mind");
    }),
    /changed my mind/,
  );
  await Promise.all([batch, read]);
  assert.deepEqual(seen, ["batch", "read 1"]);
  assert.deepEqual(await database.query.selectFrom("api_keys").select("id").execute(), [{ id: "batch" }]);
});

test("builder transactions, batches and reads from many callers all end and keep every row", async (t) => {
  const { database } = await scratchDatabase(t);
  await Promise.all(
    Array.from({ length: 60 }, (_, index) => {
      if (index % 3 === 0) return database.transact([addKey(`k${index}`, index + 1)]);
      if (index % 3 === 1) return database.all(COUNT_KEYS);
      return database.query.transaction().execute(async (transaction) => {
        const row = { name: "", status: "active", created_at_ms: 0, revision: index + 1 } as const;
        await transaction
          .insertInto("api_keys")
          .values({ ...row, id: `k${index}` })
          .execute();
        await transaction.updateTable("api_keys").set({ name: "done" }).where("id", "=", `k${index}`).execute();
      });
    }),
  );
  assert.deepEqual(await database.all(COUNT_KEYS), [{ n: 40n }]);
});

test("a statement that fails inside a builder transaction leaves the connection usable and counts changed rows right", async (t) => {
  const { database } = await scratchDatabase(t);
  await database.transact([addKey("a", 1), addKey("b", 2)]);
  await assert.rejects(
    database.query
      .transaction()
      .execute((transaction) =>
        transaction
          .insertInto("api_keys")
          .values({ id: "a", name: "", status: "active", created_at_ms: 0, revision: 3 })
          .execute(),
      ),
    ConstraintViolation,
  );
  const result = await database.query.updateTable("api_keys").set({ name: "n" }).executeTakeFirst();
  assert.equal(result.numUpdatedRows, 2n);
  await assert.rejects(async () => {
    for await (const row of database.query.selectFrom("api_keys").selectAll().stream()) assert.fail(row.id);
  }, StatementRejected);
});

test("a full disk is StorageUnavailable, takes the whole transaction back and passes when there is room again", async (t) => {
  const { database } = await scratchDatabase(t);
  const [{ page_count: pages } = {}] = await database.all({ sql: "pragma page_count", params: [] });
  await database.all({ sql: `pragma max_page_count = ${String(pages)}`, params: [] });
  const large = { sql: ADD_KEY, params: ["large", "x".repeat(100_000), 0, 2] };
  await assert.rejects(database.transact([addKey("small", 1), large]), StorageUnavailable);
  assert.deepEqual(await database.all(COUNT_KEYS), [{ n: 0n }]);
  await database.all({ sql: "pragma max_page_count = 100000", params: [] });
  await database.transact([addKey("small", 1), large]);
});

test("a write lock that another process does not give up is StorageUnavailable, and reads go on", async (t) => {
  const { path, url } = await scratchDatabase(t);
  const database = await openDatabase({ url, busyTimeoutMs: 20 });
  t.after(() => database.close());
  const other = new DatabaseSync(path);
  t.after(() => other.close());
  other.exec("begin immediate");
  await assert.rejects(database.transact([addKey("a", 1)]), StorageUnavailable);
  await assert.rejects(
    database.query.transaction().execute(async () => {}),
    StorageUnavailable,
  );
  assert.deepEqual(await database.all(COUNT_KEYS), [{ n: 0n }]);
  other.exec("rollback");
  await database.transact([addKey("a", 1)]);
});

test("when the thread dies, what is pending and what comes later rejects with StorageUnavailable", async (t) => {
  const { path } = await scratchDatabase(t);
  const worker: Worker = startSqliteWorker();
  const thread = new SqliteThread(worker);
  await thread.post({ kind: "open", path, busyTimeoutMs: 20 });
  const database = databaseOver(thread);
  const endless = "with recursive n(i) as (select 1 union all select i + 1 from n) select count(*) from n";
  const pending = [database.all({ sql: endless, params: [] }), database.transact([addKey("a", 1)])].map((call) =>
    assert.rejects(call, StorageUnavailable),
  );
  await worker.terminate();
  await Promise.all(pending);
  await assert.rejects(database.all(COUNT_KEYS), StorageUnavailable);
  await assert.rejects(database.query.selectFrom("api_keys").selectAll().execute(), StorageUnavailable);
  await database.close();
});

test("closing lets earlier calls finish, refuses later ones and may be repeated", async (t) => {
  const { database, url } = await scratchDatabase(t);
  const before = database.transact([addKey("a", 1)]);
  await Promise.all([database.close(), database.close(), before]);
  await assert.rejects(database.all(COUNT_KEYS), StorageUnavailable);
  const again = await openDatabase({ url });
  t.after(() => again.close());
  assert.deepEqual(await again.all(COUNT_KEYS), [{ n: 1n }]);
});

test("a process killed right after an acknowledgement keeps every acknowledged row", async (t) => {
  const url = `sqlite:${scratchFolder(t)}/brikk.db`;
  const child = runChild(
    t,
    `import { openDatabase } from ${JSON.stringify(sourceUrl("storage/open-database.ts"))};
     const database = await openDatabase({ url: ${JSON.stringify(url)} });
     for (let n = 1; ; n += 1) {
       await database.transact([{ sql: ${JSON.stringify(ADD_KEY)}, params: ["key" + n, "", 0, n] }]);
       process.stdout.write(n + "\\n");
     }`,
  );
  let acknowledged = 0;
  while (acknowledged < 200) acknowledged = Number(await child.line());
  await child.kill();
  acknowledged = Number((await child.ended).stdout.trimEnd().split("\n").at(-1));
  const database = await openDatabase({ url });
  t.after(() => database.close());
  const [{ n: stored = 0n } = {}] = await database.all(COUNT_KEYS);
  assert.ok(Number(stored) >= acknowledged, `${String(stored)} rows stored, ${acknowledged} acknowledged`);
  assert.deepEqual(await database.all({ sql: "pragma integrity_check", params: [] }), [{ integrity_check: "ok" }]);
});

test("commits are fsynced: the log is write-ahead and synchronous is full", async (t) => {
  const { database } = await scratchDatabase(t);
  assert.deepEqual(await database.all({ sql: "pragma journal_mode", params: [] }), [{ journal_mode: "wal" }]);
  assert.deepEqual(await database.all({ sql: "pragma synchronous", params: [] }), [{ synchronous: 2n }]);
});

test("more different statements than are kept prepared all work", async (t) => {
  const { database } = await scratchDatabase(t);
  for (const round of [1, 2]) {
    const rows = await database.transact(
      Array.from({ length: 600 }, (_, index) => ({ sql: `select ${index} * ? as n`, params: [round] })),
    );
    assert.deepEqual(
      rows.map(([row]) => row?.["n"]),
      Array.from({ length: 600 }, (_, index) => BigInt(index * round)),
    );
  }
});
