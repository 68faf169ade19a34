import { abortablePause } from "../lib/abortable-pause.ts";
import type { Conversation } from "./conversation.ts";
import type { PanelRunStore } from "./panel-run-store.ts";
import type { Transcript, TurnWait } from "./transcript.ts";

/** A conversation as one reader sees it. */
export interface Reading {
  readonly now: Conversation;
  readonly waiting: TurnWait | undefined;
  /** Resolves when there may be something new, or when the signal is aborted. */
  news(signal: AbortSignal): Promise<void>;
  /** The reader is to go although the conversation has not ended. */
  readonly isOver: boolean;
  close(): void;
}

/** Of a conversation that is held here. */
export function readLive(transcript: Transcript, onClose: () => void): Reading {
  let isClosed = false;
  return {
    get now() {
      return transcript.now;
    },
    get waiting() {
      return transcript.waiting;
    },
    news: (signal) => transcript.news.heard(signal),
    isOver: false,
    close() {
      if (!isClosed) onClose();
      isClosed = true;
    },
  };
}

/** How often a run that another instance holds is looked at. */
const POLL_MS = 1_000;

/** Of a run in the store; one that has not ended is held by another instance, and comes turn by turn. */
export function readStored(
  found: Conversation,
  from: { readonly store: PanelRunStore; readonly keyId: string; readonly stopping: AbortSignal },
): Reading {
  const { store, keyId, stopping } = from;
  let now = found;
  let isOver = false;
  return {
    get now() {
      return now;
    },
    waiting: undefined,
    get isOver() {
      return isOver || stopping.aborted;
    },
    async news(signal) {
      await store.noteRead(now.id);
      await abortablePause(POLL_MS, AbortSignal.any([signal, stopping]));
      const next = await store.find(keyId, now.id);
      if (next) now = next;
      else isOver = true;
    },
    close: () => undefined,
  };
}
