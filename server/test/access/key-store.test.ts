import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { readFileSync } from "node:fs";
import type { TestContext } from "node:test";
import { ANONYMOUS_KEY_ID, type KeyStatus, keyStatusAt } from "../../src/access/api-key.ts";
import type { KeyPosition } from "../../src/access/key-list.ts";
import { type CreatedKey, createKeyStore, type NewKey } from "../../src/access/key-store.ts";
import { parseSecret } from "../../src/access/secret.ts";
import { createVault } from "../../src/access/vault.ts";
import type { Actor } from "../../src/audit/actor.ts";
import { type AuditedAct, NO_AUDIT_TRAIL } from "../../src/audit/audit-trail.ts";
import { BrikkError, type ErrorCode } from "../../src/errors.ts";
import { parseFernetKeys } from "../../src/lib/fernet.ts";
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

const KEYS = parseFernetKeys(`${Buffer.alloc(32, 7).toString("base64url")}=`)!;
const ADMIN: Actor = { kind: "admin", ip: "192.0.2.1", requestId: "req_1" };
const refusedWith = (code: ErrorCode) => (error: unknown) => error instanceof BrikkError && error.code === code;

onEachDatabase(
  "the pages of the list have every key once, oldest first, also those made at one moment and while it is read",
  async (t, dialect) => {
    const { keyStore, clock } = await setUp(t, dialect);
    const made: string[] = [];
    for (let n = 0; n < 25; n += 1) {
      made.push((await keyStore.create({ name: `k${n}` })).key.id);
      if (n % 5 === 0) clock.advance(1);
    }
    const seen: string[] = [];
    let after: KeyPosition | undefined;
    do {
      const page = await keyStore.list({ after, limit: 4 });
      assert.ok(page.keys.length <= 4);
      seen.push(...page.keys.map(({ key }) => key.id));
      clock.advance(1);
      if (seen.length === 4) made.push((await keyStore.create({ name: "late" })).key.id);
      after = page.next;
    } while (after !== undefined);
    assert.equal(seen.length, 26);
    assert.deepEqual(new Set(seen), new Set(made));
  },
);

onEachDatabase("the list can be kept to active, expired or revoked keys", async (t, dialect) => {
  const { keyStore, clock } = await setUp(t, dialect);
  const lasting = await keyStore.create({ name: "lasting" });
  const later = await keyStore.create({ name: "later", expiresAtMs: clock.now() + 1_000 });
  const over = await keyStore.create({ name: "over", expiresAtMs: clock.now() + 1 });
  const gone = await keyStore.create({ name: "gone", expiresAtMs: clock.now() + 1 });
  await keyStore.revoke(gone.key.id);
  clock.advance(1);
  const idsOf = async (status: KeyStatus) =>
    new Set((await keyStore.list({ limit: 10, status })).keys.map(({ key }) => key.id));
  assert.deepEqual(await idsOf("active"), new Set([lasting.key.id, later.key.id]));
  assert.deepEqual(await idsOf("expired"), new Set([over.key.id]));
  assert.deepEqual(await idsOf("revoked"), new Set([gone.key.id]));
});

onEachDatabase(
  "of two changes made on one version the second is refused, and it changes nothing",
  async (t, dialect) => {
    const { keyStore } = await setUp(t, dialect);
    const { key } = await keyStore.create({ name: "before" });
    const change = (name: string) => keyStore.update(key.id, () => ({ name }), ADMIN, key.revision);
    const outcomes = await Promise.allSettled([change("one"), change("other")]);
    assert.equal(outcomes.filter(({ status }) => status === "fulfilled").length, 1);
    for (const one of outcomes)
      if (one.status === "rejected") assert.ok(refusedWith("version_conflict")(one.reason), String(one.reason));
    const now = await keyStore.find(key.id);
    assert.equal(now?.key.revision, key.revision + 1);
    assert.equal((await keyStore.update(key.id, () => ({ name: "next" }), ADMIN, now?.key.revision))?.name, "next");
  },
);

onEachDatabase(
  "a creation may be repeated with its idempotency key: one key, one answer; another request is refused",
  async (t, dialect) => {
    const { database, clock } = await setUp(t, dialect);
    const keyStore = createKeyStore({ database, clock, vault: createVault({ keys: KEYS, clock }) });
    const wanted: NewKey = { name: "once", hardCap: nanoUsd(2n ** 60n), signingRequired: true };
    const create = (requestHash = "asked") =>
      keyStore.create(wanted, ADMIN, { scope: "admin", key: "deploy-7", requestHash });
    const answers = await Promise.all(Array.from({ length: 20 }, () => create()));
    assert.equal(answers.filter(({ replayed }) => !replayed).length, 1);
    for (const { replayed: _, ...answer } of answers) {
      const { replayed: __, ...first } = answers[0]!;
      assert.deepEqual(answer, first);
    }
    assert.equal((await keyStore.list({ limit: 10 })).keys.length, 1);
    await assert.rejects(create("something else"), refusedWith("idempotency_key_reused"));
    await keyStore.update(answers[0]!.key.id, () => ({ name: "changed since" }));
    const { replayed, key } = await create();
    assert.deepEqual([replayed, key], [true, answers[0]!.key]);
  },
);

onEachDatabase(
  "an answer that somebody put in another's place in the database is given to nobody",
  async (t, dialect) => {
    const { database, clock } = await setUp(t, dialect);
    const keyStore = createKeyStore({ database, clock, vault: createVault({ keys: KEYS, clock }) });
    const create = (scope: string, key: string) =>
      keyStore.create({ name: "signs", signingRequired: true }, ADMIN, { scope, key, requestHash: "asked" });
    await create("admin", "theirs");
    await create("admin", "mine");
    await create("bk_mine00000000", "theirs");
    const answers = await database.query
      .selectFrom("idempotent_answers")
      .selectAll()
      .orderBy("created_at_ms")
      .execute();
    const sealedFor = (hash: string, scope: string): string =>
      answers.find((row) => row.idempotency_key_hash === hash && row.scope === scope)!.sealed_answer;
    const hashOf = (key: string): string => createHash("sha256").update(key).digest("hex");
    const theirs = sealedFor(hashOf("theirs"), "admin");
    await database.query
      .updateTable("idempotent_answers")
      .set({ sealed_answer: theirs })
      .where("sealed_answer", "!=", theirs)
      .execute();
    assert.equal((await create("admin", "theirs")).replayed, true);
    await assert.rejects(create("admin", "mine"), { name: "VaultError" });
    await assert.rejects(create("bk_mine00000000", "theirs"), { name: "VaultError" });
  },
);

onEachDatabase(
  "a signing secret is shown once, stored sealed for its key alone, and ends when it is renewed",
  async (t, dialect) => {
    const { database, clock } = await setUp(t, dialect);
    const vault = createVault({ keys: KEYS, clock });
    const keyStore = createKeyStore({ database, clock, vault });
    const { key, signingSecret } = await keyStore.create({ name: "signs", signingRequired: true });
    const stored = async (): Promise<string> => {
      const [row] = await database.query.selectFrom("api_keys").select("signing_secret").execute();
      return row!.signing_secret!;
    };
    assert.match(signingSecret!, /^brikk_sig_[0-9A-Za-z_-]{43}$/);
    assert.equal(vault.open(await stored(), `signing secret of ${key.id}`), signingSecret);
    const first = await stored();
    assert.equal((await keyStore.find(key.id))?.hasSigningSecret, true);
    const renewed = await keyStore.renewSigningSecret(key.id);
    assert.notEqual(renewed, signingSecret);
    assert.equal(vault.open(await stored(), `signing secret of ${key.id}`), renewed);
    assert.throws(() => vault.open(first, "signing secret of bk_000000000000"));
    assert.equal((await keyStore.create({ name: "plain" })).signingSecret, undefined);
    assert.equal(await keyStore.renewSigningSecret("bk_000000000000"), undefined);
    await keyStore.revoke(key.id);
    await assert.rejects(keyStore.renewSigningSecret(key.id), refusedWith("invalid_request"));
  },
);

onEachDatabase(
  "every change is on record with who made it, what was and what is; without its record there is no change",
  async (t, dialect) => {
    const { database, clock } = await setUp(t, dialect);
    const acts: AuditedAct[] = [];
    let broken = false;
    const keyStore = createKeyStore({
      database,
      clock,
      vault: createVault({ keys: KEYS, clock }),
      audit: {
        ...NO_AUDIT_TRAIL,
        recordIn: async (_, act) => {
          if (broken) throw new Error("the trail cannot be written");
          acts.push(act);
        },
      },
    });
    const { key, secret } = await keyStore.create({ name: "k", hardCap: nanoUsd(1_000_000_000n) }, ADMIN);
    await keyStore.update(key.id, () => ({ name: "k2", allowedModels: ["gpt-4o-mini"] }), ADMIN);
    await keyStore.renewSigningSecret(key.id, ADMIN);
    await keyStore.revoke(key.id, ADMIN);
    await keyStore.revoke(key.id, ADMIN);
    assert.deepEqual(
      acts.map(({ action }) => action),
      ["key.create", "key.update", "key.renew_signing_secret", "key.revoke"],
    );
    for (const act of acts) assert.deepEqual([act.actor, act.target], [ADMIN, key.id]);
    const [created, updated, , revoked] = acts;
    assert.equal(created!.after!["hard_cap_usd"], 1);
    assert.deepEqual([updated!.before!["name"], updated!.after!["name"]], ["k", "k2"]);
    assert.deepEqual([updated!.before!["models"], updated!.after!["models"]], [null, ["gpt-4o-mini"]]);
    assert.deepEqual([revoked!.before!["status"], revoked!.after!["status"]], ["active", "revoked"]);
    assert.equal(JSON.stringify(acts).includes(secret.slice(12)), false);

    broken = true;
    const other = await createKeyStore({ database, clock }).create({ name: "other" });
    const before = await keyStore.list({ limit: 10 });
    await assert.rejects(keyStore.create({ name: "unrecorded" }));
    await assert.rejects(keyStore.update(other.key.id, () => ({ name: "unrecorded" })));
    await assert.rejects(keyStore.revoke(other.key.id));
    await assert.rejects(keyStore.rotate(other.key.id, { graceMs: 0 }));
    assert.deepEqual(await keyStore.list({ limit: 10 }), before);
  },
);
