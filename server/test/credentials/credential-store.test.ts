import assert from "node:assert/strict";
import { createVault } from "../../src/access/vault.ts";
import type { AuditedAct, AuditTrail } from "../../src/audit/audit-trail.ts";
import { NO_AUDIT_TRAIL } from "../../src/audit/audit-trail.ts";
import type { ProviderConfig } from "../../src/config.ts";
import { loadConfig } from "../../src/config.ts";
import { createCredentialRing, type CredentialRing } from "../../src/credentials/credential-ring.ts";
import { createCredentialStore } from "../../src/credentials/credential-store.ts";
import { BrikkError } from "../../src/errors.ts";
import { type FernetKeys, newFernetKey, parseFernetKeys } from "../../src/lib/fernet.ts";
import type { Database } from "../../src/storage/database.ts";
import { createTestClock } from "../lib/test-clock.ts";
import { onEachDatabase, scratchDatabase } from "../storage/scratch.ts";

const KEY = "sk-credential-0123456789-WXYZ";
const clock = createTestClock();
const vaultWith = (...keys: string[]) =>
  createVault({ keys: parseFernetKeys(keys.join(",")) as FernetKeys, clock: createTestClock() });
const [firstKey, secondKey] = [newFernetKey(), newFernetKey()];
const vault = vaultWith(firstKey);

const rejectsWith = (doing: Promise<unknown>, code: string): Promise<void> =>
  assert.rejects(doing, (error) => error instanceof BrikkError && error.code === code);

/** The environment's providers; the first has a key of its own. */
const providers: readonly ProviderConfig[] = loadConfig({ OPENAI_API_KEY: "sk-of-the-environment" }).providers;

function ringOn(database: Database, ringVault = vault): { ring: CredentialRing; said: string[] } {
  const said: string[] = [];
  const ring = createCredentialRing({
    database,
    vault: ringVault,
    onChange: () => said.push("change"),
    onUnreadable: (provider) => said.push(`unreadable ${provider}`),
    onRefreshFailed: () => said.push("failed"),
  });
  return { ring, said };
}

const keysOf = (ring: CredentialRing): (string | undefined)[] => ring.applyTo(providers).map(({ apiKey }) => apiKey);

onEachDatabase(
  "what is stored is sealed, for its provider alone, and told by its last characters if it is long",
  async (t, dialect) => {
    const { database } = await scratchDatabase(t, dialect);
    const store = createCredentialStore({ database, clock, vault });
    const saved = await store.save("openai", KEY, "none");
    await store.save("mistral", "short-key", "none");
    assert.deepEqual(
      (await store.list()).map(({ provider, hint }) => [provider, hint]),
      [
        ["mistral", undefined],
        ["openai", "WXYZ"],
      ],
    );
    assert.deepEqual(saved, {
      provider: "openai",
      hint: "WXYZ",
      revision: 1,
      createdAtMs: clock.now(),
      updatedAtMs: clock.now(),
    });
    const rows = await database.all({ sql: "select * from provider_credentials", params: [] });
    for (const row of rows) assert.doesNotMatch(Object.values(row).join(" "), /credential-0123|short-key/);

    // One provider's row with another's sealed text: whoever can write the table gains nothing by it.
    await database.all({
      sql: "update provider_credentials set sealed = (select sealed from provider_credentials where provider = 'openai'), revision = 100 where provider = 'mistral'",
      params: [],
    });
    const { ring, said } = ringOn(database);
    await ring.refresh();
    assert.deepEqual(keysOf(ring), [KEY, undefined]);
    assert.deepEqual(said, ["unreadable mistral", "change"]);
  },
);

onEachDatabase(
  "of changes that were made on the same revision one wins, and a removed one's revision is never given again",
  async (t, dialect) => {
    const { database } = await scratchDatabase(t, dialect);
    const store = createCredentialStore({ database, clock, vault });
    const { revision } = await store.save("openai", KEY, "none");
    await rejectsWith(store.save("openai", KEY, "none"), "precondition_required");
    await rejectsWith(store.remove("openai", "none"), "precondition_required");
    const tries = await Promise.allSettled(
      Array.from({ length: 5 }, (_, index) => store.save("openai", `${KEY}${index}`, revision)),
    );
    assert.equal(tries.filter(({ status }) => status === "fulfilled").length, 1);
    const removed = await store.remove("openai", "some");
    assert.equal(removed?.provider, "openai");
    assert.equal(await store.remove("openai", "whatever"), undefined);
    await rejectsWith(store.save("openai", KEY, removed.revision), "version_conflict");
    const again = await store.save("openai", KEY, "none");
    assert.ok(again.revision > removed.revision + 1);
  },
);

onEachDatabase(
  "every change is on record in its own transaction, with the hint at most, and not without it",
  async (t, dialect) => {
    const { database } = await scratchDatabase(t, dialect);
    const acts: AuditedAct[] = [];
    let broken = false;
    const audit: AuditTrail = {
      ...NO_AUDIT_TRAIL,
      recordIn: async (_transaction, act) => {
        if (broken) throw new Error("the trail cannot be written");
        acts.push(act);
      },
    };
    const store = createCredentialStore({ database, clock, vault, audit });
    const by = { kind: "admin", ip: "192.0.2.7" } as const;
    await store.save("openai", KEY, "none", by);
    await store.save("openai", `${KEY}Q`, "some", by);
    await store.remove("openai", "some", by);
    assert.deepEqual(
      acts.map(({ actor, action, target, before, after }) => [
        actor,
        action,
        target,
        before?.["hint"],
        after?.["hint"],
      ]),
      [
        [by, "provider_credential.save", "openai", undefined, "WXYZ"],
        [by, "provider_credential.save", "openai", "WXYZ", "XYZQ"],
        [by, "provider_credential.remove", "openai", "XYZQ", undefined],
      ],
    );
    assert.doesNotMatch(JSON.stringify(acts), /credential-0123/);
    broken = true;
    await assert.rejects(store.save("openai", KEY, "none", by));
    assert.deepEqual(await store.list(), []);
  },
);

onEachDatabase(
  "a ring has what another one's writer stored, changed and removed, and the environment's for the rest",
  async (t, dialect) => {
    const { database } = await scratchDatabase(t, dialect);
    const store = createCredentialStore({ database, clock, vault });
    const { ring, said } = ringOn(database);
    await ring.refresh();
    assert.deepEqual([keysOf(ring), said], [["sk-of-the-environment", undefined], []]);
    await store.save("openai", KEY, "none");
    await store.save("mistral", KEY, "none");
    await ring.refresh();
    assert.deepEqual([keysOf(ring), said], [[KEY, KEY], ["change"]]);
    await store.save("openai", "another-key", "some");
    await store.remove("mistral", "some");
    await ring.refresh();
    assert.deepEqual(
      [keysOf(ring), said],
      [
        ["another-key", undefined],
        ["change", "change"],
      ],
    );
    assert.deepEqual([ring.has("openai"), ring.has("mistral"), ring.unreadable], [true, false, []]);
    await ring.refresh();
    assert.equal(said.length, 2, "nothing changed, and nothing is said");
  },
);

onEachDatabase(
  "what no key opens leaves its provider unasked, or with what was known; its environment's key is not taken instead",
  async (t, dialect) => {
    const { database } = await scratchDatabase(t, dialect);
    await createCredentialStore({ database, clock, vault }).save("openai", KEY, "none");
    const stranger = ringOn(database, vaultWith(secondKey));
    await stranger.ring.refresh();
    assert.deepEqual(keysOf(stranger.ring), [undefined, undefined]);
    assert.deepEqual([stranger.ring.unreadable, stranger.ring.has("openai")], [["openai"], true]);
    const [keyless] = stranger.ring.applyTo([{ ...providers[0]!, keyless: true }]);
    assert.equal(keyless?.keyless, false, "nor is it asked without a key");

    const { ring, said } = ringOn(database);
    await ring.refresh();
    // Sealed anew by somebody who has a newer key already.
    await createCredentialStore({ database, clock, vault: vaultWith(secondKey, firstKey) }).save("openai", KEY, "some");
    await ring.refresh();
    assert.deepEqual([keysOf(ring)[0], ring.unreadable], [KEY, ["openai"]]);
    assert.deepEqual(said, ["change", "unreadable openai", "change"]);
  },
);

onEachDatabase("a ring goes on with what it knows while the database does not answer", async (t, dialect) => {
  const { database } = await scratchDatabase(t, dialect);
  await createCredentialStore({ database, clock, vault }).save("openai", KEY, "none");
  const { ring } = ringOn(database);
  await ring.refresh();
  await database.close();
  await assert.rejects(ring.refresh());
  assert.equal(keysOf(ring)[0], KEY);
});
