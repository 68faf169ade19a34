import { randomUUID } from "node:crypto";
import {
  closeSync,
  existsSync,
  fsyncSync,
  linkSync,
  mkdirSync,
  openSync,
  readFileSync,
  rmSync,
  statSync,
  writeSync,
} from "node:fs";
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
 * processes that make it at once one wins, and all use its key. A file that others can read is refused: whoever has read it
 * opens everything that was ever sealed under it. Throws StorageOpenError with what to do.
 */
export function openEncryptionKeys(given: FernetKeys | undefined, databaseUrl: string): FernetKeys {
  if (given !== undefined) return given;
  const path = encryptionKeyPath(databaseUrl);
  try {
    if (!existsSync(path)) {
      mkdirSync(dirname(path), { recursive: true, mode: 0o700 });
      makeWhole(path, `${newFernetKey()}\n`);
    }
  } catch (cause) {
    if (codeOf(cause) !== "EEXIST") throw unusable(path, `cannot be made (${codeOf(cause)})`, cause);
  }
  let text: string;
  let mode: number;
  try {
    text = readFileSync(path, "utf8");
    ({ mode } = statSync(path));
  } catch (cause) {
    throw unusable(path, `cannot be read (${codeOf(cause)})`, cause);
  }
  // Windows has no such bits and makes some up.
  if (process.platform !== "win32" && (mode & 0o077) !== 0)
    throw unusable(path, `can be read by others; take that away with: chmod 600 ${path}`);
  const keys = parseFernetKeys(text);
  if (keys === undefined) throw unusable(path, "does not hold a key");
  return keys;
}

/** The file appears with all that is in it or not at all, as somebody else may read it the moment it is there. Throws EEXIST when it is. */
function makeWhole(path: string, text: string): void {
  const draft = `${path}.${randomUUID()}`;
  try {
    const file = openSync(draft, "wx", 0o600);
    try {
      writeSync(file, text);
      fsyncSync(file);
    } finally {
      closeSync(file);
    }
    linkSync(draft, path);
  } finally {
    rmSync(draft, { force: true });
  }
}

const codeOf = (error: unknown): string =>
  error instanceof Error && "code" in error ? String(error.code) : String(error);

const unusable = (path: string, why: string, cause?: unknown): StorageOpenError =>
  new StorageOpenError(
    `The encryption key in ${path} ${why}. Mend that, or set BRIKK_ENCRYPTION_KEY; what was sealed under another key cannot be read without it.`,
    { cause },
  );
