import type { CompletionSink } from "../completion/run-completion.ts";
import type { BrikkError } from "../errors.ts";
import { isHighSurrogate } from "../lib/clip-text.ts";
import { sseData, SseFramer } from "../lib/sse-events.ts";
import { type SpokenMessage, spokenText } from "./agent-message.ts";

/** The end of a stream whose caller wants the text and nothing of its form. */
export interface TextSink extends CompletionSink {
  /** Somebody is being asked: the request was refused by nothing. */
  readonly isOpened: boolean;
  readonly failure: BrikkError | undefined;
  readonly finishReason: string | undefined;
  readonly clampedMaxTokens: number | undefined;
}

/** `said` gets the text as it comes and never half a character. */
export function createTextSink(listener: { opened(): void; said(text: string): void }): TextSink {
  const framer = new SseFramer(MAX_EVENT_BYTES);
  let isOpened = false;
  let started = false;
  let failure: BrikkError | undefined;
  let finishReason: string | undefined;
  let clampedMaxTokens: number | undefined;
  /** The first half of a character whose second has not come. */
  let half = "";

  const say = (text: string): void => {
    let whole = half + text;
    half = "";
    if (isHighSurrogate(whole.charCodeAt(whole.length - 1))) {
      half = whole.slice(-1);
      whole = whole.slice(0, -1);
    }
    if (whole !== "") listener.said(whole);
  };

  return {
    get isOpened() {
      return isOpened;
    },
    get started() {
      return started;
    },
    get failure() {
      return failure;
    },
    get finishReason() {
      return finishReason;
    },
    get clampedMaxTokens() {
      return clampedMaxTokens;
    },
    opened() {
      isOpened = true;
      listener.opened();
    },
    start(head) {
      started = true;
      ({ clampedMaxTokens } = head);
    },
    hold: () => undefined,
    write(bytes) {
      let text = "";
      for (const event of framer.push(bytes)) {
        const data = sseData(event);
        if (data === undefined) continue;
        // The meter has read every event before, and lets only JSON pass.
        const choice = (JSON.parse(data) as { choices?: readonly Choice[] }).choices?.[0];
        text += spokenText(choice?.delta);
        if (typeof choice?.finish_reason === "string") finishReason = choice.finish_reason;
      }
      if (text !== "") say(text);
      return undefined;
    },
    end: () => undefined,
    fail(error) {
      failure = error;
    },
  };
}

/** As large as an attempt lets an event become. */
const MAX_EVENT_BYTES = 16 * 1024 * 1024;

interface Choice {
  readonly delta?: SpokenMessage;
  readonly finish_reason?: unknown;
}
