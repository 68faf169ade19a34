import { Worker } from "node:worker_threads";
import { ConstraintViolation, StatementRejected, StorageUnavailable } from "./database.ts";
import type { Failure, Reply, Request, RunResult, Task } from "./sqlite-protocol.ts";

/** Starts the thread that owns a SQLite connection; nothing is opened before the first task says so. */
export function startSqliteWorker(): Worker {
  // The process's own flags, such as --eval's or a preloaded module, are not meant for this thread.
  return new Worker(new URL("./sqlite-worker.ts", import.meta.url), { name: "brikk-sqlite", execArgv: [] });
}

interface Pending {
  readonly resolve: (results: RunResult[]) => void;
  readonly reject: (error: Error) => void;
}

/**
 * The main thread's end of the protocol: posts tasks, settles them as the answers come. When the thread dies, everything that
 * is pending and everything that is asked later rejects with StorageUnavailable; the process has to be started anew.
 */
export class SqliteThread {
  readonly #worker: Worker;
  readonly #pending = new Map<number, Pending>();
  #nextId = 1;
  #ended: StorageUnavailable | undefined;

  constructor(worker: Worker) {
    this.#worker = worker;
    worker.on("message", (reply: Reply) => this.#settle(reply));
    worker.on("messageerror", (cause) => this.#end("An answer of the database's thread could not be read.", cause));
    worker.on("error", (cause) => this.#end("The database's thread failed.", cause));
    worker.on("exit", () => this.#end("The database's thread has ended."));
  }

  post(task: Task): Promise<RunResult[]> {
    if (this.#ended !== undefined) return Promise.reject(this.#ended);
    return new Promise((resolve, reject) => {
      const request: Request = { id: this.#nextId++, task };
      this.#pending.set(request.id, { resolve, reject });
      try {
        this.#worker.postMessage(request);
      } catch (cause) {
        // A parameter that no thread can be sent, such as a function or a symbol.
        this.#pending.delete(request.id);
        reject(new StatementRejected("A parameter is of a type that the database does not hold.", { cause }));
      }
    });
  }

  /** Asks the thread to close its connection and waits until the thread is gone. */
  async close(): Promise<void> {
    if (this.#ended !== undefined) return;
    const gone = new Promise<void>((resolve) => void this.#worker.once("exit", () => resolve()));
    const closed = this.post({ kind: "close" });
    this.#ended = new StorageUnavailable("The database is closed.");
    try {
      await closed;
    } finally {
      await gone;
    }
  }

  #settle(reply: Reply): void {
    const pending = this.#pending.get(reply.id);
    if (pending === undefined) return;
    this.#pending.delete(reply.id);
    if (reply.ok) pending.resolve(reply.results);
    else pending.reject(errorFrom(reply.failure));
  }

  #end(message: string, cause?: unknown): void {
    this.#ended ??= new StorageUnavailable(message, { cause });
    for (const pending of this.#pending.values()) pending.reject(new StorageUnavailable(message, { cause }));
    this.#pending.clear();
  }
}

function errorFrom(failure: Failure): Error {
  switch (failure.kind) {
    case "unavailable":
      return new StorageUnavailable(`The database cannot be used: ${failure.message}.`, { cause: failure });
    case "constraint":
      return new ConstraintViolation(failure.constraint, failure.message);
    case "rejected":
      return new StatementRejected(failure.message);
    default:
      return failure satisfies never;
  }
}
