import { abortablePause } from "../lib/abortable-pause.ts";
import { type Clock, DAY_MS, HOUR_MS } from "../lib/clock.ts";
import type { Database } from "../storage/database.ts";
import { raiseEventsFrom } from "./events-from.ts";

/**
 * Drops usage events that are older than the operator wants to keep.
 *
 * 1. The mark `events_from_ms` is moved to the horizon, a whole UTC day. From then on the ledger claims no event before it:
 *    verification and exports begin there, whether the events are gone yet or not.
 * 2. Events before the horizon are deleted in small statements with a pause after each, so that nobody waits long.
 *
 * Roll-ups stay, and with them all sums. Dying in between loses nothing, since the next run goes on; several instances may do it
 * at once, and each deletes what the others have not.
 */
export interface Retention {
  /** Resolves when a run under way has stopped. */
  stop(): Promise<void>;
}

/** After the start, so that it does not slow the first requests down. */
const FIRST_RUN_MS = 2_000;
/** A few milliseconds of the database's time. */
const BATCH = 500;

export interface Dropped {
  readonly events: number;
  /** The horizon. */
  readonly eventsFromMs: number;
}

export interface RetentionOptions {
  readonly database: Database;
  readonly clock: Clock;
  readonly days: number;
  readonly onDropped: (dropped: Dropped) => void;
  /** It is tried again an hour later. */
  readonly onFailed: (error: unknown) => void;
}

/** Runs shortly after now and then every hour. Its timers do not keep the process alive. */
export function startRetention(options: RetentionOptions): Retention {
  const stopping = new AbortController();
  const { signal } = stopping;

  const run = async (): Promise<void> => {
    await abortablePause(FIRST_RUN_MS, signal);
    while (!signal.aborted) {
      try {
        const dropped = await dropOldEvents(options, signal);
        if (dropped.events > 0) options.onDropped(dropped);
      } catch (error) {
        options.onFailed(error);
      }
      if (!signal.aborted) await abortablePause(HOUR_MS, signal);
    }
  };
  const ended = run();
  return {
    stop: async () => {
      stopping.abort();
      await ended;
    },
  };
}

/** One run. Stops between two statements when the signal says so. Throws StorageUnavailable. */
export async function dropOldEvents(
  { database, clock, days }: Pick<RetentionOptions, "database" | "clock" | "days">,
  signal?: AbortSignal,
): Promise<Dropped> {
  const horizonMs = Math.floor((clock.now() - days * DAY_MS) / DAY_MS) * DAY_MS;
  await database.transact([raiseEventsFrom(horizonMs)]);
  let events = 0;
  for (;;) {
    const startedMs = performance.now();
    const { numDeletedRows } = await database.query
      .deleteFrom("usage_events")
      .where("event_id", "in", (event) =>
        event
          .selectFrom("usage_events")
          .select("event_id")
          .where("occurred_at_ms", "<", BigInt(horizonMs))
          .orderBy("occurred_at_ms")
          .orderBy("event_id")
          .limit(BATCH),
      )
      .executeTakeFirstOrThrow();
    events += Number(numDeletedRows);
    if (numDeletedRows < BATCH || signal?.aborted === true) return { events, eventsFromMs: horizonMs };
    // As long as the batch took: at most half of the database's time is taken.
    const tookMs = performance.now() - startedMs;
    await new Promise((resolve) => setTimeout(resolve, tookMs));
  }
}
