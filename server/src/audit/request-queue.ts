import type { Clock } from "../lib/clock.ts";
import type { Logger } from "../telemetry/log.ts";
import type { Metrics } from "../telemetry/metrics.ts";
import { ConstraintViolation, StorageUnavailable } from "../storage/database.ts";
import { type AuditEntry, entryOfRequest, notice, NOTICES } from "./audit-entry.ts";
import type { AuditedRequest } from "./audit-trail.ts";
import type { ChainWriter } from "./chain-writer.ts";
import { createRefusalCounts, MINUTE_MS } from "./refusal-counts.ts";

/**
 * From the request's path to the chain, without ever holding a request up: what is noted waits in a bounded queue and is written
 * in groups, each in one transaction. When the database does not take a group, it is kept and tried again, while the queue fills
 * up; what it cannot hold is dropped, counted, logged once for each bout, and said in the trail itself by the next group.
 */
export interface RequestQueue {
  note(request: AuditedRequest): void;
  /** Resolves when all that was noted is written. */
  flush(): Promise<void>;
  /** The same, with what is still counted; false when that was not done in time. Nothing is taken any more. */
  close(withinMs: number): Promise<boolean>;
}

const QUEUE_CAPACITY = 20_000;
/** Entries in one transaction: a few milliseconds of the database's time. */
const MOST_IN_GROUP = 500;
const GATHER_MS = 200;
const RETRY_MS = 1_000;

export interface RequestQueueOptions {
  readonly chain: ChainWriter;
  readonly clock: Clock;
  readonly logger: Logger;
  readonly metrics: Pick<Metrics, "auditEntries" | "auditDropped" | "auditQueue">;
  readonly capacity?: number;
}

interface Noted {
  readonly request: AuditedRequest;
  readonly atMs: number;
}

interface Lost {
  readonly count: number;
  readonly fromMs: number;
  readonly toMs: number;
}

export function createRequestQueue(options: RequestQueueOptions): RequestQueue {
  const { chain, clock, logger, metrics, capacity = QUEUE_CAPACITY } = options;
  const refusals = createRefusalCounts();
  let state: "open" | "closing" | "given-up" = "open";
  let waiting: Noted[] = [];
  let lost: Lost | undefined;
  /** Between a drop and the next time that there is room again. */
  let isOverflowing = false;
  let isHealthy = true;
  let gathering: NodeJS.Timeout | undefined;
  let minute: NodeJS.Timeout | undefined;
  let writing: Promise<void> | undefined;
  let endPause: (() => void) | undefined;

  function lose(nowMs: number): void {
    metrics.auditDropped.inc();
    lost = { count: (lost?.count ?? 0) + 1, fromMs: lost?.fromMs ?? nowMs, toMs: nowMs };
  }

  function overflow(nowMs: number): void {
    lose(nowMs);
    if (isOverflowing) return;
    isOverflowing = true;
    logger.error(
      { queue: waiting.length },
      "the audit queue is full and entries are dropped; they are counted, and the trail will say how many",
    );
  }

  // No timer here keeps the process alive: whoever ends politely closes the queue.
  function wake(): void {
    if (writing !== undefined) return;
    if (waiting.length >= MOST_IN_GROUP) start();
    else gathering ??= setTimeout(start, GATHER_MS).unref();
  }

  function start(): void {
    clearTimeout(gathering);
    gathering = undefined;
    writing ??= writeGroup().finally(() => {
      writing = undefined;
      if (waiting.length > 0 && state === "open") wake();
    });
  }

  async function writeGroup(): Promise<void> {
    const nowMs = clock.now();
    const noted = waiting.slice(0, MOST_IN_GROUP);
    waiting = waiting.slice(MOST_IN_GROUP);
    const said = lost;
    lost = undefined;
    await write([
      ...(said === undefined ? [] : [lossNotice(said, nowMs)]),
      ...noted.map(({ request, atMs }) => entryOfRequest(request, atMs)),
      ...(state === "open" ? refusals.ended(nowMs) : refusals.all()),
    ]);
    metrics.auditQueue.set(waiting.length);
    if (waiting.length < capacity) isOverflowing = false;
  }

  async function write(entries: readonly AuditEntry[]): Promise<void> {
    if (entries.length === 0) return;
    const group = chain.groupOf(entries);
    while (state !== "given-up") {
      try {
        await group();
        if (!isHealthy) logger.info("the audit trail is written again");
        isHealthy = true;
        for (const { kind } of entries) metrics.auditEntries.inc({ kind });
        return;
      } catch (error) {
        if (!isPassing(error)) return refused(entries, error);
        if (isHealthy)
          logger.error({ error }, "the audit trail cannot be written; entries wait, and it is tried again");
        isHealthy = false;
        metrics.auditQueue.set(waiting.length);
        await pause(RETRY_MS);
      }
    }
  }

  /** An entry that the database does not take takes no other with it, and is not tried for ever. */
  async function refused(entries: readonly AuditEntry[], error: unknown): Promise<void> {
    if (entries.length > 1) {
      for (const entry of entries) await write([entry]);
      return;
    }
    logger.error({ error }, "the database refuses an audit entry, which is dropped and counted");
    lose(clock.now());
  }

  const pause = (ms: number): Promise<void> =>
    new Promise((resolve) => {
      const done = setTimeout(resolve, ms).unref();
      endPause = () => {
        clearTimeout(done);
        resolve();
      };
    });

  function awaitMinute(): void {
    minute ??= setTimeout(() => {
      minute = undefined;
      start();
      if (refusals.pending) awaitMinute();
    }, MINUTE_MS).unref();
  }

  async function flush(): Promise<void> {
    while (state !== "given-up" && (writing !== undefined || waiting.length > 0 || lost !== undefined)) {
      start();
      await writing;
    }
  }

  return {
    note(request) {
      // Whoever is still answered now is cut off.
      if (state !== "open") return metrics.auditDropped.inc();
      const nowMs = clock.now();
      if (request.kind === "refusal") {
        awaitMinute();
        if (!refusals.admit(request, nowMs)) return;
      }
      if (waiting.length >= capacity) return overflow(nowMs);
      waiting.push({ request, atMs: nowMs });
      wake();
    },
    flush,
    async close(withinMs) {
      state = "closing";
      clearTimeout(minute);
      const late = Promise.withResolvers<"late">();
      const timer = setTimeout(() => late.resolve("late"), withinMs);
      const written = flush()
        // With what is still counted.
        .then(writeGroup)
        .then(() => "written" as const);
      const outcome = await Promise.race([written, late.promise]);
      clearTimeout(timer);
      if (outcome === "written") return true;
      state = "given-up";
      endPause?.();
      return false;
    },
  };
}

/** The database may take the same later. Two who number an entry alike is what somebody else's hand in the chain comes to. */
const isPassing = (error: unknown): boolean =>
  error instanceof StorageUnavailable || (error instanceof ConstraintViolation && error.constraint === "unique");

const lossNotice = ({ count, fromMs, toMs }: Lost, nowMs: number): AuditEntry =>
  notice(NOTICES.dropped, nowMs, {
    entries: count,
    from: new Date(fromMs).toISOString(),
    to: new Date(toMs).toISOString(),
  });
