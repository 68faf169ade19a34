import assert from "node:assert/strict";
import type { TestContext } from "node:test";
import { type AuditEntry, entryOfAct, entryOfRequest, notice } from "../../src/audit/audit-entry.ts";
import { type ChainPlace, CONTENT_COLUMNS, contentOfRow, entryHash } from "../../src/audit/entry-hash.ts";
import { deleteOldEntries } from "../../src/audit/audit-retention.ts";
import { createHeadSeals } from "../../src/audit/head-seals.ts";
import { DAY_MS } from "../../src/lib/clock.ts";
import type { Database, DialectName, SqlValue } from "../../src/storage/database.ts";
import { ConstraintViolation } from "../../src/storage/database.ts";
import { onEachDatabase, scratchDatabase } from "../storage/scratch.ts";
import { createTestClock } from "../lib/test-clock.ts";
import { chainOn, entriesOf, faultsOf, keys, newKeys, requestOf, unguarded, verified } from "./audit-fixture.ts";

const NOW = Date.UTC(2026, 10, 23, 12);
const LENGTH = 12;

const act: AuditEntry = entryOfAct(
  {
    actor: { kind: "admin", ip: "198.51.100.1", requestId: "req_act" },
    action: "key.update",
    target: "bk_Example00001",
    before: { name: "old" },
    after: { name: "new" },
  },
  NOW,
);

/** A chain in which every column has something at entry 6. */
async function chained(t: TestContext, dialect: DialectName): Promise<Database> {
  const { database } = await scratchDatabase(t, dialect);
  const chain = chainOn(database);
  const requests = Array.from({ length: 5 }, () => entryOfRequest(requestOf({ code: "rate_limit_exceeded" }), NOW));
  await chain.groupOf(requests)();
  await chain.groupOf([
    { ...act, method: "POST", route: "/admin/keys", status: 200, code: "none", actor: { ...act.actor, keyId: "bk_1" } },
  ])();
  await chain.groupOf([...requests, act])();
  assert.deepEqual(await faultsOf(database), []);
  assert.equal((await entriesOf(database)).length, LENGTH);
  return database;
}

const run = (database: Database, sql: string, ...params: SqlValue[]): Promise<unknown> =>
  database.transact([{ sql, params }]);

onEachDatabase("a change of any column of any entry is found, and the entry is named", async (t, dialect) => {
  const database = await chained(t, dialect);
  await unguarded(database);
  const columns = [...CONTENT_COLUMNS, "previous_hash", "hash"];
  for (const sequence of [1, 6, LENGTH]) {
    for (const column of columns) {
      const [row] = await database.all({ sql: "select * from audit_entries where sequence = ?", params: [sequence] });
      const was = row![column]!;
      const others: SqlValue[] =
        column === "kind"
          ? ["notice"]
          : column === "occurred_at_ms" || column === "status"
            ? [Number(was ?? 0) + 1]
            : [`${String(was ?? "")}x`];
      // What was something becomes nothing, where the column allows it.
      if (was !== null && !["occurred_at_ms", "kind", "actor", "previous_hash", "hash"].includes(column))
        others.push(null);
      for (const other of others) {
        await run(database, `update audit_entries set ${column} = ? where sequence = ?`, other, sequence);
        const found = await faultsOf(database);
        assert.ok(
          found.some((fault) => fault === `changed ${sequence}`),
          `${column} of entry ${sequence} as ${String(other)}: ${found.join(", ")}`,
        );
      }
      await run(database, `update audit_entries set ${column} = ? where sequence = ?`, was, sequence);
      assert.deepEqual(await faultsOf(database), [], `${column} of entry ${sequence} put back`);
    }
  }
});

onEachDatabase(
  "an entry that is taken out is found: the first, one in the middle, several, the last",
  async (t, dialect) => {
    for (const [gone, found] of [
      [[1], ["missing 1"]],
      [[7], ["missing 7"]],
      [
        [3, 4, 9],
        ["missing 3", "missing 9"],
      ],
      [[LENGTH], [`missing ${LENGTH}`]],
      [Array.from({ length: LENGTH }, (_, index) => index + 1), ["missing 1"]],
    ] as const) {
      const database = await chained(t, dialect);
      await unguarded(database);
      for (const sequence of gone) await run(database, "delete from audit_entries where sequence = ?", sequence);
      assert.deepEqual(await faultsOf(database), found);
    }
  },
);

onEachDatabase(
  "two entries that change places, and entries that are numbered anew around a gap or a new one, are found",
  async (t, dialect) => {
    const swapped = await chained(t, dialect);
    await unguarded(swapped);
    await run(swapped, "update audit_entries set sequence = 1000 where sequence = 5");
    await run(swapped, "update audit_entries set sequence = 5 where sequence = 6");
    await run(swapped, "update audit_entries set sequence = 6 where sequence = 1000");
    assert.deepEqual(await faultsOf(swapped), ["unlinked 5", "changed 5", "unlinked 6", "changed 6", "unlinked 7"]);

    const closed = await chained(t, dialect);
    await unguarded(closed);
    await run(closed, "delete from audit_entries where sequence = 4");
    for (let sequence = 5; sequence <= LENGTH; sequence += 1)
      await run(closed, "update audit_entries set sequence = ? where sequence = ?", sequence - 1, sequence);
    await run(closed, "update audit_marks set sequence = ? where name = 'head'", LENGTH - 1);
    const found = await faultsOf(closed);
    assert.ok(
      found.includes("unlinked 4") && found.includes("changed 4") && found.includes(`seal ${LENGTH - 1}`),
      found.join(),
    );

    const inserted = await chained(t, dialect);
    await unguarded(inserted);
    for (let sequence = LENGTH; sequence >= 7; sequence -= 1)
      await run(inserted, "update audit_entries set sequence = ? where sequence = ?", sequence + 1, sequence);
    const copied = ["sequence", ...CONTENT_COLUMNS, "previous_hash", "hash"].join(", ");
    await run(
      inserted,
      `insert into audit_entries (${copied}) select 7, ${copied.slice("sequence, ".length)} from audit_entries where sequence = 3`,
    );
    const alien = await faultsOf(inserted);
    assert.ok(
      alien.includes("unlinked 7") && alien.includes("changed 7") && alien.includes(`beyond-head ${LENGTH + 1}`),
      alien.join(),
    );
  },
);

onEachDatabase(
  "an entry behind the head or before the beginning, and a mark that was moved, are found",
  async (t, dialect) => {
    const database = await chained(t, dialect);
    await unguarded(database);
    const copied = [...CONTENT_COLUMNS, "previous_hash", "hash"].join(", ");
    await run(
      database,
      `insert into audit_entries (sequence, ${copied}) select ${LENGTH + 1}, ${copied} from audit_entries where sequence = 3`,
    );
    assert.deepEqual(await faultsOf(database), [`beyond-head ${LENGTH + 1}`]);
    await run(database, "delete from audit_entries where sequence = ?", LENGTH + 1);

    await run(
      database,
      `insert into audit_entries (sequence, ${copied}) select 0, ${copied} from audit_entries where sequence = 3`,
    );
    assert.deepEqual(await faultsOf(database), ["beginning 0"]);
    await run(database, "delete from audit_entries where sequence = 0");

    const head = (await verified(database)).head;
    await run(database, "update audit_marks set hash = ? where name = 'head'", "f".repeat(64));
    assert.deepEqual(await faultsOf(database), [`head ${LENGTH}`, `seal ${LENGTH}`]);
    await run(database, "update audit_marks set hash = ?, sequence = 5 where name = 'head'", head.hash);
    const moved = await faultsOf(database);
    assert.ok(moved.includes("beyond-head 6") && moved.includes("seal 5"), moved.join());
    await run(database, "delete from audit_marks where name = 'head'");
    assert.ok((await faultsOf(database)).includes("beyond-head 1"));
  },
);

onEachDatabase(
  "who deletes the beginning and moves its mark, as retention does, is found: the chain does not say so",
  async (t, dialect) => {
    const database = await chained(t, dialect);
    const entries = await entriesOf(database);
    // The guards let it pass: so does retention.
    await database.transact([
      { sql: "update audit_marks set sequence = 4, hash = ? where name = 'beginning'", params: [entries[3]!["hash"]!] },
      { sql: "delete from audit_entries where sequence <= 4", params: [] },
    ]);
    assert.deepEqual(await faultsOf(database), ["beginning 4"]);
  },
);

onEachDatabase(
  "the database itself refuses to change an entry, to delete one out of order and to move a mark back",
  async (t, dialect) => {
    const database = await chained(t, dialect);
    for (const sql of [
      "update audit_entries set status = 500 where sequence = 3",
      "delete from audit_entries where sequence = 1",
      "delete from audit_entries",
      "update audit_marks set sequence = 3 where name = 'head'",
      "update audit_marks set name = 'beginning' where name = 'head'",
      "delete from audit_marks",
      ...(dialect === "postgres" ? ["truncate audit_entries", "truncate audit_marks"] : []),
    ])
      await assert.rejects(run(database, sql), ConstraintViolation, sql);
    assert.deepEqual(await faultsOf(database), []);
  },
);

/** As somebody would who can write the database and read this source, and has no key. */
async function writeAnew(database: Database, from: number): Promise<ChainPlace> {
  await unguarded(database);
  let place: ChainPlace | undefined;
  for (const row of await entriesOf(database)) {
    const sequence = Number(row["sequence"]);
    const previous = place?.hash ?? String(row["previous_hash"]);
    const changed = sequence === from ? { ...row, ip: "192.0.2.1" } : row;
    const hash = entryHash(sequence, contentOfRow(changed), previous);
    await run(
      database,
      "update audit_entries set ip = ?, previous_hash = ?, hash = ? where sequence = ?",
      changed["ip"]!,
      previous,
      hash,
      sequence,
    );
    place = { sequence, hash };
  }
  await run(database, "update audit_marks set hash = ? where name = 'head'", place!.hash);
  return place!;
}

onEachDatabase(
  "a chain that was written anew in itself without fault is found by its head's seal, also after the gateway went on from it",
  async (t, dialect) => {
    const database = await chained(t, dialect);
    await writeAnew(database, 3);
    assert.deepEqual(await faultsOf(database), [`seal ${LENGTH}`]);
    // A seal by another key than the gateway's does not help.
    const forged = createHeadSeals(newKeys);
    const { head } = await verified(database);
    await run(database, "update audit_marks set seal = ? where name = 'head'", forged.seal(head));
    assert.deepEqual(await faultsOf(database), [`seal ${LENGTH}`]);

    const told: string[] = [];
    await chainOn(database, { onSuspicion: (action) => void told.push(action) }).groupOf([act])();
    assert.deepEqual(told, ["audit.seal_unknown"]);
    assert.deepEqual(
      await faultsOf(database),
      [`suspicion ${LENGTH + 1}`],
      "it is on record, under a seal that holds again",
    );

    const another = await chained(t, dialect);
    await writeAnew(another, 3);
    await chainOn(another).groupOf([act])();
    assert.deepEqual(await faultsOf(another), [`suspicion ${LENGTH + 1}`]);
  },
);

onEachDatabase(
  "an earlier state that is put back is found by a head noted elsewhere, and by the instance that had gone further",
  async (t, dialect) => {
    const database = await chained(t, dialect);
    const chain = chainOn(database);
    const seal = (await database.all({ sql: "select * from audit_marks where name = 'head'", params: [] }))[0]!;
    const earlier = (await verified(database)).head;
    const later = await chain.groupOf([act, act])();
    assert.deepEqual(await faultsOf(database, { expectedHead: later }), []);
    assert.deepEqual(await faultsOf(database, { expectedHead: earlier }), []);
    await unguarded(database);
    await run(database, "delete from audit_entries where sequence > ?", earlier.sequence);
    await run(
      database,
      "update audit_marks set sequence = ?, hash = ?, seal = ? where name = 'head'",
      earlier.sequence,
      earlier.hash,
      seal["seal"]!,
    );
    assert.deepEqual(await faultsOf(database), [], "by itself it holds");
    assert.deepEqual(await faultsOf(database, { expectedHead: later }), [`expected-head ${later.sequence}`]);
    await chain.groupOf([act])();
    assert.deepEqual(await faultsOf(database), [`suspicion ${LENGTH + 1}`]);
    // Entries of the same number, and not the same.
    await chain.groupOf([act])();
    const found = await faultsOf(database, { expectedHead: later });
    assert.ok(found.includes(`expected-head ${later.sequence}`), found.join());
  },
);

onEachDatabase(
  "what an instance without a new key took for suspicious is cleared by who verifies with that key",
  async (t, dialect) => {
    const database = await chained(t, dialect);
    const [fresh] = newKeys();
    const both = createHeadSeals(() => [fresh, ...keys]);
    await chainOn(database, { seals: both }).groupOf([act])();
    // It has the old key alone.
    await chainOn(database).groupOf([act])();
    assert.deepEqual(await faultsOf(database), [`suspicion ${LENGTH + 2}`]);
    assert.deepEqual(await faultsOf(database, { seals: both }), []);
  },
);

onEachDatabase(
  "encryption keys may be rotated and retired: the newest seal vouches for what older keys sealed",
  async (t, dialect) => {
    const database = await chained(t, dialect);
    const [fresh] = newKeys();
    const both = createHeadSeals(() => [fresh, ...keys]);
    await chainOn(database, { seals: both }).groupOf([act])();
    assert.deepEqual(await faultsOf(database, { seals: createHeadSeals(() => [fresh]) }), []);
    assert.deepEqual(await faultsOf(database), [`seal ${LENGTH + 1}`], "who has the old key alone cannot tell");
    assert.deepEqual(await faultsOf(database, { seals: undefined }), [`seal ${LENGTH + 1}`], "nor who has none");
  },
);

onEachDatabase(
  "what a caller or an administrator may write, however odd, verifies as it was written",
  async (t, dialect) => {
    const { database } = await scratchDatabase(t, dialect);
    const odd = ["\0", "a\0b", "\ud800", "\u{1f600}", "'\"\\\n\r\u2028", "", " ", "٣", '[1,"x"]', "null"];
    const entries: AuditEntry[] = odd.flatMap((text) => [
      entryOfRequest(requestOf({ code: text, actor: { kind: "key", keyId: text, ip: text, requestId: text } }), NOW),
      entryOfAct(
        {
          actor: { kind: "cli" },
          action: text,
          target: text,
          before: { [text]: text },
          after: { list: [text, null, 1.5, true, 10n] },
        },
        NOW,
      ),
      notice(text, NOW, { text }),
    ]);
    await chainOn(database).groupOf(entries)();
    assert.deepEqual(await faultsOf(database), []);
    assert.equal((await verified(database)).entries, entries.length);
  },
);

onEachDatabase("a group whose commit took effect but whose answer was lost is written once", async (t, dialect) => {
  const { database } = await scratchDatabase(t, dialect);
  const group = chainOn(database).groupOf([act, act]);
  const first = await group();
  // As after a lost answer: the same group once more, also when somebody else wrote in between.
  await chainOn(database).groupOf([act])();
  assert.deepEqual(await group(), first);
  assert.deepEqual(await faultsOf(database), []);
  assert.equal((await entriesOf(database)).length, 3);
});

onEachDatabase("what is recorded in a transaction that is undone leaves no trace and no gap", async (t, dialect) => {
  const { database } = await scratchDatabase(t, dialect);
  const chain = chainOn(database);
  await chain.groupOf([act])();
  await assert.rejects(
    database.query.transaction().execute(async (transaction) => {
      await chain.appendIn(transaction, [act]);
      await chain.appendIn(transaction, [act, act]);
      throw new Error("undone");
    }),
    /undone/,
  );
  await chain.groupOf([act])();
  assert.deepEqual(await faultsOf(database), []);
  assert.equal((await entriesOf(database)).length, 2);
});

onEachDatabase(
  "a verification of a chain that grows and loses its beginning meanwhile finds nothing wrong",
  async (t, dialect) => {
    const { database } = await scratchDatabase(t, dialect);
    const chain = chainOn(database);
    await chain.groupOf(Array.from({ length: 2_500 }, () => entryOfRequest(requestOf(), NOW)))();
    let pages = 0;
    let meanwhile: Promise<unknown> = Promise.resolve();
    const verification = await verified(database, {
      onProgress: () => {
        pages += 1;
        meanwhile = meanwhile
          .then(() => chain.groupOf([{ ...act, occurredAtMs: NOW + 3 * DAY_MS }])())
          .then(() => deleteOldEntries({ database, clock: createTestClock(NOW + 2 * DAY_MS), chain, days: 1 }));
      },
    });
    await meanwhile;
    assert.deepEqual(verification.faults, []);
    const after = await verified(database);
    assert.deepEqual([after.faults, after.beginning.sequence], [[], 2_500]);
    assert.ok(pages >= 1);
  },
);
