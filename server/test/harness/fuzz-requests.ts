import { type ApiRoute, exampleBody, type Schema } from "./api-routes.ts";

/** Draws from a seed; the same seed gives the same draws. */
export class Draw {
  #state: number;

  constructor(seed: number) {
    this.#state = seed >>> 0;
  }

  /** 0 to 1, by mulberry32. */
  number(): number {
    this.#state = (this.#state + 0x6d2b79f5) >>> 0;
    let mixed = this.#state;
    mixed = Math.imul(mixed ^ (mixed >>> 15), mixed | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 4_294_967_296;
  }

  below(end: number): number {
    return Math.floor(this.number() * end);
  }

  chance(share: number): boolean {
    return this.number() < share;
  }

  pick<T>(items: readonly T[]): T {
    return items[this.below(items.length)]!;
  }

  list<T>(most: number, item: () => T): T[] {
    return Array.from({ length: this.below(most + 1) }, item);
  }
}

export interface FuzzRequest {
  /** As it goes over the wire. */
  readonly bytes: Buffer;
  /** Sent in pieces of so many bytes. */
  readonly pieceBytes: number | undefined;
  /** The caller leaves after so many bytes of the answer; undefined: stays. */
  readonly leavesAfterBytes: number | undefined;
  /** It is HTTP, whole and not too large, so that nothing but an answer will do. */
  readonly wellFormed: boolean;
}

export interface FuzzCredentials {
  readonly secrets: readonly string[];
  readonly adminToken: string;
}

const MODELS = ["gpt-4o-mini", "mistral-small-latest", "brikk/auto", "brikk/cheap", "openai/gpt-4o-mini", "o4-mini"];
const EMBEDDING_MODELS = ["text-embedding-3-small", "mistral-embed"];

const ODD_TEXTS = [
  "",
  " ",
  "\0",
  "a\r\nX-Injected: yes",
  "\u001b[31mred",
  "__proto__",
  "constructor",
  "prototype",
  "toString",
  "null",
  "-1",
  "1e309",
  "../../../etc/passwd",
  "%00%0d%0a",
  "' or 1=1 --",
  "${7*7}{{7*7}}",
  "\ud800",
  "\u{1f469}\u{200d}\u{1f4bb}".repeat(20),
  "\u202e\u0000\ufeff\uffff",
  "ا".repeat(300),
  "a".repeat(5_000),
  "[".repeat(2_000),
];
const ODD_NUMBERS = [0, -0, -1, 1, 0.1, 1e-320, 1e308, -1e308, 2 ** 31, 2 ** 53, 2 ** 53 + 2, -(2 ** 63), 1e21];
/** Put in the place of a number in JSON's text. */
const NUMBER_TEXTS = ["1e999", "-1e999", "9".repeat(400), "-0", "0.0000001", "1E+2", "01", "0x10", "NaN", ".5", "1."];

const textOf = (draw: Draw): string =>
  draw.chance(0.4)
    ? draw.pick(ODD_TEXTS)
    : String.fromCodePoint(...draw.list(40, () => (draw.chance(0.8) ? 32 + draw.below(95) : draw.below(0x10ffff))));

/** Any JSON value. */
function anyValue(draw: Draw, depth = 0): unknown {
  const kind = draw.below(depth > 4 ? 5 : 7);
  switch (kind) {
    case 0:
      return null;
    case 1:
      return draw.chance(0.5);
    case 2:
      return draw.pick(ODD_NUMBERS);
    case 3:
    case 4:
      return textOf(draw);
    case 5:
      return draw.list(4, () => anyValue(draw, depth + 1));
    default:
      return Object.fromEntries(draw.list(4, () => [textOf(draw), anyValue(draw, depth + 1)]));
  }
}

/** Mostly what the schema takes, and now and then anything else. */
function valueOf(draw: Draw, schema: Schema, name = ""): unknown {
  if (draw.chance(0.06)) return anyValue(draw);
  if (schema.nullable === true && draw.chance(0.1)) return null;
  const branches = schema.anyOf ?? schema.oneOf ?? schema.allOf;
  if (branches !== undefined) return valueOf(draw, draw.pick(branches), name);
  if (schema.enum !== undefined) return draw.pick(schema.enum);
  switch (schema.type) {
    case "object":
      return objectOf(draw, schema);
    case "array":
      return Array.from({ length: Math.max(schema.minItems ?? 0, draw.below(4)) }, () =>
        valueOf(draw, schema.items ?? {}, name),
      );
    case "integer":
    case "number": {
      const { minimum = -1_000, maximum = 1_000 } = schema;
      const near = [minimum, minimum - 1, maximum, maximum + 1, 1, 2, 100, draw.pick(ODD_NUMBERS)];
      return draw.pick(near);
    }
    case "boolean":
      return draw.chance(0.5);
    case "string":
      if (name === "model" || name === "models") return draw.chance(0.8) ? draw.pick(MODELS) : textOf(draw);
      if (name === "role") return draw.pick(["user", "system", "assistant", "tool", "developer", textOf(draw)]);
      return draw.chance(0.7) ? `Tell me ${draw.below(1_000)} things` : textOf(draw);
    case undefined:
      return anyValue(draw);
    default:
      return schema.type satisfies never;
  }
}

function objectOf(draw: Draw, schema: Schema): Record<string, unknown> {
  const { properties = {}, required = [] } = schema;
  const wanted = Object.entries(properties).filter(([name]) =>
    required.includes(name) ? !draw.chance(0.03) : draw.chance(0.25),
  );
  const made = Object.fromEntries(wanted.map(([name, one]) => [name, valueOf(draw, one, name)]));
  if (draw.chance(0.08)) made[textOf(draw)] = anyValue(draw);
  return made;
}

function bodyOf(draw: Draw, route: ApiRoute): Buffer {
  if (route.body === undefined) return Buffer.from(draw.chance(0.5) ? "{}" : JSON.stringify(anyValue(draw)));
  const example = exampleBody(route);
  let value: unknown = draw.chance(0.3) ? example : valueOf(draw, route.body);
  // What is refused for a small thing reaches nothing that is deeper.
  if (draw.chance(0.6) && isObject(value) && isObject(example)) value = { ...value, ...example };
  if (draw.chance(0.4) && isObject(value) && route.body.properties?.["stream"]) value["stream"] = draw.chance(0.7);
  if (isObject(value) && typeof value["model"] === "string" && draw.chance(0.7))
    value["model"] = draw.pick(route.template.includes("embeddings") ? EMBEDDING_MODELS : MODELS);
  return mutated(draw, Buffer.from(JSON.stringify(value) ?? "null"));
}

const isObject = (value: unknown): value is Record<string, unknown> =>
  typeof value === "object" && value !== null && !Array.isArray(value);

function mutated(draw: Draw, bytes: Buffer): Buffer {
  let now = bytes;
  for (let left = draw.chance(0.3) ? 1 + draw.below(3) : 0; left > 0; left -= 1) {
    const at = draw.below(now.length + 1);
    const [before, after] = [now.subarray(0, at), now.subarray(at)];
    switch (draw.below(8)) {
      case 0:
        now = before;
        break;
      case 1:
        now = Buffer.concat([before, after.subarray(draw.below(20))]);
        break;
      case 2:
        now = Buffer.concat([before, Buffer.from(draw.list(8, () => draw.below(256))), after]);
        break;
      case 3:
        now = Buffer.concat([before, now.subarray(draw.below(now.length + 1)), after]);
        break;
      case 4:
        now = Buffer.from(now.toString("latin1").replace(/\d+/, draw.pick(NUMBER_TEXTS)), "latin1");
        break;
      case 5: {
        const depth = draw.pick([5, 60, 129, 5_000]);
        now = Buffer.from(`{"a":${"[".repeat(depth)}${draw.chance(0.5) ? "]".repeat(depth) : ""}}`);
        break;
      }
      case 6:
        now = Buffer.from(
          now.toString("latin1").replace(/^\{/, `{"${draw.pick(["model", "__proto__", "n"])}":1,`),
          "latin1",
        );
        break;
      default:
        now = Buffer.concat([now, Buffer.from(draw.pick(["\ufeff", "{}", "\0", ",", " ".repeat(1_000)]))]);
    }
  }
  return now;
}

/** Bytes that a header may carry, and what may not stand in one but for a broken request. */
const headerValueOf = (draw: Draw): string =>
  draw.chance(0.7)
    ? draw
        .pick(ODD_TEXTS)
        .replace(/[^\x20-\x7e]/g, "?")
        .slice(0, 2_000)
    : Buffer.from(draw.list(60, () => 0x20 + draw.below(0xdf)).filter((byte) => byte !== 0x7f)).toString("latin1");

const HEADERS: readonly (readonly [name: string, values: readonly string[]])[] = [
  ["x-request-id", ["a", "x".repeat(128), "x".repeat(129), "\u00fc", "a b"]],
  ["traceparent", [`00-${"1".repeat(32)}-${"2".repeat(16)}-01`, "00-0-0-0", "ff-1"]],
  ["idempotency-key", ["k1", "k2", "\u00e9", "x".repeat(300)]],
  ["if-match", ["*", '"1"', 'W/"1"', "1"]],
  ["accept", ["text/event-stream", "*/*", "application/json;q=0", ";;;"]],
  ["accept-encoding", ["gzip", "br;q=1.0", "identity;q=0"]],
  ["expect", ["100-continue", "200-ok"]],
  ["upgrade", ["websocket", "h2c"]],
  ["te", ["trailers"]],
  ["range", ["bytes=0-", "bytes=9-1"]],
  ["x-forwarded-for", ["1.2.3.4", "::1, 8.8.8.8", "'"]],
  ["x-forwarded-proto", ["https"]],
  ["origin", ["null", "https://evil.example", "\u0000"]],
  ["x-brikk-rescue", ["continue", "restart", "off", "maybe"]],
  ["content-encoding", ["gzip", "identity"]],
  ["content-digest", ["sha-256=:AAAA=:", "sha-256=x"]],
  ["signature-input", ['sig=("@method");created=1;keyid="x"', "sig=("]],
  ["signature", ["sig=:AAAA:", "sig"]],
  ["access-control-request-method", ["POST"]],
  ["cookie", ["a=b"]],
];

function headerLines(draw: Draw, route: ApiRoute, credentials: FuzzCredentials): string[] {
  const lines: string[] = [];
  const bearer = route.admin ? credentials.adminToken : draw.pick(credentials.secrets);
  if (draw.chance(0.85))
    lines.push(draw.chance(0.7) ? `Authorization: Bearer ${bearer}` : `X-Brikk-API-Key: ${bearer}`);
  if (draw.chance(0.05))
    lines.push(`X-Brikk-API-Key: ${draw.pick([bearer.slice(0, 20), "brikk_", headerValueOf(draw)])}`);
  if (draw.chance(0.03)) lines.push(`Authorization: ${headerValueOf(draw)}`);
  for (let left = draw.chance(0.4) ? draw.below(5) : 0; left > 0; left -= 1) {
    const [name, values] = draw.pick(HEADERS);
    lines.push(`${name}: ${draw.chance(0.7) ? draw.pick(values) : headerValueOf(draw)}`);
  }
  return lines;
}

const METHODS = ["GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS", "TRACE", "PROPFIND", "QUERY"];

function targetOf(draw: Draw, route: ApiRoute): string {
  const part = (): string => encodeURIComponent(textOf(draw).toWellFormed()).slice(0, 300) || "x";
  const filled = route.template
    .replace(/:\w+/g, () => (draw.chance(0.6) ? draw.pick(["openai", "mistral", "bk_0123456789ab"]) : part()))
    .replace(/\*$/, part);
  const path = draw.chance(0.03)
    ? draw.pick(["/", "//", "/%zz", "/../..", `${filled}/`, filled.toUpperCase(), "*"])
    : filled;
  const query = draw.list(draw.chance(0.3) ? 4 : 0, () => {
    const name = route.queryNames.length > 0 && draw.chance(0.8) ? draw.pick(route.queryNames) : part();
    return `${name}=${draw.chance(0.5) ? draw.pick(["1", "0", "day", "2026-11-01", "openai", "-1"]) : part()}`;
  });
  return query.length === 0 ? path : `${path}?${query.join("&")}`;
}

/** One request to one of the routes: what the API's document describes, and what it does not. */
export function drawRequest(draw: Draw, routes: readonly ApiRoute[], credentials: FuzzCredentials): FuzzRequest {
  if (draw.chance(0.03)) return garbage(draw);
  const working = routes.filter(({ body }) => body !== undefined);
  const route = draw.chance(0.6) && working.length > 0 ? draw.pick(working) : draw.pick(routes);
  const method = draw.chance(0.93) ? route.method : draw.pick(METHODS);
  const hasBody = route.body === undefined ? draw.chance(0.1) : !draw.chance(0.02);
  let body = hasBody ? bodyOf(draw, route) : Buffer.alloc(0);
  if (hasBody && draw.chance(0.005)) body = Buffer.concat([body, Buffer.alloc(300_000, " ")]);
  const lines = [`${method} ${targetOf(draw, route)} HTTP/1.1`, "Host: fuzz", ...headerLines(draw, route, credentials)];
  let wellFormed = body.length < 100_000;
  if (hasBody)
    lines.push(
      `Content-Type: ${draw.chance(0.95) ? "application/json" : draw.pick(["text/plain", "application/json; charset=utf-16", ";", ""])}`,
    );
  lines.push("Connection: close");
  let payload: Buffer = body;
  if (hasBody && draw.chance(0.2)) {
    lines.push("Transfer-Encoding: chunked");
    payload = chunked(draw, body);
  } else if (hasBody) {
    lines.push(`Content-Length: ${body.length}`);
  }
  if (draw.chance(0.02)) {
    wellFormed = false;
    lines.splice(
      1 + draw.below(lines.length),
      0,
      draw.pick([" folded", "Content-Length: 1", "Transfer-Encoding: x", ": x", "a", "Host: b", "\tx"]),
    );
  }
  // Header values are bytes.
  const head = Buffer.from(`${lines.join("\r\n")}\r\n\r\n`, "latin1");
  let bytes = Buffer.concat([head, payload]);
  if (draw.chance(0.01)) {
    wellFormed = false;
    bytes = bytes.subarray(0, draw.below(bytes.length));
  }
  return {
    bytes,
    pieceBytes: draw.chance(0.1) ? 1 + draw.below(200) : undefined,
    leavesAfterBytes: draw.chance(0.08) ? draw.below(2_000) : undefined,
    wellFormed,
  };
}

function chunked(draw: Draw, body: Buffer): Buffer {
  const parts: Buffer[] = [];
  for (let at = 0; at < body.length;) {
    const size = Math.min(body.length - at, 1 + draw.below(500));
    const extension = draw.chance(0.05) ? ";a=b" : "";
    parts.push(Buffer.from(`${size.toString(16)}${extension}\r\n`), body.subarray(at, at + size), Buffer.from("\r\n"));
    at += size;
  }
  const trailer = draw.chance(0.1) ? "X-Trailer: a\r\n" : "";
  return Buffer.concat([...parts, Buffer.from(`0\r\n${trailer}\r\n`)]);
}

/** What is hardly HTTP, or not at all. */
function garbage(draw: Draw): FuzzRequest {
  const bytes = draw.chance(0.5)
    ? Buffer.from(draw.list(2_000, () => draw.below(256)))
    : Buffer.from(
        draw.pick([
          "GET / HTTP/1.1\n\n",
          "GET / HTTP/0.9\r\n\r\n",
          "GET /\r\n\r\n",
          "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
          "CONNECT example.com:443 HTTP/1.1\r\nHost: x\r\n\r\n",
          "POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
          "POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999999999999\r\n\r\n",
          "POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n",
          "GET http://elsewhere.example/health HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
          "GET /health HTTP/1.1\r\n\r\n",
          `GET /health HTTP/1.1\r\nHost: x\r\n${"a: b\r\n".repeat(3_000)}\r\n`,
          `GET /${"x".repeat(70_000)} HTTP/1.1\r\nHost: x\r\n\r\n`,
          "GET /health HTTP/1.1\r\nHost: x\r\n\r\n".repeat(50),
          "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        ]),
        "latin1",
      );
  return { bytes, pieceBytes: undefined, leavesAfterBytes: undefined, wellFormed: false };
}
