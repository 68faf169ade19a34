import type { FernetKeys } from "../lib/fernet.ts";
import { type Clock, HOUR_MS } from "../lib/clock.ts";
import { uuidv7 } from "../lib/ids.ts";
import type { Database } from "../storage/database.ts";
import type { Logger } from "../telemetry/log.ts";
import type { Metrics } from "../telemetry/metrics.ts";
import { createActRecorder } from "./act-recorder.ts";
import { notice, NOTICES } from "./audit-entry.ts";
import { deleteOldEntries } from "./audit-retention.ts";
import type { AuditTrail } from "./audit-trail.ts";
import { createChainWriter } from "./chain-writer.ts";
import type { ChainPlace } from "./entry-hash.ts";
import { createHeadSeals } from "./head-seals.ts";
import { createRequestQueue } from "./request-queue.ts";
import { readTrailEnds } from "./trail-ends.ts";

/** The trail of a serving instance. */
export interface OpenAuditTrail extends AuditTrail {
  /** Resolves when all that was noted until now is written. */
  flush(): Promise<void>;
  /** Writes what waits, and that this instance stops. Takes a bounded time, whatever the database does. */
  close(): Promise<void>;
}

export interface AuditTrailOptions {
  readonly database: Database;
  readonly clock: Clock;
  readonly encryptionKeys: FernetKeys;
  readonly version: string;
  /** Undefined: entries are kept for ever. */
  readonly retentionDays: number | undefined;
  readonly logger: Logger;
  readonly metrics: Metrics;
  readonly queueCapacity?: number;
  /** How long a close may take. */
  readonly closeWithinMs?: number;
}

const CLOSE_WITHIN_MS = 5_000;

/**
 * Opens the trail with an entry that this instance starts; `close` ends it with one that it stops. A start without a stop is an
 * instance that was killed, with which its last noted requests may be lost. The head is logged soon after the start,
 * each hour and at the stop, so that there is a copy of it outside of the database. Throws StorageUnavailable.
 */
export async function openAuditTrail(options: AuditTrailOptions): Promise<OpenAuditTrail> {
  const { database, clock, logger, metrics, version, retentionDays } = options;
  const instance = uuidv7(clock.now());
  const seals = createHeadSeals(() => options.encryptionKeys);
  const chain = createChainWriter({
    database,
    clock,
    seals,
    onSuspicion: (action, details) =>
      logger.error({ action, ...details }, "the audit trail is not as it was left; see docs/audit.md"),
  });
  const acts = createActRecorder(chain, clock);
  const queue = createRequestQueue({
    chain,
    clock,
    logger,
    metrics,
    ...(options.queueCapacity !== undefined && { capacity: options.queueCapacity }),
  });

  const logHead = (head: ChainPlace): void =>
    logger.info({ audit_sequence: head.sequence, audit_hash: head.hash }, "the head of the audit trail");
  const say = async (action: string): Promise<ChainPlace> => {
    const head = await chain.groupOf([notice(action, clock.now(), { instance, version })])();
    metrics.auditEntries.inc({ kind: "notice" });
    return head;
  };
  await say(NOTICES.instanceStart);

  const stopping = new AbortController();
  let upkeep: Promise<void> | undefined;
  const keepUp = async (): Promise<void> => {
    try {
      if (retentionDays !== undefined) {
        const deleted = await deleteOldEntries({
          database,
          clock,
          chain,
          days: retentionDays,
          signal: stopping.signal,
        });
        if (deleted > 0)
          logger.info({ entries: deleted }, "old audit entries were deleted, as BRIKK_AUDIT_RETENTION_DAYS wants");
      }
      logHead((await readTrailEnds(database)).head);
    } catch (error) {
      logger.error({ error }, "the hourly upkeep of the audit trail failed; it is tried again in an hour");
    }
  };
  const runUpkeep = (): void => {
    upkeep ??= keepUp().finally(() => (upkeep = undefined));
  };
  const hourly = setInterval(runUpkeep, HOUR_MS).unref();
  // After the start, so that it does not slow the first requests down.
  const first = setTimeout(runUpkeep, 2_000).unref();

  const closed = async (): Promise<"closed"> => {
    await upkeep;
    logHead(await say(NOTICES.instanceStop));
    return "closed";
  };
  return {
    noteRequest: (request) => queue.note(request),
    recordIn: async (transaction, act) => {
      await acts.recordIn(transaction, act);
      metrics.auditEntries.inc({ kind: "act" });
    },
    record: async (act) => {
      await acts.record(act);
      metrics.auditEntries.inc({ kind: "act" });
    },
    flush: () => queue.flush(),
    close: async () => {
      clearInterval(hourly);
      clearTimeout(first);
      stopping.abort();
      const withinMs = options.closeWithinMs ?? CLOSE_WITHIN_MS;
      const deadlineMs = performance.now() + withinMs;
      if (await queue.close(withinMs)) {
        const late = Promise.withResolvers<"late">();
        const timer = setTimeout(() => late.resolve("late"), Math.max(0, deadlineMs - performance.now()));
        const outcome = await Promise.race([closed().catch((error: unknown) => ({ error })), late.promise]);
        clearTimeout(timer);
        if (outcome === "closed") return;
      }
      logger.error(
        "the database does not take the last audit entries, and they are lost; the trail will show a start without a stop",
      );
    },
  };
}
