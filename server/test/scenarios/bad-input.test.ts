import assert from "node:assert/strict";
import { spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, rmSync } from "node:fs";
import { connect } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";
import { sourceUrl } from "../storage/scratch.ts";

/** The gateway as a process of its own that logs all it can, so that what it writes and whether it lives is seen from outside. */
const folder = mkdtempSync(join(tmpdir(), "brikk-test-"));
const environment = {
  PATH: process.env["PATH"],
  NODE_V8_COVERAGE: process.env["NODE_V8_COVERAGE"] ?? "",
  DATABASE_URL: `sqlite:${join(folder, "brikk.db")}`,
  PORT: "0",
  LOG_LEVEL: "trace",
  BRIKK_REQUIRE_AUTH: "true",
  BRIKK_RATE_LIMIT_PER_MIN: "10000",
  SIMULATOR_FIRST_TOKEN_MS: "0",
  SIMULATOR_TOKENS_PER_SECOND: "0",
};
const made = spawnSync(
  process.execPath,
  [new URL(sourceUrl("cli.ts")).pathname, "keys", "create", "--name", "bad-input", "--json"],
  { env: environment, encoding: "utf8" },
);
const { key: secret } = JSON.parse(made.stdout) as { key: string };
const child = spawn(process.execPath, [new URL(sourceUrl("main.ts")).pathname], {
  env: environment,
  stdio: ["ignore", "pipe", "pipe"],
});
const exited = once(child, "exit");
let output = "";
let url = "";
await new Promise<void>((resolve, reject) => {
  const take = (text: string): void => {
    output += text;
    const found = /http:\/\/127\.0\.0\.1:\d+/.exec(output)?.[0];
    if (found === undefined) return;
    url = found;
    resolve();
  };
  child.stdout.setEncoding("utf8").on("data", take);
  child.stderr.setEncoding("utf8").on("data", take);
  exited.then(() => reject(new Error(`The gateway did not start:\n${output}`)), reject);
});
after(async () => {
  child.kill("SIGKILL");
  await exited;
  rmSync(folder, { recursive: true, force: true });
});

/** Stands in every request's content; must not be in any log line, nor in any error's body. */
const MARK = "TOP-SECRET-CONTENT-5f1c";
const good = { model: "gpt-4o-mini", messages: [{ role: "user", content: MARK }] };
const CHAT = "/v1/chat/completions";

interface ErrorBody {
  readonly error: {
    readonly message: string;
    readonly type: string;
    readonly code: string;
    readonly param: string | null;
    readonly request_id: string;
    readonly details: unknown;
  };
}

interface BadRequest {
  readonly name: string;
  readonly path?: string;
  readonly method?: string;
  readonly headers?: Record<string, string>;
  readonly body?: string | Buffer;
  readonly status: number;
  readonly code: string;
  readonly param?: string;
}

const json = (value: unknown): string => JSON.stringify(value);
const nested = (depth: number): string =>
  `{"model":"gpt-4o-mini","messages":[{"role":"user","content":"${MARK}"}],"metadata":${"[".repeat(depth)}${"]".repeat(depth)}}`;

const refused: readonly BadRequest[] = [
  { name: "no body", body: "", status: 400, code: "invalid_request" },
  { name: "not JSON", body: `hello ${MARK}`, status: 400, code: "invalid_request" },
  {
    name: "JSON that ends too early",
    body: `{"model":"gpt-4o-mini","messages":[{"role":"user","content":"${MARK}`,
    status: 400,
    code: "invalid_request",
  },
  { name: "JSON with a comma too many", body: `{"model":"${MARK}",}`, status: 400, code: "invalid_request" },
  { name: "an array", body: json([MARK]), status: 400, code: "invalid_request" },
  { name: "a string", body: json(MARK), status: 400, code: "invalid_request" },
  { name: "null", body: "null", status: 400, code: "invalid_request" },
  {
    name: "a number that no JSON knows",
    body: `{"model":"gpt-4o-mini","messages":[{"role":"user","content":"${MARK}"}],"temperature":NaN}`,
    status: 400,
    code: "invalid_request",
  },
  { name: "two documents", body: `${json(good)}${json(good)}`, status: 400, code: "invalid_request" },
  {
    name: "invalid UTF-8",
    body: Buffer.concat([
      Buffer.from(`{"model":"gpt-4o-mini","messages":[{"role":"user","content":"${MARK}`),
      Buffer.from([0xff, 0xfe, 0xc0]),
      Buffer.from(`"}]}`),
    ]),
    status: 400,
    code: "invalid_request",
  },
  { name: "UTF-16", body: Buffer.from(json(good), "utf16le"), status: 400, code: "invalid_request" },
  { name: "10,000 arrays in one another", body: nested(10_000), status: 400, code: "request_too_complex" },
  {
    name: "10,000 objects in one another",
    body: `${'{"a":'.repeat(10_000)}1${"}".repeat(10_000)}`,
    status: 400,
    code: "request_too_complex",
  },
  { name: "10,000 brackets that never close", body: "[".repeat(10_000), status: 400, code: "request_too_complex" },
  {
    name: "__proto__",
    body: `{"__proto__":{"admin":true},"model":"gpt-4o-mini","messages":[{"role":"user","content":"${MARK}"}]}`,
    status: 400,
    code: "invalid_request",
  },
  {
    name: "__proto__ written with an escape",
    body: `{"model":"gpt-4o-mini","messages":[{"role":"user","content":"${MARK}","\\u005f_proto__":{"admin":true}}]}`,
    status: 400,
    code: "invalid_request",
  },
  {
    name: "constructor.prototype",
    body: `{"constructor":{"prototype":{"admin":true}},"model":"gpt-4o-mini","messages":[{"role":"user","content":"${MARK}"}]}`,
    status: 400,
    code: "invalid_request",
  },
  {
    name: "a member that stands twice",
    body: `{"model":"gpt-4o-mini","max_tokens":1,"messages":[{"role":"user","content":"${MARK}"}],"max_tokens":100000}`,
    status: 400,
    code: "invalid_request",
  },
  {
    name: "a member that stands twice, once with an escape",
    body: `{"model":"gpt-4o-mini","n":1,"messages":[{"role":"user","content":"${MARK}"}],"\\u006e":99}`,
    status: 400,
    code: "invalid_request",
  },
  {
    name: "missing model",
    body: json({ messages: good.messages }),
    status: 400,
    code: "invalid_request",
    param: "model",
  },
  {
    name: "missing messages",
    body: json({ model: good.model }),
    status: 400,
    code: "invalid_request",
    param: "messages",
  },
  {
    name: "no messages",
    body: json({ ...good, messages: [] }),
    status: 400,
    code: "invalid_request",
    param: "messages",
  },
  {
    name: "messages as text",
    body: json({ ...good, messages: MARK }),
    status: 400,
    code: "invalid_request",
    param: "messages",
  },
  {
    name: "a message without a role",
    body: json({ ...good, messages: [{ content: MARK }] }),
    status: 400,
    code: "invalid_request",
    param: "messages[0].role",
  },
  {
    name: "content as a number",
    body: json({ ...good, messages: [{ role: "user", content: 7 }] }),
    status: 400,
    code: "invalid_request",
    param: "messages[0].content",
  },
  {
    name: "content as an object",
    body: json({ ...good, messages: [{ role: "user", content: { text: MARK } }] }),
    status: 400,
    code: "invalid_request",
    param: "messages[0].content",
  },
  {
    name: "model as a number",
    body: json({ ...good, model: 4 }),
    status: 400,
    code: "invalid_request",
    param: "model",
  },
  { name: "an empty model", body: json({ ...good, model: "" }), status: 400, code: "invalid_request", param: "model" },
  {
    name: "a model of 10,000 characters",
    body: json({ ...good, model: "m".repeat(10_000) }),
    status: 400,
    code: "invalid_request",
    param: "model",
  },
  {
    name: "stream as text",
    body: json({ ...good, stream: "true" }),
    status: 400,
    code: "invalid_request",
    param: "stream",
  },
  {
    name: "max_tokens below 1",
    body: json({ ...good, max_tokens: -1 }),
    status: 400,
    code: "invalid_request",
    param: "max_tokens",
  },
  {
    name: "max_tokens as a fraction",
    body: json({ ...good, max_tokens: 1.5 }),
    status: 400,
    code: "invalid_request",
    param: "max_tokens",
  },
  {
    name: "max_tokens beyond all numbers",
    body: `{"model":"gpt-4o-mini","messages":[{"role":"user","content":"${MARK}"}],"max_tokens":1e999}`,
    status: 400,
    code: "invalid_request",
    param: "max_tokens",
  },
  {
    name: "n beyond all measure",
    body: json({ ...good, n: 1_000_000 }),
    status: 400,
    code: "invalid_request",
    param: "n",
  },
  {
    name: "a role that no provider knows",
    body: json({ ...good, messages: [{ role: "wizard", content: MARK }] }),
    status: 400,
    code: "invalid_type",
  },
  {
    name: "an unknown model",
    body: json({ ...good, model: "no-such-model" }),
    status: 404,
    code: "model_not_found",
    param: "model",
  },
  {
    name: "an unknown provider",
    body: json({ ...good, model: "nobody/gpt-4o-mini" }),
    status: 404,
    code: "model_not_found",
    param: "model",
  },
  {
    name: "an unknown wish of the router",
    body: json({ ...good, model: "brikk/best" }),
    status: 404,
    code: "model_not_found",
    param: "model",
  },
  {
    name: "a model named after an object's own parts",
    body: json({ ...good, model: "constructor/__proto__" }),
    status: 404,
    code: "model_not_found",
    param: "model",
  },
  {
    name: "a known provider's model without a price",
    body: json({ ...good, model: "openai/unheard-of" }),
    status: 400,
    code: "model_price_unknown",
    param: "model",
  },
  {
    name: "a header injected by the model's name",
    body: json({ ...good, model: "openai/gpt-4o-mini\r\nX-Injected: yes" }),
    status: 400,
    code: "model_price_unknown",
    param: "model",
  },
  {
    name: "a header injected by an unknown model's name",
    body: json({ ...good, model: "gpt\r\nX-Injected: yes" }),
    status: 404,
    code: "model_not_found",
    param: "model",
  },
  {
    name: "an embedding of nothing",
    path: "/v1/embeddings",
    body: json({ model: "text-embedding-3-small", input: "" }),
    status: 400,
    code: "invalid_request",
    param: "input",
  },
  {
    name: "an embedding by a chat model of nobody",
    path: "/v1/embeddings",
    body: json({ model: "no-such-model", input: MARK }),
    status: 404,
    code: "model_not_found",
    param: "model",
  },
  {
    name: "text that says it is text",
    headers: { "content-type": "text/plain" },
    body: json(good),
    status: 415,
    code: "unsupported_media_type",
  },
  {
    name: "a form",
    headers: { "content-type": "application/x-www-form-urlencoded" },
    body: `content=${MARK}`,
    status: 415,
    code: "unsupported_media_type",
  },
  {
    name: "a content type that is none",
    headers: { "content-type": ";;;" },
    body: json(good),
    status: 415,
    code: "unsupported_media_type",
  },
  { name: "an unknown path", path: "/v1/chat/completion", body: json(good), status: 404, code: "not_found" },
  { name: "a path with a broken escape", path: "/v1/%zz", method: "GET", status: 400, code: "invalid_request" },
  {
    name: "a part of a path that is too long",
    path: `/agents/${"x".repeat(300)}/chat`,
    body: json({ message: MARK }),
    status: 400,
    code: "invalid_request",
  },
  {
    name: "a path that climbs out",
    path: "/docs/static/..%2f..%2f..%2fpackage.json",
    method: "GET",
    status: 404,
    code: "not_found",
  },
  { name: "the wrong method", method: "GET", status: 405, code: "method_not_allowed" },
  { name: "the wrong method with a body", method: "PUT", body: json(good), status: 405, code: "method_not_allowed" },
  { name: "the wrong method on a list", path: "/v1/models", method: "DELETE", status: 405, code: "method_not_allowed" },
  {
    name: "a body over the limit",
    body: json({ ...good, padding: "x".repeat(11 * 1024 * 1024) }),
    status: 413,
    code: "request_too_large",
  },
  { name: "no key", headers: { authorization: "" }, body: json(good), status: 401, code: "missing_api_key" },
  {
    name: "a key cut off",
    headers: { authorization: `Bearer ${secret.slice(0, 30)}` },
    body: json(good),
    status: 401,
    code: "invalid_api_key",
  },
  {
    name: "another service's key",
    headers: { authorization: `Bearer sk-${MARK}` },
    body: json(good),
    status: 401,
    code: "invalid_api_key",
  },
];

/** What every refusal promises. */
function assertRefusal(
  response: { status: number; headers: Headers },
  text: string,
  expected: Pick<BadRequest, "status" | "code" | "param">,
): void {
  assert.equal(response.status, expected.status, text.slice(0, 500));
  assert.match(response.headers.get("content-type") ?? "", /^application\/json/);
  const { error } = JSON.parse(text) as ErrorBody;
  assert.deepEqual(Object.keys(error), ["message", "type", "code", "param", "request_id", "details"]);
  assert.equal(error.code, expected.code);
  if (expected.param !== undefined) assert.equal(error.param, expected.param);
  assert.ok(error.message.length > 10 && error.message.length < 2_500, error.message);
  assert.equal(error.request_id, response.headers.get("x-request-id"));
  assert.equal(response.headers.get("x-should-retry"), "false");
  assert.ok(!text.includes(MARK), "an error repeats no content");
  assert.ok(!text.includes(secret), "nor a key");
  assert.doesNotMatch(text, /node_modules|\/src\/|\.ts:\d/, "nor the gateway's own insides");
}

for (const { name, path = CHAT, method = "POST", headers = {}, body, ...expected } of refused) {
  test(`${name}: ${expected.status} ${expected.code}, in OpenAI's shape`, async () => {
    const response = await fetch(`${url}${path}`, {
      method,
      headers: { authorization: `Bearer ${secret}`, "content-type": "application/json", ...headers },
      ...(body !== undefined && { body }),
    });
    assertRefusal(response, await response.text(), expected);
    assert.equal(response.headers.get("x-injected"), null);
  });
}

test("a body without an end is refused once it is over the limit", async () => {
  const megabyte = Buffer.alloc(1024 * 1024, " ");
  let sent = 0;
  const body = new ReadableStream({
    pull(controller) {
      sent += 1;
      if (sent > 40) controller.close();
      else controller.enqueue(megabyte);
    },
  });
  const response = await fetch(`${url}${CHAT}`, {
    method: "POST",
    headers: { authorization: `Bearer ${secret}`, "content-type": "application/json" },
    body,
    duplex: "half",
  });
  assertRefusal(response, await response.text(), { status: 413, code: "request_too_large" });
});

/** Sends bytes as they are and reads until the server hangs up. */
async function raw(bytes: string): Promise<string> {
  const { hostname, port } = new URL(url);
  const socket = connect(Number(port), hostname);
  let text = "";
  socket.setEncoding("utf8").on("data", (chunk: string) => (text += chunk));
  socket.write(bytes);
  await once(socket, "close");
  return text;
}

const rawRefused: readonly (readonly [name: string, bytes: string, status: number, code: string])[] = [
  [
    "a header of 20 kB",
    `GET /v1/models HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer ${secret}\r\nX-Long: ${"x".repeat(20_000)}\r\n\r\n`,
    431,
    "headers_too_large",
  ],
  ["a path of 20 kB", `GET /${"x".repeat(20_000)} HTTP/1.1\r\nHost: x\r\n\r\n`, 431, "headers_too_large"],
  ["5,000 headers", `GET /v1/models HTTP/1.1\r\nHost: x\r\n${"A: b\r\n".repeat(5_000)}\r\n`, 431, "headers_too_large"],
  ["what is not HTTP", `${MARK}\r\n\r\n`, 400, "invalid_request"],
  ["TLS on a plain port", "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", 400, "invalid_request"],
  [
    "two lengths",
    `POST ${CHAT} HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello`,
    400,
    "invalid_request",
  ],
  [
    "a length and chunks",
    `POST ${CHAT} HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n`,
    400,
    "invalid_request",
  ],
  [
    "a length that is no number",
    `POST ${CHAT} HTTP/1.1\r\nHost: x\r\nContent-Length: many\r\n\r\n`,
    400,
    "invalid_request",
  ],
  [
    "a header with a line break of its own",
    `GET /v1/models HTTP/1.1\r\nHost: x\r\nX-Bad: a\x00b\r\n\r\n`,
    400,
    "invalid_request",
  ],
  ["a method that is none", `STEAL /v1/models HTTP/1.1\r\nHost: x\r\n\r\n`, 400, "invalid_request"],
];

for (const [name, bytes, status, code] of rawRefused) {
  test(`${name}: ${status} ${code}, written to the socket in OpenAI's shape`, async () => {
    const answer = await raw(bytes);
    assert.match(answer, new RegExp(`^HTTP/1\\.1 ${status} `));
    const { error } = JSON.parse(answer.slice(answer.indexOf("\r\n\r\n") + 4)) as ErrorBody;
    assert.equal(error.code, code);
    assert.match(error.request_id, /^req_/);
    assert.match(answer, /\r\nx-should-retry: false\r\n/i);
    assert.ok(answer.toLowerCase().includes(`\r\nx-request-id: ${error.request_id.toLowerCase()}\r\n`));
    assert.ok(!answer.includes(MARK) && !answer.includes(secret));
  });
}

for (const [name, id] of [
  ["with a line break", "a\r\n b"],
  ["of 1 kB", "x".repeat(1_024)],
] as const) {
  test(`a request id ${name} is replaced and goes nowhere`, async () => {
    const answer = await raw(`GET /health HTTP/1.1\r\nHost: x\r\nConnection: close\r\nX-Request-Id: ${id}\r\n\r\n`);
    assert.ok(!answer.includes("x".repeat(200)));
    // A folded header is refused as HTTP; anything else is answered under an id of ours.
    assert.match(answer, /^HTTP\/1\.1 (?:200|400) /);
    if (answer.startsWith("HTTP/1.1 200")) assert.match(answer, /\r\nx-request-id: req_[0-9A-Za-z]{24}\r\n/);
  });
}

test("an answer that goes well keeps the caller's content out of the log too", async () => {
  for (const stream of [false, true]) {
    const response = await fetch(`${url}${CHAT}`, {
      method: "POST",
      headers: { authorization: `Bearer ${secret}`, "content-type": "application/json" },
      body: json({ ...good, stream }),
    });
    assert.equal(response.status, 200);
    await response.text();
  }
});

/** Reads what all tests above have left behind, so it stands last. */
test("after all of this the process lives, serves, and has logged neither content nor keys", async () => {
  const last = await fetch(`${url}/keys/me`, {
    headers: { authorization: `Bearer ${secret}`, "x-request-id": "the-last-request" },
  });
  assert.equal(last.status, 200);
  child.kill("SIGTERM");
  const [code] = (await exited) as [number | null];
  assert.equal(code, 0);
  const lines = output.split("\n").filter((line) => line.startsWith("{"));
  assert.ok(
    lines.some((line) => line.includes("the-last-request")),
    "the log was read to its end",
  );
  assert.ok(lines.length > refused.length, "each request has its line");
  for (const line of output.split("\n")) {
    assert.ok(!line.includes(MARK), `content in the log: ${line.slice(0, 300)}`);
    assert.ok(!line.includes(secret.slice(0, 20)), `a key in the log: ${line.slice(0, 300)}`);
  }
  assert.ok(!lines.some((line) => line.includes('"level":"error"')), "a caller's mistake is no error of the server's");
});
