/**
 * Server-sent events as bytes. `SseFramer` cuts a stream into whole events, wherever the network cut it, and hands each on
 * as the bytes that came. Lines end with LF or CRLF (what HTTP vendors send); an event ends with an empty line.
 * https://html.spec.whatwg.org/multipage/server-sent-events.html#parsing-an-event-stream
 */
export class SseFramer {
  readonly #maxEventBytes: number;
  #pending: Buffer[] = [];
  #pendingBytes = 0;
  #lineBytes = 0;
  #lastByte = 0;

  constructor(maxEventBytes: number) {
    this.#maxEventBytes = maxEventBytes;
  }

  /** The events that the chunk completes, in order. Throws RangeError when one event outgrows the bound. */
  push(chunk: Buffer): Buffer[] {
    const events: Buffer[] = [];
    let start = 0;
    let line = 0;
    for (let newline = chunk.indexOf(LF); newline !== -1; newline = chunk.indexOf(LF, line)) {
      const length = this.#lineBytes + newline - line;
      const before = newline > 0 ? chunk[newline - 1] : this.#lastByte;
      this.#lineBytes = 0;
      line = newline + 1;
      if (length === 0 || (length === 1 && before === CR)) {
        events.push(this.#take(chunk.subarray(start, line)));
        start = line;
      }
    }
    this.#lineBytes += chunk.length - line;
    this.#lastByte = chunk[chunk.length - 1] ?? this.#lastByte;
    if (start < chunk.length) {
      this.#pending.push(start === 0 ? chunk : chunk.subarray(start));
      this.#pendingBytes += chunk.length - start;
      if (this.#pendingBytes > this.#maxEventBytes)
        throw new RangeError(`one event is larger than ${this.#maxEventBytes} bytes`);
    }
    return events;
  }

  /** Bytes of an event that has not ended; a stream that closes with some was cut. */
  get unfinishedBytes(): number {
    return this.#pendingBytes;
  }

  #take(last: Buffer): Buffer {
    if (this.#pendingBytes === 0) return last;
    const event = Buffer.concat([...this.#pending, last]);
    this.#pending = [];
    this.#pendingBytes = 0;
    return event;
  }
}

const LF = 0x0a;
const CR = 0x0d;
const DATA = Buffer.from("data:");

/** The event's data as text; undefined when it has none (a comment, a keep-alive, a blank line). */
export function sseData(event: Buffer): string | undefined {
  if (event.length > 5 && event[0] === DATA[0] && event.compare(DATA, 0, 5, 0, 5) === 0) {
    const end = event.indexOf(LF);
    // Nearly every event is one data line and the empty one.
    if (end >= event.length - 2)
      return event.toString("utf8", event[5] === 0x20 ? 6 : 5, event[end - 1] === CR ? end - 1 : end);
  }
  let data: string | undefined;
  for (const line of event
    .toString("utf8")
    .replace(/^\uFEFF/, "")
    .split(/\r?\n/)) {
    if (!line.startsWith("data:")) continue;
    const value = line.slice(line[5] === " " ? 6 : 5);
    data = data === undefined ? value : `${data}\n${value}`;
  }
  return data;
}

export const sseEvent = (data: unknown): Buffer => Buffer.from(`data: ${JSON.stringify(data)}\n\n`);
export const SSE_DONE = Buffer.from("data: [DONE]\n\n");
