import { realpathSync } from "node:fs";
import { basename, dirname, join } from "node:path";
import { DatabaseSync } from "node:sqlite";
import { StorageOpenError } from "./database.ts";
import { prepareDatabaseFile } from "./database-path.ts";

/** Held for as long as a server runs on a SQLite file. */
export interface InstanceLock {
  release(): void;
}

/** Another server runs on the same SQLite file. The message is fit for a person. */
export class AlreadyRunning extends Error {
  override readonly name = "AlreadyRunning";
}

const SQLITE_BUSY = 5;

/** A connection that nothing refers to is closed some time, and its lock would be gone with it. */
const held = new Set<DatabaseSync>();

/**
 * Makes sure that one server runs per SQLite file; takes the path that `databasePathOf` gives. The lock is an open exclusive
 * transaction on an empty SQLite file `<path>.lock`, which the operating system drops with the process however that ends, so
 * there is never a stale one to clear. Throws AlreadyRunning, or StorageOpenError when the place cannot be written. The
 * command line does not take it.
 */
export function lockInstance(databasePath: string): InstanceLock {
  // The one lock file whatever link leads to the folder.
  prepareDatabaseFile(databasePath);
  const lockPath = join(realpathSync(dirname(databasePath)), `${basename(databasePath)}.lock`);
  prepareDatabaseFile(lockPath);
  const lock = new DatabaseSync(lockPath, { timeout: 0 });
  try {
    lock.exec("begin exclusive");
  } catch (cause) {
    lock.close();
    if (cause instanceof Error && "errcode" in cause && cause.errcode === SQLITE_BUSY) {
      throw new AlreadyRunning(
        `Another Brikk server is already running on the database ${databasePath}. Stop it first, or set DATABASE_URL to another file.`,
        { cause },
      );
    }
    throw new StorageOpenError(
      `The lock file ${lockPath} cannot be used. Delete it if no Brikk server runs, then start again.`,
      { cause },
    );
  }
  held.add(lock);
  return {
    release(): void {
      if (held.delete(lock)) lock.close();
    },
  };
}
