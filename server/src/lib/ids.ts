import { randomFillSync } from "node:crypto";

/** Random bytes are drawn in blocks: one call of the generator serves many ids. */
const pool = new Uint8Array(4_096);
let unread = pool.length;

function randomByte(): number {
  if (unread === pool.length) {
    randomFillSync(pool);
    unread = 0;
  }
  const byte = pool[unread]!;
  pool[unread] = 0;
  unread += 1;
  return byte;
}

const BASE62 = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
/** The largest multiple of 62 that a byte reaches; bytes from here on would favour the first letters and are drawn again. */
const FAIR_BYTES = 248;

/** Letters and digits from the system's secure generator, every one as likely as the others; 5.95 bits each. */
export function randomBase62(length: number): string {
  let text = "";
  while (text.length < length) {
    const byte = randomByte();
    if (byte < FAIR_BYTES) text += BASE62[byte % 62];
  }
  return text;
}

/** A whole number below 2^53 in base 62, filled up with zeros to the length. */
export function toBase62(value: number, length: number): string {
  let text = "";
  for (let rest = value; rest > 0; rest = Math.floor(rest / 62)) text = BASE62[rest % 62] + text;
  return text.padStart(length, "0");
}

/** A key's public id: `bk_` and 12 base62 characters. */
export const newKeyId = (): string => `bk_${randomBase62(12)}`;

/** A request id of ours: `req_` and 24 base62 characters. */
export const newRequestId = (): string => `req_${randomBase62(24)}`;

const SANE_REQUEST_ID = /^[A-Za-z0-9._:-]{1,128}$/;

/** Whether a caller's request id can be kept: short, and harmless in headers, logs and URLs. */
export const isSaneRequestId = (text: string): boolean => SANE_REQUEST_ID.test(text);

const HEX = Array.from({ length: 256 }, (_, byte) => byte.toString(16).padStart(2, "0"));

function randomHex(bytes: number): string {
  let text = "";
  for (let index = 0; index < bytes; index += 1) text += HEX[randomByte()];
  return text;
}

let lastMs = 0;
let lastCount = 0;

/**
 * A UUID of version 7 (RFC 9562, section 5.7), in lower case. Ids of one process sort in the order in which they were made,
 * even when the clock stands still or steps back: the 12 bits after the time are a counter (section 6.2, method 1) that starts
 * at random in its lower half, and its overflow borrows a millisecond.
 */
export function uuidv7(nowMs: number = Date.now()): string {
  if (nowMs > lastMs) {
    lastMs = Math.floor(nowMs);
    lastCount = ((randomByte() << 8) | randomByte()) & 0x7ff;
  } else if (lastCount < 0xfff) {
    lastCount += 1;
  } else {
    lastMs += 1;
    lastCount = ((randomByte() << 8) | randomByte()) & 0x7ff;
  }
  const time = lastMs.toString(16).padStart(12, "0");
  const variant = HEX[(randomByte() & 0x3f) | 0x80]!;
  return `${time.slice(0, 8)}-${time.slice(8)}-${(0x7000 | lastCount).toString(16)}-${variant}${randomHex(1)}-${randomHex(6)}`;
}

/** A place in a W3C trace: the trace, the span that is current, and whether the trace is recorded. */
export interface TraceContext {
  /** 32 lower-case hex digits, not all zero. */
  readonly traceId: string;
  /** 16 lower-case hex digits, not all zero. */
  readonly spanId: string;
  readonly sampled: boolean;
}

const TRACEPARENT = /^([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?$/;
const ALL_ZERO = /^0+$/;

/** Reads a `traceparent` header (W3C Trace Context, section 3.2); undefined when it is not a valid one. */
export function parseTraceparent(header: string): TraceContext | undefined {
  const match = TRACEPARENT.exec(header.trim());
  if (match === null) return undefined;
  const [, version, traceId, spanId, flags, more] = match;
  if (version === "ff" || (version === "00" && more !== undefined)) return undefined;
  if (ALL_ZERO.test(traceId!) || ALL_ZERO.test(spanId!)) return undefined;
  return { traceId: traceId!, spanId: spanId!, sampled: (Number.parseInt(flags!, 16) & 1) === 1 };
}

/** A new span: in the parent's trace if there is a parent, else in a trace of its own, which is not marked as recorded. */
export function newTraceContext(parent?: TraceContext): TraceContext {
  return { traceId: parent?.traceId ?? nonZeroHex(16), spanId: nonZeroHex(8), sampled: parent?.sampled ?? false };
}

function nonZeroHex(bytes: number): string {
  for (;;) {
    const text = randomHex(bytes);
    if (!ALL_ZERO.test(text)) return text;
  }
}

/** The `traceparent` header of a context, version 00. */
export function formatTraceparent(context: TraceContext): string {
  return `00-${context.traceId}-${context.spanId}-${context.sampled ? "01" : "00"}`;
}
