import assert from "node:assert/strict";
import { after, test } from "node:test";
import { startGateway } from "../harness/gateway-under-test.ts";
import { callRaw, type RawAnswer } from "../harness/raw-http.ts";

const brikk = await startGateway();
after(() => brikk.close());

const POST = "POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n";
/** The request that is smuggled, or follows; the server closes behind it. */
const MARKER = "GET /health/ready HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";

/** How often the marker was executed as a request of its own. */
async function markers(): Promise<number> {
  const { values } = await brikk.gateway.metrics.httpRequests.get();
  return values.filter(({ labels }) => labels.route === "/health/ready").reduce((sum, { value }) => sum + value, 0);
}

async function exchange(bytes: string): Promise<{ answers: readonly RawAnswer[]; executed: number }> {
  const before = await markers();
  const caller = await callRaw(brikk.url);
  caller.send(bytes);
  const answers = await caller.closed;
  return { answers, executed: (await markers()) - before };
}

const codeOf = ({ body }: RawAnswer): string => (JSON.parse(body) as { error: { code: string } }).error.code;

const chunked = (body: string): string => `${POST}Transfer-Encoding: chunked\r\n\r\n${body}`;

/** Readers on the way may take each of these for another request than we do. */
const refused: readonly [string, string, status?: number][] = [
  [
    "Content-Length before Transfer-Encoding",
    `${POST}Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n`,
  ],
  [
    "Transfer-Encoding before Content-Length",
    `${POST}Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n`,
  ],
  ["two lengths", `${POST}Content-Length: 2\r\nContent-Length: ${2 + MARKER.length}\r\n\r\n{}`],
  ["the same length twice", `${POST}Content-Length: 2\r\nContent-Length: 2\r\n\r\n{}`],
  ["a list of lengths", `${POST}Content-Length: 2, 2\r\n\r\n{}`],
  ["a negative length", `${POST}Content-Length: -2\r\n\r\n{}`],
  ["a length in hexadecimal", `${POST}Content-Length: 0x2\r\n\r\n{}`],
  ["a length with a plus", `${POST}Content-Length: +2\r\n\r\n{}`],
  ["an empty length", `${POST}Content-Length: \r\n\r\n`],
  ["a length beyond all numbers", `${POST}Content-Length: 99999999999999999999999\r\n\r\n{}`],
  ["a folded header", `GET /health/live HTTP/1.1\r\nHost: x\r\nX-A: b\r\n c\r\n\r\n`],
  ["a folded Transfer-Encoding", `${POST}Transfer-Encoding:\r\n chunked\r\n\r\n0\r\n\r\n`],
  ["bare line feeds", "GET /health/live HTTP/1.1\nHost: x\n\n"],
  ["a bare line feed between headers", "GET /health/live HTTP/1.1\r\nHost: x\nX-A: b\r\n\r\n"],
  ["a bare carriage return in a header", "GET /health/live HTTP/1.1\r\nHost: x\r\nX-A: b\rX-B: c\r\n\r\n"],
  ["a NUL in a header", "GET /health/live HTTP/1.1\r\nHost: x\r\nX-A: a\0b\r\n\r\n"],
  ["a space before the colon", `${POST}Content-Length : 2\r\n\r\n{}`],
  ["a space before the colon of Transfer-Encoding", `${POST}Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n`],
  ["a header without a name", "GET /health/live HTTP/1.1\r\nHost: x\r\n: a\r\n\r\n"],
  ["chunked that is not the last encoding", `${POST}Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n`],
  ["an encoding that only looks like chunked", `${POST}Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n`],
  ["chunked behind a control character", `${POST}Transfer-Encoding: \x0bchunked\r\n\r\n0\r\n\r\n`],
  ["two encodings that differ", `${POST}Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n0\r\n\r\n`],
  ["chunked twice", `${POST}Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n`],
  ["a chunk size beyond all numbers", chunked("FFFFFFFFFFFFFFFFF\r\n{}\r\n0\r\n\r\n")],
  ["a chunk size with a prefix", chunked("0x2\r\n{}\r\n0\r\n\r\n")],
  ["a negative chunk size", chunked("-1\r\n{}\r\n0\r\n\r\n")],
  ["a space behind a chunk size", chunked("2 \r\n{}\r\n0\r\n\r\n")],
  ["chunks with bare line feeds", chunked("2\n{}\n0\n\n")],
  ["a chunk longer than its size", chunked("2\r\n{}XX0\r\n\r\n")],
  ["a chunk extension that ends in a bare line feed", chunked("2;\n{}\r\n0\r\n\r\n")],
  ["a chunk extension of 20 kB", chunked(`2;${"a".repeat(20_000)}\r\n{}\r\n0\r\n\r\n`)],
  ["a length in the trailer", chunked("2\r\n{}\r\n0\r\nContent-Length: 50\r\n\r\n")],
  [
    "HTTP/1.0 with Transfer-Encoding",
    "POST /v1/chat/completions HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
  ],
  ["HTTP/0.9", "GET /health/live\r\n\r\n"],
  ["HTTP/0.9 with headers", "GET /health/live\r\nX: y HTTP/1.1\r\nHost: x\r\n\r\n"],
  ["HTTP/2.0 in the words of HTTP/1.1", "GET /health/live HTTP/2.0\r\nHost: x\r\n\r\n"],
  ["the preface of HTTP/2", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"],
  ["a version that there is not", "GET /health/live HTTP/1.2\r\nHost: x\r\n\r\n"],
  ["no Host", "GET /health/live HTTP/1.1\r\n\r\n"],
  ["two Hosts", "GET /health/live HTTP/1.1\r\nHost: x\r\nHost: y\r\n\r\n"],
  ["the same Host twice", "GET /health/live HTTP/1.1\r\nHost: x\r\nhost: x\r\n\r\n"],
  ["a Host that is none", "GET /health/live HTTP/1.1\r\nHost: x@y/z\r\n\r\n"],
  ["a target without a slash", "GET health/live HTTP/1.1\r\nHost: x\r\n\r\n"],
  ["a NUL in the target", "GET /health\0/live HTTP/1.1\r\nHost: x\r\n\r\n"],
  ["raw bytes in the target", "GET /h\xe9 HTTP/1.1\r\nHost: x\r\n\r\n"],
  ["a method in small letters", "get /health/live HTTP/1.1\r\nHost: x\r\n\r\n"],
  ["a method that there is not", "SMUGGLE /health/live HTTP/1.1\r\nHost: x\r\n\r\n"],
  ["a space before the method", " GET /health/live HTTP/1.1\r\nHost: x\r\n\r\n"],
  ["a tunnel", "CONNECT example.com:443 HTTP/1.1\r\nHost: x\r\n\r\n", 405],
  ["a request line of 20 kB", `GET /${"a".repeat(20_000)} HTTP/1.1\r\nHost: x\r\n\r\n`, 431],
  ["a target of 9 kB", `GET /${"a".repeat(9_000)} HTTP/1.1\r\nHost: x\r\n\r\n`, 414],
];
const CODES: Readonly<Record<number, string>> = {
  400: "invalid_request",
  405: "method_not_allowed",
  414: "url_too_long",
  431: "headers_too_large",
};

for (const [what, bytes, status = 400] of refused) {
  test(`one typed refusal, a closed connection and nothing executed behind it: ${what}`, async () => {
    const { answers, executed } = await exchange(bytes + MARKER);
    assert.deepEqual(
      answers.map((answer) => answer.status),
      [status],
    );
    const [answer] = answers;
    assert.equal(codeOf(answer!), CODES[status]);
    assert.match(answer!.headers["x-request-id"]!, /^req_/);
    assert.equal(answer!.headers["x-content-type-options"], "nosniff");
    assert.equal(answer!.headers["content-security-policy"], "default-src 'none'; frame-ancestors 'none'");
    assert.equal(answer!.headers["cache-control"], "no-store");
    assert.equal(executed, 0, "what stood behind it is no request");
  });
}

/** Odd, and with one meaning only. */
const read: readonly [string, string, status: number][] = [
  ["a chunked body", chunked("2\r\n{}\r\n0\r\n\r\n"), 400],
  ["chunked in capitals", `${POST}Transfer-Encoding: CHUNKED\r\n\r\n2\r\n{}\r\n0\r\n\r\n`, 400],
  ["a short chunk extension", chunked("2;a=b\r\n{}\r\n0\r\n\r\n"), 400],
  [
    "a GET with a body",
    `GET /health/live HTTP/1.1\r\nHost: x\r\nContent-Length: ${MARKER.length}\r\n\r\n${MARKER}`,
    200,
  ],
  [
    "a refused path with a body",
    `POST /nothing HTTP/1.1\r\nHost: x\r\nContent-Length: ${MARKER.length}\r\n\r\n${MARKER}`,
    404,
  ],
  [
    "a refused method with a body",
    `POST /health/live HTTP/1.1\r\nHost: x\r\nContent-Length: ${MARKER.length}\r\n\r\n${MARKER}`,
    405,
  ],
  [
    "a refused key with a body",
    `POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nX-Brikk-API-Key: brikk_wrong\r\nContent-Length: ${MARKER.length}\r\n\r\n${MARKER}`,
    401,
  ],
  [
    "a refused media type with a body",
    `POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Type: text/plain\r\nContent-Length: ${MARKER.length}\r\n\r\n${MARKER}`,
    415,
  ],
  ["a body that is no JSON but a request", `${POST}Content-Length: ${MARKER.length}\r\n\r\n${MARKER}`, 400],
  ["the same in chunks", chunked(`${MARKER.length.toString(16)}\r\n${MARKER}\r\n0\r\n\r\n`), 400],
  ["line ends before the request", "\r\n\r\nGET /health/live HTTP/1.1\r\nHost: x\r\n\r\n", 200],
  ["a target with a scheme and a host", "GET http://example.com/health/live HTTP/1.1\r\nHost: x\r\n\r\n", 200],
  [
    "the same for an unknown method of the path",
    "POST https://example.com/health/live HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n",
    405,
  ],
  ["another scheme", "GET ftp://example.com/health/live HTTP/1.1\r\nHost: x\r\n\r\n", 404],
  ["line ends encoded in the target", "GET /health/live%0d%0aX-Injected:%20y HTTP/1.1\r\nHost: x\r\n\r\n", 404],
  ["a target that cannot be decoded", "GET /health/%zz HTTP/1.1\r\nHost: x\r\n\r\n", 400],
  ["the target of no path", "OPTIONS * HTTP/1.1\r\nHost: x\r\n\r\n", 404],
  ["an unknown expectation", "GET /health/live HTTP/1.1\r\nHost: x\r\nExpect: miracles\r\n\r\n", 200],
];
for (const [what, bytes, status] of read) {
  test(`read in one way, and what follows is the next request: ${what}`, async () => {
    const { answers, executed } = await exchange(bytes + MARKER);
    assert.deepEqual(
      answers.map((answer) => answer.status),
      [status, 200],
    );
    assert.equal(executed, 1, "the marker that follows, and none that stood in a body");
    assert.equal(answers[0]!.headers["x-injected"], undefined);
    assert.equal(answers[0]!.headers["x-content-type-options"], "nosniff");
  });
}

test("what cannot be read behind a request that can is refused in its turn", async () => {
  const { answers } = await exchange("GET /health/live HTTP/1.1\r\nHost: x\r\n\r\nnonsense\r\n\r\n");
  assert.deepEqual(
    answers.map((answer) => answer.status),
    [200, 400],
  );
});

test("a refusal of what cannot be read does not get in before the answer to an earlier request", async () => {
  const slow = await startGateway({ simulator: { firstTokenMs: 300 } });
  try {
    const body = JSON.stringify({ model: "gpt-4o-mini", messages: [{ role: "user", content: "Hello" }] });
    const caller = await callRaw(slow.url);
    caller.send(`${POST}Content-Length: ${body.length}\r\n\r\n${body}nonsense\r\n\r\n`);
    const answers = await caller.closed;
    assert.deepEqual(
      answers.map((answer) => answer.status),
      [200, 400],
    );
    assert.match(answers[0]!.body, /"chat\.completion"/);
  } finally {
    await slow.close();
  }
});

test("a body that breaks off in an odd way while its answer streams is not answered a second time", async () => {
  const caller = await callRaw(brikk.url);
  // The refusal comes before the body, which is then not what was announced.
  caller.send(`POST /nothing HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n`);
  while (caller.answers().length === 0) await new Promise((resolve) => caller.socket.once("data", resolve));
  caller.send(`nonsense\r\n\r\n${MARKER}`);
  const answers = await caller.closed;
  assert.deepEqual(
    answers.map((answer) => answer.status),
    [404],
  );
});

test("the offer to change the protocol is passed over, and the connection closed behind the answer", async () => {
  const { answers, executed } = await exchange(
    `GET /health/live HTTP/1.1\r\nHost: x\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n\r\n${MARKER}`,
  );
  assert.deepEqual(
    answers.map(({ status, headers }) => [status, headers["connection"]]),
    [[200, "close"]],
  );
  assert.equal(executed, 0);
});
