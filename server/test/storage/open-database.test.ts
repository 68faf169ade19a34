import assert from "node:assert/strict";
import { chmodSync, mkdirSync, readdirSync, statSync, symlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { once } from "node:events";
import { type AddressInfo, createServer } from "node:net";
import { DatabaseSync } from "node:sqlite";
import { type TestContext, test } from "node:test";
import { Client } from "pg";
import { StorageOpenError } from "../../src/storage/database.ts";
import { databasePathOf } from "../../src/storage/database-path.ts";
import { databasePlaceOf } from "../../src/storage/database-place.ts";
import { openDatabase } from "../../src/storage/open-database.ts";
import type { Schema } from "../../src/storage/schema.ts";
import {
  emptyDatabaseUrl,
  onEachDatabase,
  onPostgres,
  runChild,
  scratchDatabase,
  scratchFolder,
  scratchPostgresUrl,
  sourceUrl,
} from "./scratch.ts";

const TABLES = Object.keys({
  api_key_secrets: true,
  api_keys: true,
  audit_entries: true,
  audit_marks: true,
  budget_alerts: true,
  budget_windows: true,
  idempotent_answers: true,
  leases: true,
  panel_runs: true,
  lease_owners: true,
  ledger_marks: true,
  provider_credentials: true,
  usage_events: true,
  usage_hourly: true,
} satisfies Record<keyof Schema, true>).sort();
const MIGRATIONS = readdirSync(new URL("../../src/storage/migrations/", import.meta.url))
  .map((file) => file.replace(".ts", ""))
  .sort();

/** What opening a path says to a user who is not root; root may write everywhere, so a child steps down. */
async function saidToOrdinaryUser(t: TestContext, path: string): Promise<string> {
  const child = runChild(
    t,
    `import { prepareDatabaseFile } from ${JSON.stringify(sourceUrl("storage/database-path.ts"))};
     if (process.getuid() === 0) process.setuid(65534);
     try {
       prepareDatabaseFile(${JSON.stringify(path)});
       console.log("no fault");
     } catch (error) {
       console.log(error.name + ": " + error.message);
     }`,
  );
  return child.line();
}

test("a missing folder is made for this user alone, and so is the file", async (t) => {
  const path = join(scratchFolder(t), "deep", "data", "brikk.db");
  const database = await openDatabase({ url: `sqlite:${path}` });
  t.after(() => database.close());
  assert.equal(statSync(join(path, "..")).mode & 0o777, 0o700);
  for (const file of [path, `${path}-wal`]) assert.equal(statSync(file).mode & 0o777, 0o600);
});

onEachDatabase("migrations run twice change nothing the second time", async (t, dialect) => {
  const { database, url } = await scratchDatabase(t, dialect);
  const schema = {
    sql:
      dialect === "sqlite"
        ? "select type, name, sql from sqlite_master where name not like 'sqlite_%' order by name"
        : `select table_name, column_name, data_type, is_nullable, column_default from information_schema.columns
            where table_schema = 'public' order by table_name, ordinal_position`,
    params: [],
  };
  const before = await database.all(schema);
  await database.all({
    sql: "insert into api_keys (id, name, status, created_at_ms, revision) values ('a', 'a', 'active', 0, 1)",
    params: [],
  });
  const again = await openDatabase({ url });
  t.after(() => again.close());
  assert.deepEqual(await again.all(schema), before);
  assert.equal((await again.query.selectFrom("api_keys").selectAll().execute()).length, 1);
  assert.ok(before.length > TABLES.length);
  const tables = (await again.query.introspection.getTables()).map((table) => table.name);
  assert.deepEqual(tables.sort(), TABLES);
});

onEachDatabase(
  "four processes that open new databases at once all succeed and migrate each once",
  async (t, dialect) => {
    const folder = scratchFolder(t);
    const urls = await Promise.all(
      Array.from({ length: 8 }, async (_, n) => {
        const url = await emptyDatabaseUrl(t, dialect);
        // A folder that is missing, too.
        return dialect === "sqlite" ? url.replace("brikk.db", `data-${n}/brikk.db`) : url;
      }),
    );
    const children = Array.from({ length: 4 }, (_, n) =>
      runChild(
        t,
        `import { existsSync } from "node:fs";
       import { openDatabase } from ${JSON.stringify(sourceUrl("storage/open-database.ts"))};
       console.log("ready");
       while (!existsSync(${JSON.stringify(join(folder, "go"))}));
       for (const url of ${JSON.stringify(urls)}) {
         const database = await openDatabase({ url });
         await database.all({ sql: "insert into api_keys (id, name, status, created_at_ms, revision) values (?, '', 'active', 0, ?)", params: ["k${n}", ${n}] });
         await database.close();
       }`,
      ),
    );
    for (const child of children) await child.line();
    writeFileSync(join(folder, "go"), "");
    for (const child of children) {
      const { code, stderr } = await child.ended;
      assert.equal(code, 0, stderr);
    }
    for (const url of urls) {
      const database = await openDatabase({ url });
      t.after(() => database.close());
      assert.deepEqual(
        await database.all({ sql: "select name from kysely_migration order by name", params: [] }),
        MIGRATIONS.map((name) => ({ name })),
      );
      assert.equal((await database.query.selectFrom("api_keys").select("id").execute()).length, 4);
    }
  },
);

test("every table holds its columns to their types", async (t) => {
  const { database } = await scratchDatabase(t);
  const rows = await database.all({
    sql: "select name, strict from pragma_table_list where name in (select value from json_each(?)) order by name",
    params: [JSON.stringify(TABLES)],
  });
  assert.deepEqual(
    rows,
    TABLES.map((name) => ({ name, strict: 1n })),
  );
});

const refused = (url: string, ...said: RegExp[]) =>
  assert.rejects(openDatabase({ url, busyTimeoutMs: 50 }), (error) => {
    assert.ok(error instanceof StorageOpenError, String(error));
    for (const pattern of said) assert.match(error.message, pattern);
    assert.doesNotMatch(error.message, /\n/);
    return true;
  });

onEachDatabase("a database that a newer version wrote is refused and left alone", async (t, dialect) => {
  const { database, url } = await scratchDatabase(t, dialect);
  await database.all({
    sql: "insert into kysely_migration (name, timestamp) values ('9999-future', '2030-01-01')",
    params: [],
  });
  await refused(url, /newer Brikk/, /9999-future/, new RegExp(databasePlaceOf(url).split("/").slice(-2).join("/")));
  assert.equal((await database.query.selectFrom("api_keys").select("id").execute()).length, 0);
});

test("a file that is no database is named, with what to do", async (t) => {
  const path = join(scratchFolder(t), "notes.txt");
  writeFileSync(path, "These are notes and no database. ".repeat(200));
  await refused(`sqlite:${path}`, new RegExp(path), /not a SQLite database/, /backup/);
});

test("a path that is a folder, or runs through a file, is named", async (t) => {
  const folder = scratchFolder(t);
  await refused(`sqlite:${folder}`, /is a folder/);
  writeFileSync(join(folder, "file"), "");
  await refused(`sqlite:${folder}/file/brikk.db`, /cannot be created/, /DATABASE_URL/);
});

test("a folder or a file that this user may not write is named, with the reason", async (t) => {
  const folder = scratchFolder(t);
  chmodSync(folder, 0o755);
  const closed = join(folder, "closed");
  mkdirSync(closed, { mode: 0o555 });
  const open = join(folder, "open");
  mkdirSync(open);
  chmodSync(open, 0o777);
  writeFileSync(join(open, "brikk.db"), "");
  chmodSync(join(open, "brikk.db"), 0o444);
  const cases: readonly [string, RegExp][] = [
    [
      join(closed, "brikk.db"),
      /^StorageOpenError: The folder \S+closed of the database cannot be written to \(permission denied\)\./,
    ],
    [
      join(closed, "sub", "brikk.db"),
      /^StorageOpenError: The folder \S+sub for the database cannot be created \(permission denied\)\./,
    ],
    [
      join(open, "brikk.db"),
      /^StorageOpenError: The database file \S+brikk\.db cannot be written to \(permission denied\)\./,
    ],
    [join(open, "other.db"), /^no fault$/],
  ];
  for (const [path, said] of cases) assert.match(await saidToOrdinaryUser(t, path), said);
});

test("a database that another process holds locked is said to be locked", async (t) => {
  const folder = scratchFolder(t);
  const other = new DatabaseSync(join(folder, "brikk.db"));
  t.after(() => other.close());
  other.exec("pragma locking_mode = exclusive; create table t (a); begin exclusive");
  await refused(`sqlite:${folder}/brikk.db`, /another process holds it locked/);
});

test("an address that names no SQLite file is refused without repeating its password", async () => {
  await refused("mysql://brikk:hunter2@localhost/brikk", /"mysql:"/, /^(?!.*hunter2)/);
  await refused("sqlite::memory:", /:memory:/);
  await refused("sqlite:", /DATABASE_URL/);
});

test("all spellings of a SQLite address lead to one absolute path", () => {
  assert.equal(databasePathOf("sqlite:/var/lib/brikk.db"), "/var/lib/brikk.db");
  assert.equal(databasePathOf("sqlite:///var/lib/brikk.db"), "/var/lib/brikk.db");
  assert.equal(databasePathOf("sqlite:./data/brikk.db"), join(process.cwd(), "data/brikk.db"));
  assert.equal(databasePathOf("sqlite://./data/brikk.db"), join(process.cwd(), "data/brikk.db"));
  assert.equal(databasePathOf("sqlite:data/brikk.db"), join(process.cwd(), "data/brikk.db"));
});

test("a database reached through a link is the same database", async (t) => {
  const { database, path } = await scratchDatabase(t);
  const link = join(scratchFolder(t), "link.db");
  symlinkSync(path, link);
  await database.all({
    sql: "insert into api_keys (id, name, status, created_at_ms, revision) values ('a', '', 'active', 0, 1)",
    params: [],
  });
  const linked = await openDatabase({ url: `sqlite:${link}` });
  t.after(() => linked.close());
  assert.deepEqual(await linked.query.selectFrom("api_keys").select("id").execute(), [{ id: "a" }]);
});

/** The URL with parts of it replaced, and what must never be said of it. */
function variant(url: string, change: (url: URL) => void): string {
  const changed = new URL(url);
  change(changed);
  return changed.href;
}

onPostgres(
  "what keeps a PostgreSQL database from being opened is said to a person, never with a password",
  async (t) => {
    const url = await scratchPostgresUrl(t, "empty");
    const { password, hostname, port, pathname } = new URL(url);
    const silent = new RegExp(`^(?!.*(${password}|hunter2))`);
    const place = new RegExp(`${hostname}:${port}${pathname}`);
    const refusedFor = (change: (url: URL) => void, ...said: RegExp[]) =>
      refused(variant(url, change), silent, ...said);
    await refusedFor((changed) => (changed.password = "hunter2"), place, /refuses the password of the user "brikk"/);
    await refusedFor((changed) => (changed.password = ""), place, /asks for the password/);
    await refusedFor(
      (changed) => (changed.pathname = "nowhere"),
      /no database of that name/,
      /create database "nowhere"/,
    );
    await refusedFor((changed) => (changed.port = "9"), /nothing listens at 127\.0\.0\.1:9\./);
    await refusedFor((changed) => (changed.hostname = "nowhere.invalid"), /host name nowhere\.invalid is not known/);
    await refusedFor((changed) => (changed.search = "sslmode=require"), /the server has no TLS/);
    await refusedFor(
      (changed) => (changed.search = "sslmode=verify-full&sslrootcert=/does/not/exist.pem"),
      /\/does\/not\/exist\.pem, which sslrootcert/,
    );
    await refusedFor((changed) => (changed.search = "colour=hunter2"), /has a parameter that is not known/);
    // Somewhere that takes the connection and then says nothing.
    const mute = createServer().listen(0, "127.0.0.1");
    t.after(() => mute.close());
    await once(mute, "listening");
    const mutePort = String((mute.address() as AddressInfo).port);
    await refusedFor((changed) => (changed.port = mutePort), /does not answer/);
  },
);

onPostgres("a server whose settings would break a promise is refused at the start", async (t) => {
  const url = await scratchPostgresUrl(t, "empty");
  const name = new URL(url).pathname.slice(1);
  const administer = async (...commands: string[]) => {
    const client = new Client({ connectionString: variant(url, (changed) => (changed.pathname = "postgres")) });
    await client.connect();
    for (const command of commands) await client.query(command);
    await client.end();
  };
  await administer(`alter database ${name} set synchronous_commit = off`);
  await refused(url, /synchronous_commit off/, new RegExp(`alter database "${name}" set synchronous_commit = on`));
  await administer(
    `alter database ${name} set synchronous_commit = local`,
    `alter database ${name} set default_transaction_read_only = on`,
  );
  await refused(url, /can only be read/);
  await administer(
    `drop database ${name} with (force)`,
    `create database ${name} template template0 encoding 'SQL_ASCII' locale 'C'`,
  );
  await refused(url, /encoding SQL_ASCII/, /UTF8/);
});

onPostgres(
  "a user who may not make tables is told so, and another program's log of migrations is not taken for ours",
  async (t) => {
    const url = await scratchPostgresUrl(t, "empty");
    const client = new Client({ connectionString: url });
    await client.connect();
    const role = `clerk_${new URL(url).pathname.slice(-8)}`;
    await client.query(`create role ${role} login password 'hunter2'`);
    await client.query("create schema other");
    await client.query("create table other.kysely_migration (name text)");
    await client.query("insert into other.kysely_migration values ('0001-of-another-program')");
    const clerk = variant(url, (changed) => {
      changed.username = role;
      changed.password = "hunter2";
    });
    await refused(clerk, new RegExp(`user "${role}" may not make tables`), /^(?!.*hunter2)/);
    await client.query(`grant create on schema public to ${role}; grant all on schema other to ${role}`);
    await (await openDatabase({ url: clerk })).close();
    await client.query(`drop owned by ${role}; drop role ${role}`);
    await client.end();
  },
);
