import { statSync } from "node:fs";
import { dirname } from "node:path";
import { isPostgresUrl } from "../lib/postgres-address.ts";
import { databasePathOf } from "./database-path.ts";
import { encryptionKeyPath } from "./encryption-keys.ts";

/** A folder or file of the gateway's whose mode lets others in. */
export interface LoosePermission {
  readonly path: string;
  /** What is the matter, and the command that mends it. */
  readonly sentence: string;
  /** The command alone. */
  readonly remedy: string;
}

const OTHERS_READ = 0o004;
const OTHERS_WRITE = 0o002;
const GROUP_WRITE = 0o020;
const GROUP_READ = 0o040;
const LOOSE = OTHERS_READ | OTHERS_WRITE | GROUP_WRITE;

/**
 * The data folder, the database's files and the encryption key's, as far as they are there, when users other than the
 * gateway's own may read or change them. A group that may read the database is taken as meant, as backups need it; nobody
 * else needs the encryption key. Windows has no modes, so nothing is said there.
 */
export function loosePermissions(databaseUrl: string): readonly LoosePermission[] {
  if (process.platform === "win32") return [];
  const keyPath = encryptionKeyPath(databaseUrl);
  const database = isPostgresUrl(databaseUrl) ? undefined : databasePathOf(databaseUrl);
  const found = [
    loosenessOf(`The data folder`, dirname(keyPath), LOOSE),
    ...(database === undefined
      ? []
      : ["", "-wal", "-shm"].map((ending) => loosenessOf("The database file", `${database}${ending}`, LOOSE))),
    loosenessOf("The encryption key", keyPath, LOOSE | GROUP_READ),
  ];
  return found.filter((one) => one !== undefined);
}

function loosenessOf(what: string, path: string, loose: number): LoosePermission | undefined {
  const mode = statSync(path, { throwIfNoEntry: false })?.mode;
  if (mode === undefined || (mode & loose) === 0) return undefined;
  const may = [
    ...((mode & (OTHERS_READ | OTHERS_WRITE)) === 0 ? [] : ["every user of this machine"]),
    ...((mode & loose & (GROUP_WRITE | GROUP_READ)) === 0 ? [] : ["its group"]),
  ].join(" and ");
  const can = (mode & (OTHERS_WRITE | GROUP_WRITE)) === 0 ? "read" : "change";
  const remedy = `chmod ${(loose & GROUP_READ) === 0 ? "g-w,o-rwx" : "go-rwx"} ${quoted(path)}`;
  return {
    path,
    sentence: `${what} ${path} can be ${can === "read" ? "read" : "changed"} by ${may}. Run: ${remedy}`,
    remedy,
  };
}

/** For a shell. */
const quoted = (path: string): string =>
  /^[\w./-]+$/.test(path) ? path : `'${path.replaceAll("'", String.raw`'\''`)}'`;
