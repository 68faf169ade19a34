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
import { openDatabase } from "../../src/storage/open-database.ts";
import { databaseOver } from "../../src/storage/open-sqlite.ts";
import { SqliteThread, startSqliteWorker } from "../../src/storage/sqlite-thread.ts";
import { countPlaceholders, numberPlaceholders } from "../../src/storage/placeholders.ts";
import { emptyDatabaseUrl, onEachDatabase, runChild, scratchDatabase, sourceUrl } from "./scratch.ts";

const ADD_KEY = "insert into api_keys (id, name, status, created_at_ms, revision) values (?, ?, 'active', ?, ?)";
const addKey = (id: string, revision: number | bigint) => ({
  sql: ADD_KEY,
  params: [id, `name of ${id}`, 0, revision],
});
const COUNT_FROM = "select count(*) as n from api_keys where revision >= ?";
const COUNT_KEYS = { sql: "select count(*) as n from api_keys", params: [] };

onEachDatabase("a transaction whose second statement fails leaves nothing of the first", async (t, dialect) => {
  const { database } = await scratchDatabase(t, dialect);
  await assert.rejects(
    database.transact([addKey("a", 1), addKey("a", 2)]),
    (error) => error instanceof ConstraintViolation && error.constraint === "unique",
  );
  assert.deepEqual(await database.all(COUNT_KEYS), [{ n: 0n }]);
  await database.transact([addKey("a", 1), addKey("b", 2)]);
  assert.deepEqual(await database.all(COUNT_KEYS), [{ n: 2n }]);
});

onEachDatabase("each statement of a transaction gives its own rows and sees those before it", async (t, dialect) => {
  const { database } = await scratchDatabase(t, dialect);
  const rows = await database.transact([
    addKey("a", 1),
    COUNT_KEYS,
    { sql: "update api_keys set revision = ? returning id, revision", params: [9] },
  ]);
  assert.deepEqual(rows, [[], [{ n: 1n }], [{ id: "a", revision: 9n }]]);
  assert.deepEqual(await database.transact([]), []);
});

onEachDatabase(
  "whole numbers are stored as integers and come back exactly, beyond 2^53 and summed too; text and bytes come back as they went in",
  async (t, dialect) => {
    const { database } = await scratchDatabase(t, dialect);
    const most = 2n ** 63n - 1n;
    const bytes = dialect === "sqlite" ? "blob" : "bytea";
    const rows = await database.all({
      sql: `select cast(? as bigint) as a, cast(? as bigint) as b, ? as c, cast(? as text) as d, cast(? as ${bytes}) as e,
        1 as f, 1.5 as g, 1 = 1 as h`,
      params: [most, -7, null, "text \u{1f600} 'quoted' \\x", new Uint8Array([0, 255])],
    });
    assert.deepEqual(rows, [
      { a: most, b: -7n, c: null, d: "text \u{1f600} 'quoted' \\x", e: new Uint8Array([0, 255]), f: 1n, g: 1.5, h: 1n },
    ]);
    await database.transact([addKey("a", 2n ** 62n), addKey("b", 2n ** 62n - 1n)]);
    const [sums] = await database.all({
      sql: "select sum(revision) as s, max(revision) as m from api_keys",
      params: [],
    });
    assert.deepEqual(sums, { s: most, m: 2n ** 62n });
    assert.equal(
      (await database.query.selectFrom("api_keys").select("revision").where("id", "=", "a").executeTakeFirstOrThrow())
        .revision,
      2n ** 62n,
    );
    await assert.rejects(database.all({ sql: COUNT_FROM, params: [2n ** 63n] }), StatementRejected);
  },
);

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
  onEachDatabase(`parameters are refused, and nothing is written, for ${what}`, async (t, dialect) => {
    const { database } = await scratchDatabase(t, dialect);
    await assert.rejects(
      database.transact([addKey("x", 1), { sql: ADD_KEY, params: params as SqlValue[] }]),
      StatementRejected,
    );
    assert.deepEqual(await database.all(COUNT_KEYS), [{ n: 0n }]);
  });
}

onEachDatabase(
  "SQL that is wrong, or uses named or numbered placeholders, is refused as a fault in the statement",
  async (t, dialect) => {
    const { database } = await scratchDatabase(t, dialect);
    for (const sql of [
      "select ?1",
      "select :name",
      "select $name",
      "select $1",
      "select @a",
      "selec 1",
      "select * from nowhere",
    ]) {
      await assert.rejects(database.all({ sql, params: [] }), StatementRejected);
    }
  },
);

test("placeholders are counted, and numbered, outside of literals, quoted names and comments only", () => {
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
      const sql = pieces.join(" ");
      assert.equal(countPlaceholders(sql), pieces.filter((piece) => piece === "?").length);
      let number = 0;
      const numbered = pieces.map((piece) => (piece === "?" ? `$${(number += 1)}` : piece));
      assert.deepEqual(numberPlaceholders(sql), { text: numbered.join(" "), count: number });
    }),
  );
});

onEachDatabase("every kind of constraint is named", async (t, dialect) => {
  const { database } = await scratchDatabase(t, dialect);
  const cases: readonly [string, string][] = [
    ["insert into api_keys (id, name, status, created_at_ms, revision) values ('a', 'a', 'odd', 0, 1)", "check"],
    ["insert into api_keys (id, status, created_at_ms, revision) values ('a', 'active', 0, 1)", "not-null"],
    [
      "insert into api_key_secrets (secret_hash, key_id, prefix, created_at_ms) values ('h', 'nobody', 'p', 0)",
      "foreign-key",
    ],
    ["insert into api_keys (id, name, status, created_at_ms, revision) values ('b', 'b', 'active', 0, 1)", "unique"],
  ];
  await database.transact([addKey("a", 1)]);
  for (const [sql, constraint] of cases) {
    await assert.rejects(
      database.all({ sql, params: [] }),
      (error) => error instanceof ConstraintViolation && error.constraint === constraint,
    );
  }
});

test("what is not of a column's type is refused", async (t) => {
  const { database } = await scratchDatabase(t);
  await assert.rejects(
    database.all({ sql: ADD_KEY, params: ["a", "a", "noon", 1] }),
    (error) => error instanceof ConstraintViolation && error.constraint === "type",
  );
});

onEachDatabase("a batch never lands inside an open builder transaction, whose end it outlives", async (t, dialect) => {
  const { database } = await scratchDatabase(t, dialect);
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
      // SQLite's one connection does what was asked in its order; PostgreSQL has others, which do not wait.
      if (dialect === "postgres") await batch;
      read = database.all(COUNT_KEYS).then((rows) => seen.push(`read ${String(rows[0]?.["n"])}`));
      if (dialect === "postgres") await read;
      await transaction.selectFrom("api_keys").selectAll().execute();
      assert.deepEqual(seen, dialect === "postgres" ? ["batch", "read 1"] : []);
      throw new Error("changed my mind");
    }),
    /changed my mind/,
  );
  await Promise.all([batch, read]);
  assert.deepEqual(seen, ["batch", "read 1"]);
  assert.deepEqual(await database.query.selectFrom("api_keys").select("id").execute(), [{ id: "batch" }]);
});

onEachDatabase(
  "builder transactions, batches and reads from many callers all end and keep every row",
  async (t, dialect) => {
    const { database } = await scratchDatabase(t, dialect);
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
  },
);

onEachDatabase(
  "a statement that fails inside a builder transaction leaves the connection usable and counts changed rows right",
  async (t, dialect) => {
    const { database } = await scratchDatabase(t, dialect);
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
    });
  },
);

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
  // Not without end: what SQLite is at when the thread is to die, it finishes first.
  const long =
    "with recursive n(i) as (select 1 union all select i + 1 from n where i < 5000000) select count(*) from n";
  const pending = [database.all({ sql: long, params: [] }), database.transact([addKey("a", 1)])].map((call) =>
    assert.rejects(call, StorageUnavailable),
  );
  await worker.terminate();
  await Promise.all(pending);
  await assert.rejects(database.all(COUNT_KEYS), StorageUnavailable);
  await assert.rejects(database.query.selectFrom("api_keys").selectAll().execute(), StorageUnavailable);
  await database.close();
});

onEachDatabase("closing lets earlier calls finish, refuses later ones and may be repeated", async (t, dialect) => {
  const { database, url } = await scratchDatabase(t, dialect);
  const before = database.transact([addKey("a", 1)]);
  await Promise.all([database.close(), database.close(), before]);
  await assert.rejects(database.all(COUNT_KEYS), StorageUnavailable);
  const again = await openDatabase({ url });
  t.after(() => again.close());
  assert.deepEqual(await again.all(COUNT_KEYS), [{ n: 1n }]);
});

onEachDatabase("a process killed right after an acknowledgement keeps every acknowledged row", async (t, dialect) => {
  const url = await emptyDatabaseUrl(t, dialect);
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
  if (dialect === "sqlite")
    assert.deepEqual(await database.all({ sql: "pragma integrity_check", params: [] }), [{ integrity_check: "ok" }]);
});

test("commits are fsynced: the log is write-ahead and synchronous is full", async (t) => {
  const { database } = await scratchDatabase(t);
  assert.deepEqual(await database.all({ sql: "pragma journal_mode", params: [] }), [{ journal_mode: "wal" }]);
  assert.deepEqual(await database.all({ sql: "pragma synchronous", params: [] }), [{ synchronous: 2n }]);
});

onEachDatabase("more different statements than are kept prepared all work", async (t, dialect) => {
  const { database } = await scratchDatabase(t, dialect);
  for (const round of [1, 2]) {
    const rows = await database.transact(
      Array.from({ length: 600 }, (_, index) => ({ sql: `select ${index} * cast(? as bigint) as n`, params: [round] })),
    );
    assert.deepEqual(
      rows.map(([row]) => row?.["n"]),
      Array.from({ length: 600 }, (_, index) => BigInt(index * round)),
    );
  }
});

onEachDatabase("what is read together is one state, which no writer waits for", async (t, dialect) => {
  const { database, url } = await scratchDatabase(t, dialect);
  const elsewhere = await openDatabase({ url, busyTimeoutMs: 50 });
  t.after(() => elsewhere.close());
  let written = 0;
  let reading = true;
  const writing = (async () => {
    // Always a pair, so that an odd count would be half a transaction.
    for (; reading || written < 20; written += 2)
      await elsewhere.transact([addKey(`k${written}`, written + 1), addKey(`k${written + 1}`, written + 2)]);
  })();
  while (written < 10) await database.all(COUNT_KEYS);
  for (let round = 0; round < 20; round += 1) {
    const counts = await database.read(Array.from({ length: 50 }, () => COUNT_KEYS));
    const first = counts[0]?.[0]?.["n"] as bigint;
    assert.equal(first % 2n, 0n);
    for (const rows of counts) assert.deepEqual(rows, [{ n: first }]);
  }
  reading = false;
  await writing;
  assert.deepEqual(await database.read([]), []);
});

onEachDatabase(
  "a statement that writes is refused where one is to be read, and writing goes on",
  async (t, dialect) => {
    const { database } = await scratchDatabase(t, dialect);
    await assert.rejects(database.read([COUNT_KEYS, addKey("a", 1)]), StatementRejected);
    await assert.rejects(database.read([COUNT_KEYS, { sql: "select * from nowhere", params: [] }]), StatementRejected);
    await database.transact([addKey("a", 1)]);
    assert.deepEqual(await database.read([COUNT_KEYS]), [[{ n: 1n }]]);
  },
);
