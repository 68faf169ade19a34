import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { chmodSync, mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { loosePermissions } from "../../src/storage/loose-permissions.ts";
import { scratchFolder } from "./scratch.ts";

const FILES = ["brikk.db", "brikk.db-wal", "encryption.key"] as const;
const MODES = { ".": 0o700, "brikk.db": 0o600, "brikk.db-wal": 0o600, "encryption.key": 0o600 };

const cases: readonly (readonly [mode: Partial<Record<keyof typeof MODES, number>>, says: RegExp | undefined])[] = [
  [{}, undefined],
  // A group that may read the database is meant, as for backups.
  [{ ".": 0o750, "brikk.db": 0o640, "brikk.db-wal": 0o640 }, undefined],
  [{ ".": 0o755 }, /^The data folder \S+ can be read by every user of this machine\. Run: chmod g-w,o-rwx /],
  [{ ".": 0o770 }, /^The data folder \S+ can be changed by its group\. /],
  [{ ".": 0o777 }, /^The data folder \S+ can be changed by every user of this machine and its group\. /],
  [{ "brikk.db": 0o644 }, /^The database file \S+brikk\.db can be read by every user/],
  [{ "brikk.db": 0o660 }, /^The database file \S+brikk\.db can be changed by its group/],
  [{ "brikk.db-wal": 0o604 }, /^The database file \S+brikk\.db-wal can be read by every user/],
  [
    { "encryption.key": 0o644 },
    /^The encryption key \S+ can be read by every user of this machine and its group\. Run: chmod go-rwx /,
  ],
  [{ "encryption.key": 0o640 }, /^The encryption key \S+ can be read by its group/],
];

test(
  "a data folder, a database or a key that others may read or change is named, and the command that is told mends it",
  { skip: process.platform === "win32" ? "there are no modes" : false },
  (t) => {
    for (const [index, [modes, says]] of cases.entries()) {
      // A name that a shell would take apart.
      const folder = join(scratchFolder(t), `it's ${index}`);
      mkdirSync(folder);
      for (const file of FILES) writeFileSync(join(folder, file), "");
      for (const [name, mode] of Object.entries({ ...MODES, ...modes })) chmodSync(join(folder, name), mode);
      const found = loosePermissions(`sqlite:${folder}/brikk.db`);
      if (says === undefined) {
        assert.deepEqual(found, []);
        continue;
      }
      assert.equal(found.length, 1);
      assert.match(found[0]!.sentence.replaceAll("it's ", "its-"), says);
      execFileSync("sh", ["-c", found[0]!.remedy]);
      assert.deepEqual(loosePermissions(`sqlite:${folder}/brikk.db`), []);
    }
  },
);

test("what is not there yet is not warned of", (t) => {
  assert.deepEqual(loosePermissions(`sqlite:${scratchFolder(t)}/none/brikk.db`), []);
});
