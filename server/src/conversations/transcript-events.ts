import type { Conversation, Turn } from "./conversation.ts";

/**
 * A conversation as events. An event's id is a place in the transcript (`0`; `3.120`, after 120 characters of the third turn; `3.end`;
 * `end`), so what follows an id can be told from the conversation alone: nothing has to be remembered of who has read what, a
 * reader that comes back gets every character exactly once, and one that was slow gets what has gathered in one piece. The
 * same holds for a conversation that is read from storage.
 */
export type TranscriptEvent =
  | { readonly kind: "run-started"; readonly id: string }
  | { readonly kind: "turn-started"; readonly id: string; readonly turn: Turn }
  | { readonly kind: "turn-delta"; readonly id: string; readonly turn: Turn; readonly text: string }
  | { readonly kind: "turn-finished"; readonly id: string; readonly turn: Turn }
  | { readonly kind: "run-ended"; readonly id: string };

/** What a reader has. */
export interface Place {
  /** 0: before the first turn. */
  readonly turn: number;
  /** In UTF-16 units. */
  readonly offset: number;
  /** The turn, or for 0 the beginning, has been told to its end. */
  readonly over: boolean;
}

export const BEFORE_ALL: Place = { turn: 0, offset: 0, over: false };
const AFTER_ALL: Place = { turn: Number.POSITIVE_INFINITY, offset: 0, over: true };

/** Undefined when it is no id of these events. */
export function placeOf(id: string): Place | undefined {
  if (id === "0") return { turn: 0, offset: 0, over: true };
  if (id === "end") return AFTER_ALL;
  const match = /^([1-9]\d?)\.(?:(\d{1,6})|end)$/.exec(id);
  if (match === null) return undefined;
  const [, turn, offset] = match;
  return { turn: Number(turn), offset: Number(offset ?? 0), over: offset === undefined };
}

/** Nothing will ever happen behind the place. */
export const hasAll = (place: Place, { end }: Conversation): boolean =>
  end !== undefined && place.turn === AFTER_ALL.turn;

/** What has happened behind the place, and the place behind all of it. */
export function eventsAfter(
  { turns, end }: Conversation,
  place: Place,
): { readonly events: readonly TranscriptEvent[]; readonly place: Place } {
  const events: TranscriptEvent[] = [];
  let reached = place;
  if (place.turn === 0 && !place.over) {
    events.push({ kind: "run-started", id: "0" });
    reached = { turn: 0, offset: 0, over: true };
  }
  for (const turn of turns) {
    const { index, message, result } = turn;
    if (index < place.turn || (index === place.turn && place.over)) continue;
    const isBegun = index === place.turn;
    if (!isBegun) events.push({ kind: "turn-started", id: `${index}.0`, turn });
    const offset = isBegun ? place.offset : 0;
    if (message.length > offset)
      events.push({ kind: "turn-delta", id: `${index}.${message.length}`, turn, text: message.slice(offset) });
    if (result) events.push({ kind: "turn-finished", id: `${index}.end`, turn });
    reached = { turn: index, offset: Math.max(offset, message.length), over: result !== undefined };
  }
  if (end && place.turn !== AFTER_ALL.turn) {
    events.push({ kind: "run-ended", id: "end" });
    reached = AFTER_ALL;
  }
  return { events, place: reached };
}
