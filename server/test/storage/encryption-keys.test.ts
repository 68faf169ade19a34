import assert from "node:assert/strict";
import { chmodSync, mkdirSync, readdirSync, readFileSync, statSync, symlinkSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { test, type TestContext } from "node:test";
import { newFernetKey, parseFernetKeys } from "../../src/lib/fernet.ts";
import { StorageOpenError } from "../../src/storage/database.ts";
import { encryptionKeyPath, openEncryptionKeys } from "../../src/storage/encryption-keys.ts";
import { runChild, scratchFolder, sourceUrl } from "./scratch.ts";

const placeIn = (t: TestContext): { url: string; path: string } => {
  const url = `sqlite:${join(scratchFolder(t), "data", "brikk.db")}`;
  return { url, path: encryptionKeyPath(url) };
};

test("keys of the setting are used as they are, and no file is made", (t) => {
  const { url, path } = placeIn(t);
  const given = parseFernetKeys(newFernetKey())!;
  assert.equal(openEncryptionKeys(given, url), given);
  assert.throws(() => statSync(path));
});

test("without one a key is made beside the database, for this user alone, and is the same from then on", (t) => {
  const { url, path } = placeIn(t);
  const made = openEncryptionKeys(undefined, url);
  assert.equal(statSync(path).mode & 0o777, 0o600);
  assert.equal(statSync(dirname(path)).mode & 0o777, 0o700);
  assert.deepEqual(openEncryptionKeys(undefined, url), made);
  assert.deepEqual(readdirSync(dirname(path)), ["encryption.key"], "nothing else is left behind");
});

test("of many processes that start at once one makes the key and all use it", async (t) => {
  const { url, path } = placeIn(t);
  const go = join(scratchFolder(t), "go");
  const source = `
    import { existsSync } from "node:fs";
    import { openEncryptionKeys } from ${JSON.stringify(sourceUrl("storage/encryption-keys.ts"))};
    console.log("ready");
    while (!existsSync(${JSON.stringify(go)}));
    const [key] = openEncryptionKeys(undefined, ${JSON.stringify(url)});
    console.log(Buffer.concat([key.signing, key.encryption]).toString("base64url"));
  `;
  const children = Array.from({ length: 6 }, () => runChild(t, source));
  for (const child of children) assert.equal(await child.line(), "ready");
  writeFileSync(go, "");
  const used = new Set(await Promise.all(children.map((child) => child.line())));
  assert.deepEqual([...used], [readFileSync(path, "utf8").trim().slice(0, 43)]);
  await Promise.all(children.map(({ ended }) => ended));
  assert.deepEqual(readdirSync(dirname(path)), ["encryption.key"]);
});

test("a file of several keys has the newest first", (t) => {
  const { url, path } = placeIn(t);
  openEncryptionKeys(undefined, url);
  const [newer, older] = [newFernetKey(), newFernetKey()];
  writeFileSync(path, `${newer},${older}\n`);
  assert.deepEqual(openEncryptionKeys(undefined, url), parseFernetKeys(`${newer},${older}`));
});

const refused = (url: string, message: RegExp): void =>
  assert.throws(
    () => openEncryptionKeys(undefined, url),
    (error) => error instanceof StorageOpenError && message.test(error.message),
  );

test("a key file that others can read is refused with what to do, and its key is in no message", (t) => {
  const { url, path } = placeIn(t);
  openEncryptionKeys(undefined, url);
  const key = readFileSync(path, "utf8").trim();
  for (const mode of [0o644, 0o640, 0o604, 0o660, 0o602]) {
    chmodSync(path, mode);
    refused(url, /can be read by others; take that away with: chmod 600 /);
    assert.throws(
      () => openEncryptionKeys(undefined, url),
      (error) => error instanceof Error && !error.message.includes(key),
    );
  }
  chmodSync(path, 0o400);
  openEncryptionKeys(undefined, url);
});

test("a key file that cannot be read, holds none, or leads nowhere stops the start, and is never replaced", (t) => {
  const { url, path } = placeIn(t);
  openEncryptionKeys(undefined, url);
  for (const text of ["", "not a key\n", `${newFernetKey()},oops`]) {
    writeFileSync(path, text);
    refused(url, /does not hold a key/);
    assert.equal(readFileSync(path, "utf8"), text);
  }
  const folder = placeIn(t);
  mkdirSync(folder.path, { recursive: true });
  refused(folder.url, /cannot be read \(EISDIR\)/);
  const hanging = `sqlite:${join(scratchFolder(t), "brikk.db")}`;
  symlinkSync("/nonexistent/place", encryptionKeyPath(hanging));
  refused(hanging, /cannot be read \(ENOENT\)/);
});
