import type { Clock } from "../lib/clock.ts";
import type { Conversation } from "./conversation.ts";
import {
  type ConversationCaller,
  type ConversationServices,
  type HeldConversation,
  holdConversation,
  type Script,
  stopped,
} from "./hold-conversation.ts";
import type { PanelRunStore, RunNews, RunPage, RunPosition } from "./panel-run-store.ts";
import { type Reading, readLive, readStored } from "./reading.ts";
import { createRunKeeper, type RunKeeper } from "./run-keeper.ts";

/**
 * Runs of the panel: those held here in memory, all of them in the store. A run outlives the request that began it, as a reader may
 * reload; one that nobody has read for GRACE_MS is stopped, so that nothing is spent on what nobody sees. One that has ended is
 * held until its end is written down, however long the store cannot be reached: else it would be told as interrupted.
 */
export interface PanelRuns {
  /** Resolves when the first agent is being asked and the run is kept; rejects with what refused it. */
  start(caller: ConversationCaller, script: Script): Promise<Conversation>;
  /** Undefined, here and below: the key has no such run. */
  find(keyId: string, runId: string): Promise<Conversation | undefined>;
  list(keyId: string, page: { readonly after: RunPosition | undefined; readonly limit: number }): Promise<RunPage>;
  /** For a reader; to be closed when it has left. */
  read(keyId: string, runId: string): Promise<Reading | undefined>;
  /** The run as it ended; one that another instance holds ends within seconds. */
  stop(keyId: string, runId: string): Promise<Conversation | undefined>;
  /** Stops it first. */
  remove(keyId: string, runId: string): Promise<boolean>;
}

/** How long a run goes on without a reader. */
const GRACE_MS = 30_000;
/** How often runs held here give a sign of life, and are looked after. */
const BEAT_MS = 2_000;

interface HeldRun {
  readonly keyId: string;
  readonly held: HeldConversation;
  readonly keeper: RunKeeper;
  readers: number;
  /** On the monotonic clock; while nobody reads it. */
  unreadSinceMs: number;
}

export function createPanelRuns(options: {
  readonly store: PanelRunStore;
  readonly services: ConversationServices;
  readonly clock: Clock;
  /** Another try comes with the next turn or beat, until it succeeds. */
  readonly onStoreFailed: (runId: string, error: unknown) => void;
}): PanelRuns {
  const { store, services, clock, onStoreFailed } = options;
  const runs = new Map<string, HeldRun>();
  let beat: NodeJS.Timeout | undefined;
  let beating = false;

  const heldOf = (keyId: string, runId: string): HeldRun | undefined => {
    const run = runs.get(runId);
    return run?.keyId === keyId ? run : undefined;
  };

  const stopUnread = (runId: string, run: HeldRun, news: RunNews | undefined): void => {
    if (run.readers > 0 || clock.monotonicMs() - run.unreadSinceMs < GRACE_MS) return;
    if (news && clock.now() - news.readAtMs < GRACE_MS) return;
    run.held.stop(stopped(`Nobody has read the run ${runId} for ${GRACE_MS / 1_000} s, so it was stopped.`));
  };

  /** Of a run that has ended. */
  const writeEnd = async (runId: string, { keeper }: HeldRun): Promise<void> => {
    if (keeper.isBehind) await keeper.catchUp();
    if (!keeper.isBehind) letGo(runId);
  };

  const lookAfter = async (): Promise<void> => {
    if (beating) return;
    beating = true;
    const ids = [...runs.keys()];
    try {
      const told = new Map((await store.beat(ids)).map((news) => [news.runId, news]));
      for (const id of ids) {
        const run = runs.get(id);
        if (!run) continue;
        const news = told.get(id);
        if (run.held.transcript.now.end) await writeEnd(id, run);
        else if (news === undefined) run.held.stop(stopped("The run was deleted."));
        else if (news.stopWanted) run.held.stop(STOPPED);
        else stopUnread(id, run, news);
      }
    } catch (error) {
      onStoreFailed(ids.join(", "), error);
      for (const id of ids) {
        const run = runs.get(id);
        if (run) stopUnread(id, run, undefined);
      }
    } finally {
      beating = false;
    }
  };

  const hold = (runId: string, run: HeldRun): void => {
    runs.set(runId, run);
    if (beat) return;
    beat = setInterval(() => void lookAfter(), BEAT_MS);
    beat.unref();
  };
  const letGo = (runId: string): void => {
    runs.delete(runId);
    if (runs.size > 0) return;
    clearInterval(beat);
    beat = undefined;
  };

  const find: PanelRuns["find"] = async (keyId, runId) =>
    heldOf(keyId, runId)?.held.transcript.now ?? store.find(keyId, runId);

  const stop: PanelRuns["stop"] = async (keyId, runId) => {
    const run = heldOf(keyId, runId);
    if (run) {
      run.held.stop(STOPPED);
      await run.held.over;
      return run.held.transcript.now;
    }
    const found = await store.find(keyId, runId);
    if (found && !found.end) await store.wantStop(keyId, runId);
    return found;
  };

  return {
    async start(caller, script) {
      const { id } = script.beginning;
      const keeper = createRunKeeper({ store, keyId: caller.key.id }, (error) => onStoreFailed(id, error));
      const held = holdConversation(services, caller, script, {
        onProgress: (now) => void keeper.write(now),
        beforeEnd: (whole) => keeper.write(whole),
      });
      await held.begun;
      try {
        await keeper.kept();
      } catch (error) {
        // What cannot be kept is of no use to anybody.
        held.stop(stopped("The run could not be kept."));
        throw error;
      }
      // Not before the store has it: what the store does not know is taken for deleted.
      const run: HeldRun = {
        keyId: caller.key.id,
        held,
        keeper,
        readers: 0,
        unreadSinceMs: clock.monotonicMs(),
      };
      hold(id, run);
      void held.over.then(() => {
        if (!keeper.isBehind) letGo(id);
      });
      return held.transcript.now;
    },
    find,
    list: (keyId, page) => store.list(keyId, page),
    async read(keyId, runId) {
      const run = heldOf(keyId, runId);
      if (run) {
        run.readers += 1;
        return readLive(run.held.transcript, () => {
          run.readers -= 1;
          run.unreadSinceMs = clock.monotonicMs();
        });
      }
      const found = await store.find(keyId, runId);
      return (
        found &&
        readStored(found, {
          store,
          keyId,
          stopping: services.drainBegins,
        })
      );
    },
    stop,
    async remove(keyId, runId) {
      const run = heldOf(keyId, runId);
      if (run) await stop(keyId, runId);
      const removed = await store.remove(keyId, runId);
      if (run) letGo(runId);
      return removed;
    },
  };
}

const STOPPED = stopped("The run was stopped by its caller.");
