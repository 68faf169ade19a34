import { closeSync, fsyncSync, mkdirSync, openSync, readFileSync, writeSync } from "node:fs";
import { dirname, join, resolve } from "node:path";
import { type FernetKeys, newFernetKey, parseFernetKeys } from "../lib/fernet.ts";
import { isPostgresUrl } from "../lib/postgres-address.ts";
import { StorageOpenError } from "./database.ts";
import { databasePathOf } from "./database-path.ts";

const FILE = "encryption.key";

/** Beside the database file; with PostgreSQL, in `data/`. */
export const encryptionKeyPath = (databaseUrl: string): string =>
  join(isPostgresUrl(databaseUrl) ? resolve("data") : dirname(databasePathOf(databaseUrl)), FILE);

/**
 * The keys of the setting, or else those of a file that is made, for this user alone, when it is not there. Of several
 * processes that make it at once one wins, and all use its key. Throws StorageOpenError with what to do.
 */
export function openEncryptionKeys(given: FernetKeys | undefined, databaseUrl: string): FernetKeys {
  if (given !== undefined) return given;
  const path = encryptionKeyPath(databaseUrl);
  try {
    mkdirSync(dirname(path), { recursive: true, mode: 0o700 });
    writeNew(path, `${newFernetKey()}\n`);
  } catch (cause) {
    if (codeOf(cause) !== "EEXIST") throw unusable(path, `cannot be made (${codeOf(cause)})`, cause);
  }
  let text: string;
  try {
    text = readFileSync(path, "utf8");
  } catch (cause) {
    throw unusable(path, `cannot be read (${codeOf(cause)})`, cause);
  }
  const keys = parseFernetKeys(text);
  if (keys === undefined) throw unusable(path, "does not hold a key");
  return keys;
}

function writeNew(path: string, text: string): void {
  const file = openSync(path, "wx", 0o600);
  try {
    writeSync(file, text);
    fsyncSync(file);
  } finally {
    closeSync(file);
  }
}

const codeOf = (error: unknown): string =>
  error instanceof Error && "code" in error ? String(error.code) : String(error);

const unusable = (path: string, why: string, cause?: unknown): StorageOpenError =>
  new StorageOpenError(
    `The encryption key in ${path} ${why}. Mend that, or set BRIKK_ENCRYPTION_KEY; what was sealed under another key cannot be read without it.`,
    { cause },
  );
