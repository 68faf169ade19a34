import { type Bell, createBell } from "../lib/bell.ts";
import type { Conversation, ConversationEnd, Turn, TurnResult } from "./conversation.ts";

/** A conversation while it is held: who holds it writes, any number read. Every change rings the bell. */
export interface Transcript {
  readonly now: Conversation;
  /** The key's rate limit lets the next turn wait. */
  readonly waiting: TurnWait | undefined;
  readonly news: Pick<Bell, "heard">;
  wait(wait: TurnWait | undefined): void;
  begin(turn: Omit<Turn, "message" | "result">): void;
  say(text: string): void;
  finish(served: Pick<Turn, "provider" | "model">, result: TurnResult): void;
  end(end: ConversationEnd): void;
}

export interface TurnWait {
  readonly index: number;
  readonly ms: number;
}

export function openTranscript(beginning: Omit<Conversation, "turns" | "end">): Transcript {
  const bell = createBell();
  let now: Conversation = { ...beginning, turns: [], end: undefined };
  let waiting: TurnWait | undefined;

  const change = (changed: Partial<Conversation>): void => {
    now = { ...now, ...changed };
    bell.ring();
  };
  const changeLast = (revise: (turn: Turn) => Turn): void => {
    const last = now.turns.at(-1);
    if (last) change({ turns: [...now.turns.slice(0, -1), revise(last)] });
  };

  return {
    get now() {
      return now;
    },
    get waiting() {
      return waiting;
    },
    news: bell,
    wait(wait) {
      waiting = wait;
      bell.ring();
    },
    begin: (turn) => change({ turns: [...now.turns, { ...turn, message: "", result: undefined }] }),
    say: (text) => changeLast((turn) => ({ ...turn, message: turn.message + text })),
    finish: (served, result) => changeLast((turn) => ({ ...turn, ...served, result })),
    end: (end) => change({ end }),
  };
}
