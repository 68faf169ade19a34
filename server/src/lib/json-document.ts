import { isUtf8 } from "node:buffer";
import secureJson from "secure-json-parse";

/**
 * A JSON object as it came: its bytes, its value, and where its top-level members stand. Members can be replaced, renamed
 * or taken out without rebuilding the rest, so that what a caller wrote reaches a provider to the byte.
 *
 * A member that stands twice is refused: two parsers may each take another one of them, and a limit that was checked here
 * would not be the one that holds there.
 */
export interface JsonDocument {
  readonly bytes: Buffer;
  readonly value: Readonly<Record<string, unknown>>;
  readonly members: ReadonlyMap<string, JsonMember>;
}

interface JsonMember {
  readonly keyStart: number;
  readonly keyEnd: number;
  readonly valueStart: number;
  readonly valueEnd: number;
}

/** The bytes are not a JSON object that this server takes; the message is fit for the caller. */
export class JsonDocumentError extends Error {
  override readonly name = "JsonDocumentError";
}

/** The body is of a shape that takes more of this server than any use of it needs; the message is fit for the caller. */
export class JsonTooComplex extends JsonDocumentError {
  readonly rule: JsonRule;
  readonly limit: number;

  constructor(rule: JsonRule, message: string) {
    super(message);
    this.rule = rule;
    this.limit = JSON_LIMITS[rule];
  }
}

/**
 * What a body may hold besides its size, so that no few bytes become much work: of brackets within brackets, of members and items
 * in all, of members in one object, and in bytes of one name and one number. The most that OpenAI takes for one request is the
 * measure: 300,000 tokens of embeddings, which may come as numbers.
 */
export const JSON_LIMITS = {
  json_depth: 128,
  json_values: 400_000,
  json_members: 10_000,
  json_name_length: 1_024,
  json_number_length: 256,
} as const;

export type JsonRule = keyof typeof JSON_LIMITS;

const QUOTE = 0x22;
const BACKSLASH = 0x5c;
const OPEN_BRACE = 0x7b;
const CLOSE_BRACE = 0x7d;
const OPEN_BRACKET = 0x5b;
const CLOSE_BRACKET = 0x5d;
const COMMA = 0x2c;
const COLON = 0x3a;

/** Parses a request body. Throws JsonDocumentError, or JsonTooComplex before anything is built of it, with the reason. */
export function parseJsonDocument(bytes: Buffer): JsonDocument {
  if (bytes.length === 0) throw new JsonDocumentError("The body is empty; send a JSON object.");
  if (!isUtf8(bytes)) throw new JsonDocumentError("The body is not valid UTF-8.");
  refuseTooComplex(bytes);
  const text = bytes.toString("utf8");
  let value: unknown;
  try {
    value = secureJson.parse(text, null, { protoAction: "error", constructorAction: "error" });
  } catch (cause) {
    const reason = cause instanceof Error ? cause.message : "unreadable";
    throw new JsonDocumentError(
      reason.includes("forbidden prototype")
        ? "The body has a member named __proto__ or constructor.prototype, which is refused."
        : `The body is not valid JSON: ${withoutContent(reason)}.`,
    );
  }
  if (value === null || typeof value !== "object" || Array.isArray(value)) {
    throw new JsonDocumentError("The body must be a JSON object.");
  }
  return { bytes, value: value as Record<string, unknown>, members: topLevelMembers(bytes) };
}

/** A member's value as it was written, without the space around it; undefined when there is no such member. */
export function memberText({ bytes, members }: JsonDocument, name: string): string | undefined {
  const member = members.get(name);
  return member && bytes.toString("utf8", member.valueStart, member.valueEnd).trim();
}

export type JsonEdit = { readonly set: unknown } | { readonly renameTo: string } | "remove";

/** The document's bytes with the edits made; the very same buffer when there is nothing to change. */
export function editJsonDocument(document: JsonDocument, edits: ReadonlyMap<string, JsonEdit>): Buffer {
  if (edits.size === 0) return document.bytes;
  const { bytes } = document;
  const kept: Buffer[] = [];
  const added: string[] = [];
  for (const [key, member] of document.members) {
    const edit = edits.get(key);
    if (edit === "remove") continue;
    if (edit === undefined) kept.push(bytes.subarray(member.keyStart, member.valueEnd));
    else if ("set" in edit) kept.push(Buffer.from(`${JSON.stringify(key)}:${JSON.stringify(edit.set)}`));
    else kept.push(Buffer.from(JSON.stringify(edit.renameTo)), bytes.subarray(member.keyEnd, member.valueEnd));
    kept.push(SEPARATOR);
  }
  for (const [key, edit] of edits) {
    if (edit !== "remove" && "set" in edit && !document.members.has(key))
      added.push(`${JSON.stringify(key)}:${JSON.stringify(edit.set)}`);
  }
  if (added.length > 0) kept.push(Buffer.from(added.join(",")));
  else kept.pop();
  return Buffer.concat([OPENING, ...kept, CLOSING]);
}

const OPENING = Buffer.from("{");
const CLOSING = Buffer.from("}");
const SEPARATOR = Buffer.from(",");

/** V8 quotes a piece of the text in its message; a body may hold secrets, so only the position is kept. */
function withoutContent(reason: string): string {
  const position = /position (\d+)/.exec(reason)?.[1];
  return position === undefined
    ? "it ends too early or has a misplaced character"
    : `unexpected character at position ${position}`;
}

/** The end of the string whose opening quote stands at `start`, as the index behind its closing quote. */
function endOfString(bytes: Buffer, start: number): number {
  let quote = start;
  for (;;) {
    quote = bytes.indexOf(QUOTE, quote + 1);
    if (quote === -1) return bytes.length;
    let backslashes = 0;
    while (bytes[quote - 1 - backslashes] === BACKSLASH) backslashes++;
    if (backslashes % 2 === 0) return quote + 1;
  }
}

/** Of every open bracket, how many members stand in it so far; nothing is left in it between two bodies. */
const membersAt = new Uint32Array(JSON_LIMITS.json_depth + 1);

/** One pass, before parsing, so it holds for any bytes; strings are skipped over whole. */
function refuseTooComplex(bytes: Buffer): void {
  let depth = 0;
  let values = 0;
  let stringLength = 0;
  for (let index = 0; index < bytes.length; index++) {
    switch (bytes[index]) {
      case QUOTE: {
        const end = endOfString(bytes, index);
        stringLength = end - index - 2;
        index = end - 1;
        break;
      }
      case COLON:
        if (stringLength > JSON_LIMITS.json_name_length)
          throw new JsonTooComplex(
            "json_name_length",
            `The body has a member whose name is longer than ${JSON_LIMITS.json_name_length} bytes.`,
          );
        if (++membersAt[depth]! > JSON_LIMITS.json_members)
          throw new JsonTooComplex(
            "json_members",
            `The body has an object with more than ${JSON_LIMITS.json_members} members.`,
          );
        break;
      case OPEN_BRACE:
      case OPEN_BRACKET:
        if (++depth > JSON_LIMITS.json_depth)
          throw new JsonTooComplex("json_depth", `The body nests deeper than ${JSON_LIMITS.json_depth} levels.`);
        membersAt[depth] = 0;
        values++;
        break;
      case CLOSE_BRACE:
      case CLOSE_BRACKET:
        if (depth > 0) depth--;
        break;
      case COMMA:
        if (++values > JSON_LIMITS.json_values)
          throw new JsonTooComplex(
            "json_values",
            `The body has more than ${JSON_LIMITS.json_values} members and items in all.`,
          );
        break;
      default:
        index = endOfNumber(bytes, index);
    }
  }
}

/** The index of the last byte of a number or of a word like `true`; the same index where there is neither. */
function endOfNumber(bytes: Buffer, start: number): number {
  let end = start;
  while (isOfNumber(bytes[end + 1])) end++;
  if (end - start >= JSON_LIMITS.json_number_length)
    throw new JsonTooComplex(
      "json_number_length",
      `The body has a number longer than ${JSON_LIMITS.json_number_length} characters.`,
    );
  return end;
}

/** Digits, `.`, `+`, `-`, and the letters, of which numbers have `e`. */
const isOfNumber = (byte: number | undefined): boolean =>
  byte !== undefined &&
  ((byte >= 0x30 && byte <= 0x39) || byte === 0x2e || byte === 0x2d || byte === 0x2b || (byte | 0x20) === 0x65);

/** Asked after parsing, so the bytes are a valid object. */
function topLevelMembers(bytes: Buffer): Map<string, JsonMember> {
  const members = new Map<string, JsonMember>();
  let depth = 0;
  let keyStart = -1;
  let keyEnd = -1;
  let valueStart = -1;
  const close = (end: number): void => {
    if (keyStart === -1) return;
    const key = JSON.parse(bytes.toString("utf8", keyStart, keyEnd)) as string;
    if (members.has(key)) throw new JsonDocumentError(`The body has the member "${key.slice(0, 64)}" twice.`);
    members.set(key, { keyStart, keyEnd, valueStart, valueEnd: end });
    keyStart = keyEnd = valueStart = -1;
  };
  for (let index = 0; index < bytes.length; index++) {
    const byte = bytes[index];
    if (byte === QUOTE) {
      const end = endOfString(bytes, index);
      if (depth === 1 && keyStart === -1) {
        keyStart = index;
        keyEnd = end;
      }
      index = end - 1;
    } else if (byte === OPEN_BRACE || byte === OPEN_BRACKET) depth++;
    else if (byte === CLOSE_BRACE || byte === CLOSE_BRACKET) {
      if (depth === 1) close(index);
      depth--;
    } else if (depth === 1 && byte === COMMA) close(index);
    else if (depth === 1 && byte === COLON && valueStart === -1) valueStart = index + 1;
  }
  return members;
}
