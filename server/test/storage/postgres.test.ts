import assert from "node:assert/strict";
import { once } from "node:events";
import { type AddressInfo, connect, createServer } from "node:net";
import type { TestContext } from "node:test";
import { Client } from "pg";
import { createKeyRing } from "../../src/access/key-ring.ts";
import { createKeyStore } from "../../src/access/key-store.ts";
import { systemClock } from "../../src/lib/clock.ts";
import { ConstraintViolation, StatementRejected, StorageUnavailable } from "../../src/storage/database.ts";
import { openDatabase } from "../../src/storage/open-database.ts";
import { startPostgres } from "../harness/postgres-server.ts";
import { onPostgres, runChild, scratchDatabase, scratchPostgresUrl, sourceUrl } from "./scratch.ts";

const ADD_KEY = "insert into api_keys (id, name, status, created_at_ms, revision) values (?, '', 'active', 0, ?)";
const addKey = (id: string, revision: number) => ({ sql: ADD_KEY, params: [id, revision] });
const COUNT_KEYS = { sql: "select count(*) as n from api_keys", params: [] };
const PID = { sql: "select pg_backend_pid() as pid", params: [] };
const sleepFor = (seconds: number) => ({ sql: `select cast(pg_sleep(${seconds}) as text)`, params: [] });

async function opened(t: TestContext, url: string, options: { busyTimeoutMs?: number; answerTimeoutMs?: number } = {}) {
  const database = await openDatabase({ url, ...options });
  t.after(() => database.close());
  return database;
}

async function administrator(t: TestContext, url: string): Promise<Client> {
  const client = new Client({ connectionString: url });
  await client.connect();
  client.on("error", () => {});
  t.after(() => client.end());
  return client;
}

/** Tries until the database takes it again; only StorageUnavailable may come before. */
async function eventually<T>(attempt: () => Promise<T>): Promise<T> {
  for (const deadline = performance.now() + 30_000; ;) {
    try {
      return await attempt();
    } catch (error) {
      if (!(error instanceof StorageUnavailable) || performance.now() > deadline) throw error;
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
  }
}

for (const mode of ["fast", "immediate", "kill"] as const) {
  onPostgres(
    `a server stopped by ${mode} under load loses no acknowledged row, and all goes on when it is back`,
    async (t) => {
      const server = await startPostgres(t);
      const database = await opened(t, server.url);
      const acknowledged = new Set<string>();
      let loading = true;
      let refused = 0;
      const writer = async (name: string): Promise<void> => {
        for (let n = 0; loading; n += 1) {
          const pair = [`${name}-${n}-a`, `${name}-${n}-b`];
          try {
            await database.transact(pair.map((id, half) => ({ sql: ADD_WINDOW, params: [id, half] })));
            for (const id of pair) acknowledged.add(id);
          } catch (error) {
            assert.ok(error instanceof StorageUnavailable, String(error));
            refused += 1;
            await new Promise((resolve) => setTimeout(resolve, 5));
          }
        }
      };
      const load = Promise.all(Array.from({ length: 20 }, (_, n) => writer(`w${n}`)));
      const reached = async (check: () => boolean): Promise<void> => {
        while (!check()) await new Promise((resolve) => setTimeout(resolve, 5));
      };
      await reached(() => acknowledged.size > 500);
      await server.stop(mode);
      const before = refused;
      await reached(() => refused > before + 100);
      await assert.rejects(database.all(COUNT_KEYS), StorageUnavailable);
      await assert.rejects(database.query.selectFrom("api_keys").selectAll().execute(), StorageUnavailable);
      await server.start();
      const sofar = acknowledged.size;
      await reached(() => acknowledged.size > sofar + 500);
      loading = false;
      await load;
      const rows = await database.all({ sql: "select budget_id from budget_windows", params: [] });
      const kept = new Set(rows.map((row) => String(row["budget_id"])));
      for (const id of acknowledged) assert.ok(kept.has(id), id);
      // What was not acknowledged is whole or absent.
      for (const id of kept) assert.ok(kept.has(id.endsWith("a") ? id.replace(/a$/, "b") : id.replace(/b$/, "a")), id);
    },
  );
}

const ADD_WINDOW = `insert into budget_windows (budget_id, window_start_ms, window_end_ms, scope_id, window_kind, spent_nano_usd,
  leased_nano_usd, written_off_nano_usd, unleased_nano_usd, grant_nano_usd) values (?, ?, 0, '', 'day', 0, 0, 0, 0, 0)`;

onPostgres(
  "a server that hangs is StorageUnavailable in bounded time, for new and for open connections, and holds up no close",
  async (t) => {
    const server = await startPostgres(t);
    const database = await opened(t, server.url, { answerTimeoutMs: 300 });
    const keeper = await administrator(t, server.url);
    await Promise.all(Array.from({ length: 3 }, () => database.all(sleepFor(0.05))));
    // All processes of the server stand still, and their sockets stay open.
    const { rows } = await keeper.query(
      "select pid from pg_stat_activity union all select cast(split_part(pg_read_file('postmaster.pid'), E'\\n', 1) as int)",
    );
    const all = rows.map((row) => Number(row.pid));
    const signal = (name: NodeJS.Signals): void => all.forEach((pid) => process.kill(pid, name));
    signal("SIGSTOP");
    try {
      const startedAtMs = performance.now();
      const calls: (() => Promise<unknown>)[] = [
        () => database.all(COUNT_KEYS),
        () => database.transact([addKey("a", 1)]),
        () => database.query.selectFrom("api_keys").selectAll().execute(),
      ];
      // More than there are connections: some find one open, some have to make one.
      await Promise.all(Array.from({ length: 30 }, (_, n) => assert.rejects(calls[n % 3]!(), StorageUnavailable)));
      assert.ok(performance.now() - startedAtMs < 9_000);
    } finally {
      signal("SIGCONT");
    }
    await eventually(() => database.transact([addKey("b", 2)]));
    assert.deepEqual(await database.all({ sql: "select id from api_keys where id = 'b'", params: [] }), [{ id: "b" }]);
  },
);

onPostgres(
  "a statement that takes too long is ended by the server, its transaction is undone, and the connection serves on",
  async (t) => {
    const url = await scratchPostgresUrl(t, "migrated");
    const database = await opened(t, url, { answerTimeoutMs: 200 });
    const [before] = await database.all(PID);
    await assert.rejects(database.transact([addKey("a", 1), sleepFor(5)]), StorageUnavailable);
    await assert.rejects(database.all(sleepFor(5)), StorageUnavailable);
    assert.deepEqual(await database.all(COUNT_KEYS), [{ n: 0n }]);
    assert.deepEqual(await database.all(PID), [before]);
    // What is read may take its time.
    assert.equal((await database.read([sleepFor(0.4), COUNT_KEYS])).length, 2);
  },
);

onPostgres(
  "a lock that another does not give up, and a deadlock, are StorageUnavailable and undo the transaction",
  async (t) => {
    const url = await scratchPostgresUrl(t, "migrated");
    const database = await opened(t, url, { busyTimeoutMs: 100 });
    await database.transact([addKey("a", 1), addKey("b", 2)]);
    const other = await administrator(t, url);
    await other.query("begin; update api_keys set name = 'held' where id = 'a'");
    const rename = (id: string) => ({ sql: "update api_keys set name = 'mine' where id = ?", params: [id] });
    await assert.rejects(database.transact([rename("b"), rename("a")]), StorageUnavailable);
    await other.query("rollback");
    assert.deepEqual(await database.all({ sql: "select distinct name from api_keys", params: [] }), [{ name: "" }]);

    const patient = await opened(t, url, { busyTimeoutMs: 60_000 });
    const both = await Promise.allSettled(
      [
        ["a", "b"],
        ["b", "a"],
      ].map(([first = "", second = ""]) =>
        patient.query.transaction().execute(async (transaction) => {
          await transaction.updateTable("api_keys").set({ name: first }).where("id", "=", first).execute();
          await new Promise((resolve) => setTimeout(resolve, 50));
          await transaction.updateTable("api_keys").set({ name: first }).where("id", "=", second).execute();
        }),
      ),
    );
    const lost = both.find((outcome) => outcome.status === "rejected");
    assert.ok(lost?.reason instanceof StorageUnavailable);
    assert.equal(both.filter((outcome) => outcome.status === "fulfilled").length, 1);
  },
);

onPostgres(
  "more callers than connections wait for their turn, and give up in bounded time when none comes",
  async (t) => {
    const { database } = await scratchDatabase(t, "postgres");
    await Promise.all(Array.from({ length: 200 }, (_, n) => database.transact([addKey(`k${n}`, n + 1)])));
    assert.deepEqual(await database.all(COUNT_KEYS), [{ n: 200n }]);
    const blockers = Array.from({ length: 10 }, () => database.all(sleepFor(8)));
    const startedAtMs = performance.now();
    await assert.rejects(database.all(COUNT_KEYS), StorageUnavailable);
    assert.ok(performance.now() - startedAtMs < 7_000);
    await Promise.all(blockers);
    assert.deepEqual(await database.all(COUNT_KEYS), [{ n: 200n }]);
  },
);

onPostgres("a connection that the server ends, idle or at work, is replaced for the next call", async (t) => {
  const url = await scratchPostgresUrl(t, "migrated");
  const database = await opened(t, url);
  const other = await administrator(t, url);
  const endAll = () =>
    other.query("select pg_terminate_backend(pid) from pg_stat_activity where application_name = 'brikk'");
  await database.transact([addKey("a", 1)]);
  await endAll();
  await eventually(() => database.transact([addKey("b", 2)]));
  const atWork = [database.all(sleepFor(20)), database.transact([addKey("c", 3), sleepFor(20)])].map((call) =>
    assert.rejects(call, StorageUnavailable),
  );
  const sleeping = "select count(*) from pg_stat_activity where application_name = 'brikk' and wait_event = 'PgSleep'";
  while ((await other.query(sleeping)).rows[0].count !== "2");
  await endAll();
  await Promise.all(atWork);
  assert.deepEqual(await database.all({ sql: "select id from api_keys order by id", params: [] }), [
    { id: "a" },
    { id: "b" },
  ]);
});

onPostgres("a builder transaction whose connection ends is undone, and the next call gets a new one", async (t) => {
  const url = await scratchPostgresUrl(t, "migrated");
  const database = await opened(t, url);
  const other = await administrator(t, url);
  await assert.rejects(
    database.query.transaction().execute(async (transaction) => {
      await transaction
        .insertInto("api_keys")
        .values({ id: "a", name: "", status: "active", created_at_ms: 0, revision: 1 })
        .execute();
      await other.query("select pg_terminate_backend(pid) from pg_stat_activity where application_name = 'brikk'");
      await transaction.selectFrom("api_keys").selectAll().execute();
    }),
    StorageUnavailable,
  );
  assert.deepEqual(await database.all(COUNT_KEYS), [{ n: 0n }]);
});

onPostgres("a statement prepared before a migration is prepared anew after it", async (t) => {
  const { database, url } = await scratchDatabase(t, "postgres");
  const everything = { sql: "select * from ledger_marks", params: [] };
  await database.all(everything);
  const other = await administrator(t, url);
  await other.query("alter table ledger_marks add column note text");
  await eventually(() => database.all(everything));
  await other.query("alter table ledger_marks drop column note");
  await eventually(() => database.transact([everything, addKey("a", 1)]));
});

onPostgres(
  "a database that may only be read, as on a standby, is StorageUnavailable to writers and no fault of theirs",
  async (t) => {
    const url = await scratchPostgresUrl(t, "migrated");
    const database = await opened(t, url);
    const name = new URL(url).pathname.slice(1);
    const other = await administrator(t, url);
    const newConnections = (): Promise<unknown> =>
      other.query("select pg_terminate_backend(pid) from pg_stat_activity where application_name = 'brikk'");
    await other.query(`alter database ${name} set default_transaction_read_only = on`);
    await newConnections();
    await eventually(() => database.all(COUNT_KEYS));
    await assert.rejects(database.transact([addKey("a", 1)]), StorageUnavailable);
    await other.query(`alter database ${name} reset default_transaction_read_only`);
    // The connection that only read is not used again, so nobody has to end it.
    await database.transact([addKey("a", 1)]);
  },
);

onPostgres(
  "text with the one character that PostgreSQL does not hold is kept, with that character marked",
  async (t) => {
    const { database } = await scratchDatabase(t, "postgres");
    await database.transact([{ sql: ADD_KEY, params: ["a\0b", 1] }]);
    assert.deepEqual(await database.all({ sql: "select id from api_keys", params: [] }), [{ id: "a\u{fffd}b" }]);
  },
);

onPostgres("a statement that fails before others with the same text leaves all of them usable", async (t) => {
  const { database } = await scratchDatabase(t, "postgres");
  for (const _ of [1, 2, 3]) {
    await assert.rejects(
      database.transact([addKey("a", 1), addKey("a", 2), COUNT_KEYS, addKey("b", 3)]),
      (error) => error instanceof ConstraintViolation && error.constraint === "unique",
    );
    await assert.rejects(
      database.transact([{ sql: "select 1 from nowhere", params: [] }, COUNT_KEYS]),
      StatementRejected,
    );
  }
  await database.transact([addKey("a", 1), COUNT_KEYS, addKey("b", 2)]);
  assert.deepEqual(await database.all(COUNT_KEYS), [{ n: 2n }]);
});

onPostgres("key changes of one process are known in another within two seconds, through an outage too", async (t) => {
  const server = await startPostgres(t);
  const database = await opened(t, server.url);
  const keyRing = createKeyRing({ database, clock: systemClock });
  await keyRing.start();
  t.after(() => keyRing.stop());
  const knownWithin = async (check: () => boolean): Promise<void> => {
    const startedAtMs = performance.now();
    while (!check()) {
      assert.ok(performance.now() - startedAtMs < 2_000);
      await new Promise((resolve) => setTimeout(resolve, 10));
    }
  };
  // Another process makes the key; and revokes it when the server is back.
  const child = runChild(
    t,
    `import { createKeyStore } from ${JSON.stringify(sourceUrl("access/key-store.ts"))};
     import { openDatabase } from ${JSON.stringify(sourceUrl("storage/open-database.ts"))};
     const database = await openDatabase({ url: ${JSON.stringify(server.url)} });
     const { key } = await createKeyStore({ database, clock: { now: () => Date.now() } }).create({ name: "elsewhere" });
     await database.close();
     console.log(key.id);`,
  );
  const id = await child.line();
  await knownWithin(() => keyRing.get(id) !== undefined);
  await server.stop("immediate");
  await server.start();
  const elsewhere = createKeyStore({ database: await opened(t, server.url), clock: systemClock });
  await elsewhere.revoke(id);
  await knownWithin(() => keyRing.get(id)?.state.kind === "revoked");
});

/** The way to the server, on which what holds the text arrives late, whatever the sender has done since. */
async function slowRoute(t: TestContext, url: string, text: string, delayMs: number): Promise<string> {
  const { port, hostname } = new URL(url);
  const route = createServer((near) => {
    const far = connect(Number(port), hostname);
    const close = (): void => void far.destroy();
    near.on("error", () => {}).on("close", () => setTimeout(close, delayMs));
    far.on("error", () => {}).on("close", () => near.destroy());
    far.pipe(near);
    near.on("data", (bytes: Buffer) => {
      if (bytes.includes(text)) setTimeout(() => far.write(bytes), delayMs);
      else far.write(bytes);
    });
  }).listen(0, "127.0.0.1");
  t.after(() => route.close());
  await once(route, "listening");
  const there = new URL(url);
  there.port = String((route.address() as AddressInfo).port);
  return there.href;
}

onPostgres(
  "a transaction that was given up does not take effect later, when the network brings it after all",
  async (t) => {
    const { database: direct, url } = await scratchDatabase(t, "postgres");
    const database = await opened(t, await slowRoute(t, url, "insert into api_keys", 2_500), { answerTimeoutMs: 300 });
    await assert.rejects(database.transact([addKey("bk_late", 900)]), StorageUnavailable);
    await new Promise((resolve) => setTimeout(resolve, 2_500));
    assert.deepEqual(await direct.all({ sql: "select id from api_keys where id = 'bk_late'", params: [] }), []);
  },
);
