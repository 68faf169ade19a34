import { spawn } from "node:child_process";
import { mkdtempSync, realpathSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test, type TestContext } from "node:test";
import type { Database, DialectName } from "../../src/storage/database.ts";
import { openDatabase } from "../../src/storage/open-database.ts";
import { createPostgresDatabase, noPostgres } from "../harness/postgres-databases.ts";

/** A folder of the test's own, gone with it. */
export function scratchFolder(t: TestContext): string {
  const folder = realpathSync(mkdtempSync(join(tmpdir(), "brikk-test-")));
  t.after(() => rmSync(folder, { recursive: true, force: true }));
  return folder;
}

export interface ScratchDatabase {
  readonly database: Database;
  readonly url: string;
}

export interface ScratchFile extends ScratchDatabase {
  readonly path: string;
}

/** A migrated database of the test's own, closed and gone with it: a SQLite file unless said otherwise. */
export function scratchDatabase(t: TestContext, dialect?: "sqlite"): Promise<ScratchFile>;
export function scratchDatabase(t: TestContext, dialect: DialectName): Promise<ScratchDatabase>;
export async function scratchDatabase(t: TestContext, dialect: DialectName = "sqlite"): Promise<ScratchDatabase> {
  const path = dialect === "sqlite" ? join(scratchFolder(t), "brikk.db") : undefined;
  const url = path === undefined ? await scratchPostgresUrl(t, "migrated") : `sqlite:${path}`;
  const database = await openDatabase({ url });
  t.after(() => database.close());
  return { database, url, ...(path !== undefined && { path }) };
}

/** A PostgreSQL database of the test's own, gone with it. */
export async function scratchPostgresUrl(t: TestContext, kind: "migrated" | "empty"): Promise<string> {
  const { url, drop } = await createPostgresDatabase(kind);
  t.after(drop);
  return url;
}

/** A place for a new database of the test's own, with nothing in it. */
export function emptyDatabaseUrl(t: TestContext, dialect: DialectName): Promise<string> | string {
  return dialect === "sqlite" ? `sqlite:${join(scratchFolder(t), "brikk.db")}` : scratchPostgresUrl(t, "empty");
}

/** Registers a test that must hold on both databases, once for each. */
export function onEachDatabase(name: string, check: (t: TestContext, dialect: DialectName) => Promise<void>): void {
  test(`${name} (SQLite)`, (t) => check(t, "sqlite"));
  onPostgres(name, (t) => check(t, "postgres"));
}

/** Registers a test of what only PostgreSQL does. */
export function onPostgres(name: string, check: (t: TestContext) => Promise<void>): void {
  test(`${name} (PostgreSQL)`, { skip: noPostgres ?? false }, check);
}

export const sourceUrl = (path: string): string => new URL(`../../src/${path}`, import.meta.url).href;

export interface Child {
  /** Resolves with the next line of standard output. */
  line(): Promise<string>;
  kill(): Promise<void>;
  /** Resolves when the process has ended. */
  readonly ended: Promise<{ readonly code: number | null; readonly stdout: string; readonly stderr: string }>;
}

/** Runs a module's text in a process of its own. */
export function runChild(t: TestContext, source: string): Child {
  const child = spawn(process.execPath, ["--input-type=module", "--eval", source], {
    stdio: ["ignore", "pipe", "pipe"],
  });
  let stdout = "";
  let stderr = "";
  let taken = 0;
  const waiting: (() => void)[] = [];
  const wake = (): void => waiting.splice(0).forEach((resume) => resume());
  child.stdout.setEncoding("utf8").on("data", (text: string) => {
    stdout += text;
    wake();
  });
  child.stderr.setEncoding("utf8").on("data", (text: string) => {
    stderr += text;
  });
  let over = false;
  const ended = new Promise<{ code: number | null; stdout: string; stderr: string }>((resolve) => {
    child.on("close", (code) => {
      over = true;
      wake();
      resolve({ code, stdout, stderr });
    });
  });
  t.after(() => void child.kill("SIGKILL"));
  return {
    ended,
    async line() {
      for (;;) {
        const end = stdout.indexOf("\n", taken);
        if (end >= 0) {
          const line = stdout.slice(taken, end);
          taken = end + 1;
          return line;
        }
        if (over) throw new Error(`The child ended early: ${stderr}`);
        await new Promise<void>((resume) => waiting.push(resume));
      }
    },
    async kill() {
      child.kill("SIGKILL");
      await ended;
    },
  };
}
