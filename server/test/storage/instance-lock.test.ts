import assert from "node:assert/strict";
import { symlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { StorageOpenError } from "../../src/storage/database.ts";
import { AlreadyRunning, lockInstance } from "../../src/storage/instance-lock.ts";
import { openDatabase } from "../../src/storage/open-database.ts";
import { runChild, scratchFolder, sourceUrl } from "./scratch.ts";

const holder = (path: string): string =>
  `import { lockInstance } from ${JSON.stringify(sourceUrl("storage/instance-lock.ts"))};
   lockInstance(${JSON.stringify(path)});
   process.stdout.write("held\\n");
   setInterval(() => {}, 60_000);`;

test("a second server on the same file is refused with the file's name, and its attempt does not loosen the first's hold", (t) => {
  const path = join(scratchFolder(t), "data", "brikk.db");
  const lock = lockInstance(path);
  t.after(() => lock.release());
  for (const _ of [1, 2, 3]) {
    assert.throws(
      () => lockInstance(path),
      (error) => error instanceof AlreadyRunning && error.message.includes(path),
    );
  }
});

test("the lock keeps other processes out, through a linked folder and after an attempt from its own process too", async (t) => {
  const folder = scratchFolder(t);
  const link = join(scratchFolder(t), "link");
  symlinkSync(folder, link);
  const lock = lockInstance(join(folder, "brikk.db"));
  t.after(() => lock.release());
  assert.throws(() => lockInstance(join(folder, "brikk.db")), AlreadyRunning);
  const { code, stderr } = await runChild(t, holder(join(link, "brikk.db"))).ended;
  assert.notEqual(code, 0);
  assert.match(stderr, /AlreadyRunning/);
});

test("a released lock can be taken again; releasing twice is harmless", (t) => {
  const path = join(scratchFolder(t), "brikk.db");
  const first = lockInstance(path);
  first.release();
  first.release();
  lockInstance(path).release();
});

test("the lock of a killed process is free at once", async (t) => {
  const path = join(scratchFolder(t), "brikk.db");
  const child = runChild(t, holder(path));
  assert.equal(await child.line(), "held");
  assert.throws(() => lockInstance(path), AlreadyRunning);
  await child.kill();
  lockInstance(path).release();
});

test("a lock that nothing refers to any more is held all the same", async (t) => {
  const path = join(scratchFolder(t), "brikk.db");
  const child = runChild(
    t,
    `import { setFlagsFromString } from "node:v8";
   import { runInNewContext } from "node:vm";
   ${holder(path)}
   setFlagsFromString("--expose-gc");
   setTimeout(() => { runInNewContext("gc")(); process.stdout.write("collected\\n"); }, 10);`,
  );
  assert.equal(await child.line(), "held");
  assert.equal(await child.line(), "collected");
  assert.throws(() => lockInstance(path), AlreadyRunning);
  await child.kill();
});

test("the command line can use the database while a server holds the lock", async (t) => {
  const path = join(scratchFolder(t), "brikk.db");
  const lock = lockInstance(path);
  t.after(() => lock.release());
  const database = await openDatabase({ url: `sqlite:${path}` });
  t.after(() => database.close());
  assert.deepEqual(await database.query.selectFrom("api_keys").selectAll().execute(), []);
});

test("a lock file that is something else is named", (t) => {
  const path = join(scratchFolder(t), "brikk.db");
  writeFileSync(`${path}.lock`, "not a lock ".repeat(1_000));
  assert.throws(
    () => lockInstance(path),
    (error) => error instanceof StorageOpenError && error.message.includes(`${path}.lock`),
  );
});
