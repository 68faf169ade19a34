import { accessSync, closeSync, constants, existsSync, mkdirSync, openSync, statSync } from "node:fs";
import { dirname, resolve } from "node:path";
import { StorageOpenError } from "./database.ts";

/** The file that DATABASE_URL names, as an absolute path. Throws StorageOpenError when it names none. */
export function databasePathOf(url: string): string {
  const path = /^sqlite:(?:\/\/(?=[/.]))?(.+)$/.exec(url)?.[1];
  if (path === undefined || path === ":memory:") {
    // Never repeated in full: the address of another database may hold a password.
    const scheme = /^[a-z0-9+.-]{1,20}:/i.exec(url)?.[0] ?? "no scheme";
    throw new StorageOpenError(
      `DATABASE_URL does not name a SQLite file (it has "${path ?? scheme}"). Set it to sqlite:PATH, such as sqlite:./data/brikk.db.`,
    );
  }
  return resolve(path);
}

/** Makes the folder and the file if they are missing, for this user alone, and proves that both can be written. */
export function prepareDatabaseFile(path: string): void {
  const folder = dirname(path);
  attempt(`The folder ${folder} for the database cannot be created`, () => makeFolder(folder));
  // The log and its index are made beside the file, so a writable file is not enough.
  attempt(`The folder ${folder} of the database cannot be written to`, () =>
    accessSync(folder, constants.W_OK | constants.X_OK),
  );
  if (statSync(path, { throwIfNoEntry: false })?.isDirectory() === true) {
    throw new StorageOpenError(
      `The database path ${path} is a folder. Set DATABASE_URL to a file inside it, such as sqlite:${path}/brikk.db.`,
    );
  }
  attempt(`The database file ${path} cannot be written to`, () => {
    // Opening and closing a file that SQLite has open in this process would drop SQLite's locks (sqlite.org/howtocorrupt.html,
    // section 2.2), so a file that exists is only asked about.
    if (existsSync(path)) accessSync(path, constants.R_OK | constants.W_OK);
    else createEmpty(path);
  });
}

/** Not mkdir's own `recursive`: it never returns where a parent exists and still takes no folder, as in /proc. */
function makeFolder(path: string): void {
  try {
    mkdirSync(path, { mode: 0o700 });
  } catch (error) {
    const code = error instanceof Error && "code" in error ? error.code : undefined;
    if (code === "EEXIST" && statSync(path).isDirectory()) return;
    if (code !== "ENOENT" || existsSync(dirname(path))) throw error;
    makeFolder(dirname(path));
    makeFolder(path);
  }
}

function createEmpty(path: string): void {
  try {
    closeSync(openSync(path, "wx", 0o600));
  } catch (error) {
    // Another process was faster.
    if (!(error instanceof Error && "code" in error && error.code === "EEXIST")) throw error;
  }
}

function attempt(what: string, act: () => void): void {
  try {
    act();
  } catch (cause) {
    throw new StorageOpenError(
      `${what} (${reasonOf(cause)}). Give this user the right to write there, or set DATABASE_URL to another place.`,
      { cause },
    );
  }
}

const REASONS: Readonly<Record<string, string>> = {
  EACCES: "permission denied",
  EPERM: "not permitted",
  EROFS: "the file system is read-only",
  ENOSPC: "the disk is full",
  ENOTDIR: "a part of the path is a file",
  EEXIST: "a file of that name is in the way",
  ENOENT: "a part of the path does not exist",
};

function reasonOf(cause: unknown): string {
  const code = cause instanceof Error && "code" in cause ? String(cause.code) : "unknown reason";
  return REASONS[code] ?? code;
}
