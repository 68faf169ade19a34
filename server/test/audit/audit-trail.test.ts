import assert from "node:assert/strict";
import type { TestContext } from "node:test";
import { setTimeout as wait } from "node:timers/promises";
import { createHeadSeals } from "../../src/audit/head-seals.ts";
import { deleteOldEntries } from "../../src/audit/audit-retention.ts";
import { newSecret } from "../../src/access/secret.ts";
import { sealFernet } from "../../src/lib/fernet.ts";
import { DAY_MS } from "../../src/lib/clock.ts";
import type { Database, DialectName, Row } from "../../src/storage/database.ts";
import { openDatabase } from "../../src/storage/open-database.ts";
import { lockTable } from "../../src/storage/lock-table.ts";
import { startPostgres } from "../harness/postgres-server.ts";
import { eventually } from "../ledger/ledger-fixture.ts";
import { createTestClock } from "../lib/test-clock.ts";
import { onEachDatabase, onPostgres, runChild, scratchDatabase, sourceUrl } from "../storage/scratch.ts";
import {
  chainOn,
  countOf,
  entriesOf,
  faultsOf,
  keys,
  newKeys,
  openTestTrail,
  requestOf,
  verified,
} from "./audit-fixture.ts";

const actionsOf = async (database: Database): Promise<unknown[]> =>
  (await entriesOf(database)).map((row) => row["action"] ?? row["kind"]);

const detailsOf = (row: Row | undefined): Record<string, unknown> =>
  JSON.parse(String(row?.["details"])) as Record<string, unknown>;

const ACT = { actor: { kind: "admin", ip: "198.51.100.1" }, action: "key.create", target: "bk_1" } as const;

onEachDatabase(
  "an instance's start and stop are on record, and what it noted stands between them in its order",
  async (t, dialect) => {
    const { database } = await scratchDatabase(t, dialect);
    const { trail, lines } = await openTestTrail(t, database);
    for (let n = 0; n < 1_234; n += 1) trail.noteRequest(requestOf({ status: 200 + (n % 300) }));
    await trail.record(ACT);
    await trail.close();
    const rows = await entriesOf(database);
    assert.equal(rows.length, 1_237);
    assert.deepEqual([rows[0]?.["action"], rows.at(-1)?.["action"]], ["instance.start", "instance.stop"]);
    assert.equal(detailsOf(rows[0])["instance"], detailsOf(rows.at(-1))["instance"]);
    const statuses = rows.filter(({ kind }) => kind === "request").map(({ status }) => Number(status));
    assert.deepEqual(
      statuses,
      Array.from({ length: 1_234 }, (_, n) => 200 + (n % 300)),
    );
    const { head, faults, unstopped } = await verified(database);
    assert.deepEqual([faults, unstopped], [[], []]);
    const logged = lines
      .map((line) => JSON.parse(line) as Record<string, unknown>)
      .filter((line) => "audit_hash" in line);
    assert.deepEqual([logged.at(-1)?.["audit_sequence"], logged.at(-1)?.["audit_hash"]], [head.sequence, head.hash]);
  },
);

onEachDatabase(
  "noted requests are written by themselves within a second, and an instance that ends without a word shows as a start without a stop",
  async (t, dialect) => {
    const { database } = await scratchDatabase(t, dialect);
    const { trail } = await openTestTrail(t, database);
    trail.noteRequest(requestOf());
    await eventually(async () => (await entriesOf(database)).length === 2);
    const { unstopped } = await verified(database);
    assert.deepEqual(
      unstopped.map(({ sequence }) => sequence),
      [1],
    );
  },
);

/** Holds the trail up, as a database that is away does, until it is let go. */
async function heldUp(database: Database): Promise<() => Promise<void>> {
  const letGo = Promise.withResolvers<void>();
  const held = Promise.withResolvers<void>();
  const ended = database.query.transaction().execute(async (transaction) => {
    await lockTable(transaction, database.dialect, "audit_marks");
    held.resolve();
    await letGo.promise;
  });
  await held.promise;
  return async () => {
    letGo.resolve();
    await ended;
  };
}

onEachDatabase(
  "a full queue drops what it cannot hold, never waits, counts it, logs it once, and the trail says it",
  async (t, dialect) => {
    const { database } = await scratchDatabase(t, dialect);
    const { trail, metrics, lines } = await openTestTrail(t, database, { queueCapacity: 700 });
    const letGo = await heldUp(database);
    // The first 500 are on their way at once and wait for the database; 700 wait for them.
    for (let n = 0; n < 500; n += 1) trail.noteRequest(requestOf());
    for (let n = 0; n < 1_000; n += 1) trail.noteRequest(requestOf());
    assert.equal(await countOf(metrics.auditDropped), 300);
    await letGo();
    await trail.flush();
    trail.noteRequest(requestOf());
    await trail.close();
    const rows = await entriesOf(database);
    assert.equal(rows.filter(({ kind }) => kind === "request").length, 1_201);
    const said = rows.filter(({ action }) => action === "audit.dropped");
    assert.deepEqual(
      said.map((row) => detailsOf(row)["entries"]),
      [300],
    );
    assert.equal(lines.filter((line) => line.includes("the audit queue is full")).length, 1);
    const { faults, dropped } = await verified(database);
    assert.deepEqual([faults, dropped], [[], 300]);
  },
);

onPostgres(
  "while the database is away noted requests wait, acts are refused, and when it is back all is written, once",
  async (t) => {
    const server = await startPostgres(t);
    const database = await openDatabase({ url: server.url });
    t.after(() => database.close());
    const { trail, metrics, lines } = await openTestTrail(t, database);
    trail.noteRequest(requestOf({ status: 201 }));
    await trail.flush();
    await server.stop("kill");
    for (let n = 0; n < 20; n += 1) trail.noteRequest(requestOf({ status: 300 + n }));
    await assert.rejects(trail.record(ACT), { name: "StorageUnavailable" });
    await eventually(() => lines.some((line) => line.includes("the audit trail cannot be written")));
    for (let n = 0; n < 20; n += 1) trail.noteRequest(requestOf({ status: 320 + n }));
    await server.start();
    await trail.flush();
    await trail.record(ACT);
    await trail.close();
    const rows = await entriesOf(database);
    assert.deepEqual(
      rows.filter(({ kind }) => kind === "request").map(({ status }) => Number(status)),
      [201, ...Array.from({ length: 40 }, (_, n) => 300 + n)],
    );
    assert.equal(rows.filter(({ kind }) => kind === "act").length, 1);
    assert.equal(await countOf(metrics.auditDropped), 0);
    assert.equal(lines.filter((line) => line.includes("cannot be written")).length, 1);
    assert.deepEqual(await faultsOf(database), []);
  },
);

onPostgres("a close while the database is away ends in its time and says what it could not write", async (t) => {
  const server = await startPostgres(t);
  const database = await openDatabase({ url: server.url });
  t.after(() => database.close());
  const { trail, lines } = await openTestTrail(t, database, { closeWithinMs: 300 });
  await server.stop("kill");
  trail.noteRequest(requestOf());
  const startedMs = performance.now();
  await trail.close();
  assert.ok(performance.now() - startedMs < 5_000);
  assert.ok(lines.some((line) => line.includes("does not take the last audit entries")));
  await server.start();
  assert.deepEqual((await verified(database)).unstopped.length, 1);
});

onEachDatabase(
  "a flood of refusals takes ten entries a minute for each address and code, and one that says how many more there were",
  async (t, dialect) => {
    const { database } = await scratchDatabase(t, dialect);
    const clock = createTestClock();
    const { trail, metrics } = await openTestTrail(t, database, { clock });
    const refusal = (ip: string, code = "invalid_api_key") =>
      requestOf({ kind: "refusal", actor: { kind: "unknown", ip }, status: 401, code });
    for (let n = 0; n < 5_000; n += 1) trail.noteRequest(refusal("192.0.2.66"));
    for (let n = 0; n < 3; n += 1) trail.noteRequest(refusal("192.0.2.66", "admin_token_invalid"));
    // Of one network, as one who has a /64 has.
    for (let n = 0; n < 40; n += 1) trail.noteRequest(refusal(`2001:db8:0:1::${n.toString(16)}`));
    await trail.flush();
    assert.equal((await entriesOf(database)).filter(({ kind }) => kind === "refusal").length, 23);
    clock.advance(61_000);
    trail.noteRequest(refusal("192.0.2.66"));
    await trail.close();
    const rows = (await entriesOf(database)).filter(({ kind }) => kind === "refusal");
    const counts = rows
      .filter(({ details }) => details !== null)
      .map((row) => [row["ip"], row["code"], detailsOf(row)["more_refusals"]]);
    // One more falls to the minute before, of which was not told yet.
    assert.deepEqual(counts, [
      ["192.0.2.66", "invalid_api_key", 4_991],
      ["2001:db8:0:1::/64", "invalid_api_key", 30],
    ]);
    assert.equal(await countOf(metrics.auditDropped), 0, "what is counted is not dropped");
    assert.deepEqual(await faultsOf(database), []);
  },
);

onEachDatabase(
  "refusals from more addresses than are told apart are counted together, and nothing is lost of their number",
  async (t, dialect) => {
    const { database } = await scratchDatabase(t, dialect);
    const { trail } = await openTestTrail(t, database);
    for (let n = 0; n < 3_000; n += 1)
      trail.noteRequest(
        requestOf({
          kind: "refusal",
          actor: { kind: "unknown", ip: `10.${n >> 16}.${(n >> 8) & 255}.${n & 255}` },
          status: 401,
          code: "invalid_api_key",
        }),
      );
    await trail.close();
    const rows = (await entriesOf(database)).filter(({ kind }) => kind === "refusal");
    const together = rows.filter(({ ip }) => ip === null);
    assert.deepEqual([rows.length, together.map((row) => detailsOf(row)["more_refusals"])], [1_001, [2_000]]);
  },
);

onEachDatabase(
  "retention deletes what is old from the beginning, says so in the chain, and the chain verifies; twice at once too",
  async (t, dialect) => {
    const { database } = await scratchDatabase(t, dialect);
    const clock = createTestClock();
    const chain = chainOn(database, { clock });
    const { trail } = await openTestTrail(t, database, { clock });
    for (let n = 0; n < 1_300; n += 1) trail.noteRequest(requestOf());
    await trail.flush();
    clock.advance(10 * DAY_MS);
    for (let n = 0; n < 7; n += 1) trail.noteRequest(requestOf({ status: 418 }));
    await trail.flush();
    const before = await verified(database);
    assert.equal(await deleteOldEntries({ database, clock, chain, days: 30 }), 0);
    const deleted = await Promise.all([1, 2].map(() => deleteOldEntries({ database, clock, chain, days: 5 })));
    assert.equal(
      deleted.reduce((sum, count) => sum + count, 0),
      1_301,
    );
    const after = await verified(database, { expectedHead: before.head });
    assert.deepEqual([after.faults, after.beginning.sequence], [[], 1_301]);
    const rows = await entriesOf(database);
    assert.equal(rows.filter(({ status }) => status === 418n).length, 7);
    const said = rows
      .filter(({ action }) => action === "audit.retention")
      .map((row) => Number(detailsOf(row)["deleted"]));
    assert.equal(
      said.reduce((sum, count) => sum + count, 0),
      1_301,
    );
    // Everything that there is, its notices too.
    clock.advance(100 * DAY_MS);
    await deleteOldEntries({ database, clock, chain, days: 5 });
    assert.deepEqual(await actionsOf(database), ["audit.retention"]);
    assert.deepEqual(await faultsOf(database), []);
  },
);

onEachDatabase(
  "acts that lock the keys and groups of requests, all at once, neither deadlock nor break the chain",
  async (t, dialect) => {
    const { database } = await scratchDatabase(t, dialect);
    const trails = await Promise.all([1, 2].map(async () => (await openTestTrail(t, database)).trail));
    const acts = 40;
    await Promise.all([
      ...Array.from({ length: acts }, (_, n) =>
        database.query.transaction().execute(async (transaction) => {
          await lockTable(transaction, dialect, "api_keys");
          await trails[n % 2]!.recordIn(transaction, { ...ACT, after: { n } });
          if (n % 4 === 0) await trails[n % 2]!.recordIn(transaction, { ...ACT, after: { n, again: true } });
        }),
      ),
      ...Array.from({ length: acts }, (_, n) => trails[n % 2]!.record(ACT)),
      (async () => {
        for (let n = 0; n < 3_000; n += 1) {
          trails[n % 2]!.noteRequest(requestOf());
          if (n % 300 === 0) await wait(1);
        }
      })(),
    ]);
    await Promise.all(trails.map((trail) => trail.close()));
    const { faults, entries } = await verified(database);
    assert.deepEqual([faults, entries], [[], 2 * acts + acts / 4 + 3_000 + 4]);
  },
);

const APPENDER = (databaseUrl: string, key: string): string => `
  import { createChainWriter } from "${sourceUrl("audit/chain-writer.ts")}";
  import { createHeadSeals } from "${sourceUrl("audit/head-seals.ts")}";
  import { entryOfAct } from "${sourceUrl("audit/audit-entry.ts")}";
  import { systemClock } from "${sourceUrl("lib/clock.ts")}";
  import { parseFernetKeys } from "${sourceUrl("lib/fernet.ts")}";
  import { openDatabase } from "${sourceUrl("storage/open-database.ts")}";
  const database = await openDatabase({ url: ${JSON.stringify(databaseUrl)} });
  const chain = createChainWriter({ database, clock: systemClock, seals: createHeadSeals(() => parseFernetKeys("${key}")),
    onSuspicion: (action) => { throw new Error(action); } });
  console.log("ready");
  for (let n = 0; n < 60; n += 1)
    await chain.groupOf(Array.from({ length: 1 + (n % 5) }, (_, m) => entryOfAct({ actor: { kind: "cli" }, action: "test", target: process.pid + "/" + n + "/" + m }, Date.now())))();
  await database.close();
`;

onEachDatabase("four processes that append at once make one unbroken chain", async (t, dialect) => {
  const { database, url } = await scratchDatabase(t, dialect);
  const key = Buffer.concat([keys[0].signing, keys[0].encryption]).toString("base64url");
  const children = Array.from({ length: 4 }, () => runChild(t, APPENDER(url, key)));
  for (const { code, stderr } of await Promise.all(children.map(({ ended }) => ended))) assert.equal(code, 0, stderr);
  const { faults, entries, head } = await verified(database);
  assert.deepEqual([faults, entries, head.sequence], [[], 4 * 180, 4 * 180]);
  assert.equal(new Set((await entriesOf(database)).map(({ target }) => target)).size, 4 * 180);
});

async function trailWith(t: TestContext, dialect: DialectName): Promise<string> {
  const { database } = await scratchDatabase(t, dialect);
  const { trail } = await openTestTrail(t, database);
  const secret = newSecret();
  const sealed = sealFernet(keys[0], Buffer.from("a vendor's key"), Date.now());
  const signing = `brikk_sig_${"s".repeat(43)}`;
  const vendors = `sk-proj-${"v".repeat(40)}`;
  for (const text of [secret, sealed, signing, vendors])
    for (const spelled of [text, `Bearer ${text}`, `https://x/?key=${text}&y`]) {
      trail.noteRequest(
        requestOf({ actor: { kind: "key", requestId: spelled, ip: spelled }, route: spelled, code: spelled }),
      );
      await trail.record({
        ...ACT,
        target: spelled,
        after: { name: spelled, list: [{ deep: spelled }], [spelled]: 1 },
      });
    }
  await trail.record({
    ...ACT,
    before: {
      secret: "hunter2",
      key: "hunter2",
      api_key: "hunter2",
      password: "hunter2",
      signing_secret: "hunter2",
      nested: { token: "hunter2" },
    },
  });
  await trail.close();
  const all = JSON.stringify(await entriesOf(database), (_, value: unknown) =>
    typeof value === "bigint" ? String(value) : value,
  );
  for (const text of [secret, sealed, signing, vendors, "hunter2"]) assert.ok(!all.includes(text), text);
  assert.deepEqual(await faultsOf(database), []);
  return all;
}

onEachDatabase(
  "what looks like a secret is not kept, wherever somebody put it, and names of keys and models are",
  async (t, dialect) => {
    const all = await trailWith(t, dialect);
    assert.ok(all.includes("[left out]"));
    assert.ok(all.includes("bk_1"));
  },
);

onEachDatabase(
  "a trail of another encryption key is gone on with, and what that means is on record",
  async (t, dialect) => {
    const { database } = await scratchDatabase(t, dialect);
    await (await openTestTrail(t, database)).trail.close();
    const later = newKeys();
    const { lines, trail } = await openTestTrail(t, database, { encryptionKeys: later });
    await trail.close();
    assert.deepEqual(await actionsOf(database), [
      "instance.start",
      "instance.stop",
      "audit.seal_unknown",
      "instance.start",
      "instance.stop",
    ]);
    assert.ok(lines.some((line) => line.includes("is not as it was left")));
    assert.deepEqual(await faultsOf(database), ["seal 5"], "who has the earlier key alone");
    assert.deepEqual(await faultsOf(database, { seals: createHeadSeals(() => later) }), ["suspicion 3"]);
    assert.deepEqual(await faultsOf(database, { seals: createHeadSeals(() => [...later, ...keys]) }), []);
  },
);
