import type { Conversation } from "./conversation.ts";
import type { PanelRunStore } from "./panel-run-store.ts";

/** Writes one run down: first it is inserted, then its newest state replaces the one before, one write after the other. */
export interface RunKeeper {
  /** Resolves when it was tried. Never rejects; what failed is tried again by the next write and by `catchUp`. */
  write(now: Conversation): Promise<void>;
  /** Resolves when the run is kept; rejects when it could not be, and then it never will. To be called after the first write. */
  kept(): Promise<void>;
  /** The store does not have the newest state. */
  readonly isBehind: boolean;
  catchUp(): Promise<void>;
}

export function createRunKeeper(
  { store, keyId }: { readonly store: Pick<PanelRunStore, "insert" | "update">; readonly keyId: string },
  onFailed: (error: unknown) => void,
): RunKeeper {
  let inserted: Promise<void> | undefined;
  let newest: Conversation | undefined;
  let isBehind = false;
  let written = Promise.resolve();

  const update = async (): Promise<void> => {
    const now = newest!;
    try {
      await store.update(now);
      if (now === newest) isBehind = false;
    } catch (error) {
      onFailed(error);
    }
  };

  return {
    write(now) {
      newest = now;
      if (inserted === undefined) {
        inserted = store.insert(keyId, now);
        // Whoever began the run is told.
        written = inserted.catch(() => undefined);
      } else {
        isBehind = true;
        written = written.then(update);
      }
      return written;
    },
    kept: () => inserted ?? Promise.reject(new Error("Nothing was written.")),
    get isBehind() {
      return isBehind;
    },
    catchUp() {
      written = written.then(update);
      return written;
    },
  };
}
