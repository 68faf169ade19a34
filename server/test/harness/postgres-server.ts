import { type ChildProcess, fork } from "node:child_process";
import type { TestContext } from "node:test";
import { fileURLToPath } from "node:url";
import { findPostgresPrograms } from "./postgres-binaries.ts";
import type { KeeperOrder, KeeperReply } from "./postgres-keeper.ts";

export interface PostgresServer {
  /** Of the database `postgres` as the server's superuser; the same over all its starts. */
  readonly url: string;
  stop(mode: Extract<KeeperOrder, { kind: "stop" }>["mode"]): Promise<void>;
  /** On the same port and data as before. */
  start(): Promise<void>;
  /** Stops it and removes its files. The end of this process does so too. */
  close(): Promise<void>;
}

/** A real PostgreSQL server of this process, on a free port and empty data. */
export async function launchPostgres(): Promise<PostgresServer> {
  const programs = findPostgresPrograms();
  if (programs === undefined)
    throw new Error(`The dependencies have no PostgreSQL for ${process.platform}-${process.arch}.`);
  // In a group of its own, so that what is sent to ours does not end it before it has cleaned up.
  const keeper = fork(fileURLToPath(new URL("postgres-keeper.ts", import.meta.url)), [programs], {
    detached: true,
    execArgv: [],
    stdio: ["ignore", "ignore", "ignore", "ipc"],
  });
  const order = (what: KeeperOrder): Promise<string> => ask(keeper, what);
  const url = await order({ kind: "start" });
  return {
    url,
    stop: async (mode) => void (await order({ kind: "stop", mode })),
    start: async () => void (await order({ kind: "start" })),
    close: async () => {
      if (keeper.exitCode !== null) return;
      keeper.ref();
      const gone = new Promise((resolve) => keeper.once("exit", resolve));
      if (keeper.connected) keeper.send({ kind: "end" } satisfies KeeperOrder);
      await gone;
    },
  };
}

/** The same for one test, which may stop and start it. */
export async function startPostgres(t: TestContext): Promise<PostgresServer> {
  const server = await launchPostgres();
  t.after(() => server.close());
  return server;
}

/** One order at a time. This process stays for the answer, and otherwise not for the keeper's sake. */
function ask(keeper: ChildProcess, order: KeeperOrder): Promise<string> {
  keeper.ref();
  keeper.channel?.ref();
  return new Promise<string>((resolve, reject) => {
    const onExit = (code: number | null): void => reject(new Error(`PostgreSQL's keeper ended with ${code}.`));
    keeper.once("exit", onExit);
    keeper.once("message", (reply: KeeperReply) => {
      keeper.off("exit", onExit);
      if (reply.kind === "done") resolve(reply.url);
      else reject(new Error(reply.message));
    });
    keeper.send(order);
  }).finally(() => {
    keeper.unref();
    keeper.channel?.unref();
  });
}
