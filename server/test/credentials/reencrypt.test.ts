import assert from "node:assert/strict";
import { createKeyRing } from "../../src/access/key-ring.ts";
import { createKeyStore } from "../../src/access/key-store.ts";
import { createVault, type Vault } from "../../src/access/vault.ts";
import {
  idempotentAnswerPurpose,
  providerCredentialPurpose,
  signingSecretPurpose,
} from "../../src/access/vault-purposes.ts";
import { createCredentialStore } from "../../src/credentials/credential-store.ts";
import { findUnreadable } from "../../src/credentials/find-unreadable.ts";
import { reencrypt } from "../../src/credentials/reencrypt.ts";
import { DAY_MS } from "../../src/lib/clock.ts";
import { type FernetKeys, newFernetKey, parseFernetKeys } from "../../src/lib/fernet.ts";
import type { Database } from "../../src/storage/database.ts";
import { createTestClock } from "../lib/test-clock.ts";
import { onEachDatabase, scratchDatabase } from "../storage/scratch.ts";

const clock = createTestClock();
const vaultWith = (...keys: string[]): Vault =>
  createVault({ keys: parseFernetKeys(keys.join(",")) as FernetKeys, clock });
const [oldKey, newKey, lostKey] = [newFernetKey(), newFernetKey(), newFernetKey()];
const old = vaultWith(oldKey);
const rotated = vaultWith(newKey, oldKey);
const fresh = vaultWith(newKey);

/** More than fit in one batch, of each kind; gives the keys' ids. */
async function fill(database: Database, keys = 230): Promise<string[]> {
  const store = createKeyStore({ database, clock });
  const ids: string[] = [];
  for (let index = 0; index < keys; index += 1) {
    const { key } = await store.create({ name: `k${index}` });
    ids.push(key.id);
    await setSigningSecret(database, key.id, old.seal(`signing secret ${index}`, signingSecretPurpose(key.id)));
  }
  const credentials = createCredentialStore({ database, clock, vault: old });
  await credentials.save("openai", "sk-of-openai", "none");
  await credentials.save("mistral", "sk-of-mistral", "none");
  await credentials.save("house", "sk-of-the-house", "none");
  await credentials.remove("house", "some");
  for (let index = 0; index < 150; index += 1) await noteAnswer(database, `hash ${index}`, clock.now() - 1_000);
  for (let index = 0; index < 7; index += 1) await noteAnswer(database, `old ${index}`, clock.now() - DAY_MS - 1);
  return ids;
}

const setSigningSecret = (database: Database, id: string, sealed: string) =>
  database.query.updateTable("api_keys").set({ signing_secret: sealed }).where("id", "=", id).execute();

const noteAnswer = (database: Database, hash: string, createdAtMs: number) =>
  database.query
    .insertInto("idempotent_answers")
    .values({
      scope: "admin",
      idempotency_key_hash: hash,
      request_hash: "r",
      sealed_answer: old.seal(`answer ${hash}`, idempotentAnswerPurpose("admin", hash)),
      created_at_ms: createdAtMs,
    })
    .execute();

/** Opens everything with a vault and says what is in it. */
async function read(database: Database, vault: Vault): Promise<Record<string, string[]>> {
  const { query } = database;
  const keys = await query.selectFrom("api_keys").select(["id", "signing_secret"]).orderBy("name").execute();
  const credentials = await query
    .selectFrom("provider_credentials")
    .select(["provider", "sealed"])
    .where("sealed", "is not", null)
    .orderBy("provider")
    .execute();
  const answers = await query
    .selectFrom("idempotent_answers")
    .select(["sealed_answer", "idempotency_key_hash as hash"])
    .orderBy("idempotency_key_hash")
    .execute();
  return {
    signing: keys.flatMap((row) =>
      row.signing_secret === null ? [] : vault.open(row.signing_secret, signingSecretPurpose(row.id)),
    ),
    credentials: credentials.map((row) => vault.open(row.sealed!, providerCredentialPurpose(row.provider))),
    answers: answers.map((row) => vault.open(row.sealed_answer, idempotentAnswerPurpose("admin", row.hash))),
  };
}

onEachDatabase(
  "all that is sealed is sealed under the newest key, says the same as before, and the old key can be dropped",
  async (t, dialect) => {
    const { database } = await scratchDatabase(t, dialect);
    await fill(database);
    await database.query.deleteFrom("idempotent_answers").where("idempotency_key_hash", "like", "old %").execute();
    const before = await read(database, old);
    for (let index = 0; index < 7; index += 1) await noteAnswer(database, `old ${index}`, clock.now() - DAY_MS - 1);
    const done = await reencrypt({ database, vault: rotated, clock });
    assert.deepEqual(done, { resealed: 230 + 2 + 150, current: 0, dropped: 7, unreadable: [] });
    assert.deepEqual(await read(database, fresh), before);
    assert.deepEqual(await findUnreadable(database, fresh), []);
    // Again, and with the old key gone: there is nothing left to do.
    assert.deepEqual(await reencrypt({ database, vault: fresh, clock }), {
      resealed: 0,
      current: 230 + 2 + 150,
      dropped: 0,
      unreadable: [],
    });
  },
);

onEachDatabase(
  "interrupted at any batch, it goes on where it was, and everything can be opened throughout",
  async (t, dialect) => {
    const { database } = await scratchDatabase(t, dialect);
    await fill(database);
    let left = 250;
    const breaking: Vault = {
      ...rotated,
      seal: (text, purpose) => {
        left -= 1;
        if (left < 0) throw new Error("the process ends here");
        return rotated.seal(text, purpose);
      },
    };
    await assert.rejects(reencrypt({ database, vault: breaking, clock }), /the process ends here/);
    const between = await read(database, rotated);
    assert.deepEqual([between["signing"]?.length, between["credentials"]?.length], [230, 2]);
    const done = await reencrypt({ database, vault: rotated, clock });
    assert.ok(done.current > 0 && done.resealed > 0, JSON.stringify(done));
    assert.deepEqual(await read(database, fresh), between);
  },
);

onEachDatabase(
  "what no key opens is named, left as it is, and keeps nothing else from being sealed anew",
  async (t, dialect) => {
    const { database } = await scratchDatabase(t, dialect);
    const [first, second, third] = await fill(database, 3);
    const lost = vaultWith(lostKey).seal("lost", signingSecretPurpose(first!));
    await setSigningSecret(database, first!, lost);
    // Another key's, put in its place.
    await setSigningSecret(database, second!, rotated.seal("swapped", signingSecretPurpose(third!)));
    const done = await reencrypt({ database, vault: rotated, clock });
    assert.deepEqual(
      done.unreadable.map(({ kind, of }) => `${kind} of ${of}`).toSorted(),
      [`signing secret of ${first}`, `signing secret of ${second}`].toSorted(),
    );
    assert.equal(done.resealed, 1 + 2 + 150);
    const [row] = await database.query
      .selectFrom("api_keys")
      .select("signing_secret")
      .where("id", "=", first!)
      .execute();
    assert.equal(row?.signing_secret, lost);
    assert.deepEqual(
      (await findUnreadable(database, rotated)).map(({ of }) => of).toSorted(),
      [first!, second!].toSorted(),
    );
  },
);

onEachDatabase("running servers see what was sealed anew", async (t, dialect) => {
  const { database } = await scratchDatabase(t, dialect);
  const store = createKeyStore({ database, clock });
  const { key } = await store.create({ name: "signed" });
  await setSigningSecret(database, key.id, old.seal("its secret", signingSecretPurpose(key.id)));
  const ring = createKeyRing({ database, clock });
  await ring.refresh();
  const seen = ring.get(key.id)!.revision;
  await reencrypt({ database, vault: rotated, clock });
  await ring.refresh();
  assert.ok(ring.get(key.id)!.revision > seen);
});
