import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { once } from "node:events";
import { connect } from "node:net";
import { after, test } from "node:test";
import { newSecret } from "../../src/access/secret.ts";
import { ZERO_USD } from "../../src/lib/money.ts";
import { type ApiRoute, exampleBody, listApiRoutes, pathOf } from "../harness/api-routes.ts";
import { type GatewayUnderTest, startGateway } from "../harness/gateway-under-test.ts";
import { startPostgres } from "../harness/postgres-server.ts";
import { onEachDatabase } from "../storage/scratch.ts";

/**
 * Attacks on what callers can reach, each with what becomes of it. The gateway is in this very process, so that what an
 * attack does to the language's own objects would be seen here.
 */
const ADMIN_TOKEN = "the-admin-token-of-this-test";
const ENVIRONMENT = {
  BRIKK_REQUIRE_AUTH: "true",
  BRIKK_ADMIN_TOKEN: ADMIN_TOKEN,
  PROVIDER_MAX_RETRIES: "0",
  // So that one attack can come from many addresses.
  TRUST_PROXY: "1",
};
const log: string[] = [];
const routes = (await listApiRoutes(ENVIRONMENT)).filter(({ method }) => method !== "HEAD" && method !== "OPTIONS");
const brikk = await startGateway({ environment: ENVIRONMENT, log: { write: (line) => void log.push(line) } });
after(() => brikk.close());
const { secret } = await brikk.createKey();

/** What the members of an answer are that matter here. */
interface Answer {
  readonly status: number;
  readonly headers: Headers;
  readonly text: string;
  readonly code: string | undefined;
}

async function ask(
  path: string,
  options: { method?: string; headers?: Record<string, string>; body?: string; of?: GatewayUnderTest } = {},
): Promise<Answer> {
  const { method = options.body === undefined ? "GET" : "POST", headers = {}, body, of = brikk } = options;
  const answer = await fetch(`${of.url}${path}`, {
    method,
    redirect: "manual",
    headers: {
      authorization: `Bearer ${path.startsWith("/admin") ? ADMIN_TOKEN : secret}`,
      ...(body !== undefined && { "content-type": "application/json" }),
      ...headers,
    },
    ...(body !== undefined && { body }),
  });
  const text = await answer.text();
  const code = /"code":\s*"([a-z_]+)"/.exec(text)?.[1];
  return { status: answer.status, headers: answer.headers, text, code };
}

/** Sends bytes as they are and reads until the server hangs up. */
async function raw(bytes: string | Buffer): Promise<string> {
  const { hostname, port } = new URL(brikk.url);
  const socket = connect(Number(port), hostname);
  let text = "";
  socket.setEncoding("latin1").on("data", (chunk: string) => (text += chunk));
  socket.on("error", () => {});
  socket.write(bytes);
  await once(socket, "close");
  return text;
}

const json = JSON.stringify;
const chatWith = (more: string): string =>
  `{"model":"gpt-4o-mini","messages":[{"role":"user","content":"Hello"}]${more === "" ? "" : `,${more}`}}`;
const withBodies = routes.filter(({ body }) => body !== undefined);
const nameOf = ({ method, template }: ApiRoute): string => `${method} ${template}`;

test("the routes that are attacked are the app's own", () => {
  assert.ok(routes.length >= 20 && withBodies.length >= 6, `${routes.length} routes`);
});

// --- Bodies ---------------------------------------------------------------------------------------------------------------

const wide = (members: number): string => Array.from({ length: members }, (_, n) => `"k${n}":${n}`).join(",");

/** Each is small enough to be read, and made to cost more than it should. */
const BOMBS: readonly (readonly [name: string, body: string, statuses: readonly number[]])[] = [
  ["arrays, 100,000 deep", chatWith(`"metadata":${"[".repeat(100_000)}${"]".repeat(100_000)}`), [400]],
  ["objects, 100,000 deep", `${'{"a":'.repeat(100_000)}1${"}".repeat(100_000)}`, [400]],
  ["brackets that never close", "[".repeat(1_000_000), [400]],
  ["300,000 members", chatWith(`"metadata":{${wide(300_000)}}`), [200, 400]],
  ["300,000 members at the top", `{${wide(300_000)}}`, [400]],
  ["a million nulls", chatWith(`"tools":[${"null,".repeat(999_999)}null]`), [400]],
  [
    "10,000 messages more than are taken",
    `{"model":"gpt-4o-mini","messages":[${'{"role":"user"},'.repeat(20_000)}{"role":"user"}]}`,
    [400],
  ],
  ["a name of a megabyte", chatWith(`"${"n".repeat(1_000_000)}":1`), [200, 400]],
  ["a text of four megabytes of escapes", chatWith(`"user":"${String.raw`\u0061`.repeat(700_000)}"`), [200, 400, 402]],
  ["a text of a megabyte as the model", `{"model":"${"m".repeat(1_000_000)}","messages":[]}`, [400]],
  ["a member that stands 100,000 times", `{"model":"gpt-4o-mini"${',"model":"gpt-4o-mini"'.repeat(100_000)}}`, [400]],
  ["a number of 100,000 digits", chatWith(`"max_tokens":${"9".repeat(100_000)}`), [400]],
  ["a number beyond all numbers", chatWith(`"n":1e400`), [400]],
  ["a number with an exponent of 100,000 digits", chatWith(`"n":1e${"9".repeat(100_000)}`), [400]],
  ["a fraction of 100,000 digits", chatWith(`"temperature":0.${"1".repeat(100_000)}`), [200, 400]],
];

for (const [name, body, statuses] of BOMBS) {
  test(`a JSON bomb of ${name} is answered with ${statuses.join(" or ")} soon, and others are served meanwhile`, async () => {
    const startedMs = performance.now();
    const [bomb, other] = await Promise.all([ask("/v1/chat/completions", { body }), ask("/v1/models")]);
    assert.ok(statuses.includes(bomb.status), `${bomb.status} ${bomb.text.slice(0, 300)}`);
    assert.equal(other.status, 200);
    // Generous, for a machine that is busy with other things; what these were made for takes minutes.
    assert.ok(performance.now() - startedMs < 15_000);
    assert.ok(bomb.text.length < 10_000, "nothing of it comes back");
  });
}

const POLLUTIONS: readonly string[] = [
  '"__proto__":{"polluted":true}',
  String.raw`"\u005f\u005fproto__":{"polluted":true}`,
  '"constructor":{"prototype":{"polluted":true}}',
  '"metadata":{"__proto__":{"polluted":true}}',
  '"metadata":{"a":[{"constructor":{"prototype":{"polluted":true}}}]}',
  '"meta":{"__proto__":{"polluted":true}}',
];

const isPolluted = (): boolean =>
  "polluted" in {} ||
  "polluted" in [] ||
  "polluted" in (() => undefined) ||
  "polluted" in Object.create(Object.prototype);

test("no body pollutes a prototype: it is refused as a whole, on every route that takes one", async () => {
  for (const route of withBodies)
    for (const pollution of POLLUTIONS) {
      const example = json(exampleBody(route) ?? {});
      const body = example === "{}" ? `{${pollution}}` : `${example.slice(0, -1)},${pollution}}`;
      const { status, code } = await ask(pathOf(route, "openai"), { method: route.method, body });
      const name = `${nameOf(route)} ${pollution}`;
      assert.ok(status >= 400 && status < 500, `${name}: ${status}`);
      assert.notEqual(code, undefined);
      assert.ok(!isPolluted(), name);
    }
});

test("no query and no header pollutes a prototype", async () => {
  for (const route of routes)
    for (const query of [
      "__proto__[polluted]=1",
      "__proto__.polluted=1",
      "constructor[prototype][polluted]=1",
      "__proto__=polluted",
    ]) {
      const { status } = await ask(`${pathOf(route, "openai")}?${query}`, {
        method: route.method,
        ...(route.method !== "GET" && { body: "{}" }),
        headers: { __proto__x: "1", constructor: "polluted" },
      });
      assert.ok(status < 500, `${nameOf(route)}?${query}: ${status}`);
      assert.ok(!isPolluted(), `${nameOf(route)}?${query}`);
    }
});

test("no number in a body makes a request's worst case smaller than it is: what costs something is refused by a cap of 0", async () => {
  const { secret: poor } = await brikk.createKey({ softCap: ZERO_USD, hardCap: ZERO_USD });
  const headers = { authorization: `Bearer ${poor}` };
  for (const number of [
    "-1000000",
    "-0",
    "0",
    "1e-7",
    "0.5",
    "-1e308",
    "1e21",
    "9007199254740993",
    "null",
    '"1"',
    "true",
    "[]",
  ])
    for (const member of ["n", "max_tokens", "max_completion_tokens", "best_of", "dimensions"])
      for (const [path, body] of [
        [
          "/v1/chat/completions",
          chatWith(`"prediction":{"type":"content","content":"${"x".repeat(500)}"},"${member}":${number}`),
        ],
        [
          "/v1/embeddings",
          `{"model":"text-embedding-3-small","input":"Hello","prediction":"${"x".repeat(500)}","${member}":${number}}`,
        ],
      ] as const) {
        const { status, code } = await ask(path, { headers, body });
        assert.ok(
          (status === 402 && code === "hard_cap_exceeded") || (status === 400 && code === "invalid_request"),
          `${path} with ${member} ${number}: ${status} ${code}`,
        );
      }
});

// --- Lines: headers and logs ------------------------------------------------------------------------------------------------

const INJECTIONS = [
  "gpt\r\nX-Injected: yes",
  "gpt\nX-Injected: yes",
  "gpt\rX-Injected: yes",
  "gpt\0X-Injected: yes",
  "gpt\u2028X-Injected: yes",
  "gpt-4o-mini\r\n\r\n<html>",
  "модель-ñ-模型",
  "gpt\u00ff\u0100\ud83d\ude00",
];

/** Every header of the answer stands on one line of its own, in characters that a header may have. */
function assertCleanHead(answer: string, name: string): void {
  assert.match(answer, /^HTTP\/1\.1 \d{3} /, name);
  const [status, ...lines] = answer.slice(0, answer.indexOf("\r\n\r\n")).split("\r\n");
  assert.match(status!, /^HTTP\/1\.1 \d{3} [A-Za-z' -]*$/);
  for (const line of lines) {
    assert.match(line, /^[A-Za-z0-9-]+: [\x20-\x7e]*$/, name);
    assert.doesNotMatch(line, /^x-injected/i, name);
  }
}

const rawRequest = (method: string, path: string, headers: readonly string[], body = ""): Buffer =>
  Buffer.concat([
    Buffer.from(
      [
        `${method} ${path} HTTP/1.1`,
        "Host: x",
        "Connection: close",
        `Authorization: Bearer ${path.startsWith("/admin") ? ADMIN_TOKEN : secret}`,
        ...(method === "GET" ? [] : ["Content-Type: application/json", `Content-Length: ${Buffer.byteLength(body)}`]),
        ...headers,
        "",
        "",
      ].join("\r\n"),
      "latin1",
    ),
    Buffer.from(body),
  ]);

test("no member of a body becomes a header: every header of every answer is one line of its own", async () => {
  for (const route of withBodies) {
    const example = exampleBody(route) as Record<string, unknown> | undefined;
    for (const member of Object.keys(route.body?.properties ?? {}))
      for (const injection of INJECTIONS) {
        const body = json({ ...example, [member]: injection });
        const answer = await raw(rawRequest(route.method, pathOf(route, "openai"), [], body));
        assertCleanHead(answer, `${nameOf(route)}, ${member}: ${json(injection)}`);
      }
  }
});

test("no request id, trace, idempotency key or wish becomes another header, and one that could harm is not kept", async () => {
  for (const name of [
    "X-Request-Id",
    "traceparent",
    "tracestate",
    "Idempotency-Key",
    "X-Brikk-Rescue",
    "Origin",
    "Accept",
  ])
    for (const value of [
      "a\u00e9b",
      "a\tb",
      "a\u001b[31mb",
      "a b",
      '"><script>',
      "x".repeat(5_000),
      "a%0d%0aX-Injected: yes",
    ]) {
      const answer = await raw(rawRequest("GET", "/v1/models", [`${name}: ${value}`]));
      assertCleanHead(answer, `${name}: ${json(value)}`);
      if (name === "X-Request-Id" && answer.startsWith("HTTP/1.1 200"))
        assert.match(answer, /\r\nx-request-id: req_[0-9A-Za-z]{24}\r\n/i);
    }
  for (const broken of ["a\0b", "a\rb", "a\nb", "a\r\n b", "a\r\n\tX-Injected: yes"]) {
    const answer = await raw(rawRequest("GET", "/v1/models", [`X-Request-Id: ${broken}`]));
    assertCleanHead(answer, json(broken));
    assert.match(answer, /^HTTP\/1\.1 400 /, "what is not one line is not HTTP");
  }
});

test("nothing that a caller sends begins a log line of its own, or colours a terminal: every line is one JSON object", async () => {
  const forged = '{"level":"fatal","msg":"forged"}';
  log.length = 0;
  for (const text of [
    `gpt\n${forged}`,
    `gpt\r\n${forged}`,
    `gpt\u2028${forged}`,
    "gpt\u001b[2J\u001b[31m",
    `gpt","msg":"forged`,
    "gpt\u0085x",
    "gpt\u009b31mx",
    "gpt\u202egnp",
  ]) {
    await ask("/v1/chat/completions", { body: json({ model: text, messages: [{ role: "user", content: text }] }) });
    await ask(`/v1/${encodeURIComponent(text)}`, {});
    await ask(`/usage/me/requests?model=${encodeURIComponent(text)}&cursor=${encodeURIComponent(text)}`, {});
    for (const route of withBodies)
      await ask(pathOf(route, encodeURIComponent(text)), {
        method: route.method,
        body: json({ ...(exampleBody(route) as object), model: text, policy: text, language: text, name: text }),
      });
  }
  assert.ok(log.length > 20, `${log.length} lines`);
  for (const line of log) {
    assert.equal(line.indexOf("\n"), line.length - 1, "one line");
    assert.doesNotMatch(line.slice(0, -1), /[\p{Cc}\u2028\u2029\u202a-\u202e]/u, "no control character");
    const { level, msg } = JSON.parse(line) as { level: string; msg: string };
    assert.notEqual(level, "fatal");
    assert.notEqual(msg, "forged");
  }
});

// --- One key and another's ---------------------------------------------------------------------------------------------------

interface Page {
  readonly requests: readonly { readonly event_id: string; readonly request_id: string }[];
  readonly next_cursor: string | null;
}

test("no cursor, filter or id shows a key what another has used", async () => {
  const [one, other] = [await brikk.createKey(), await brikk.createKey()];
  const as = (key: { secret: string }): Record<string, string> => ({ authorization: `Bearer ${key.secret}` });
  const pageOf = async (key: { secret: string }, query: string): Promise<Page> => {
    const { status, text } = await ask(`/usage/me/requests${query}`, { headers: as(key) });
    assert.equal(status, 200, text);
    return JSON.parse(text) as Page;
  };
  for (let turn = 0; turn < 6; turn += 1)
    for (const key of [one, other])
      await ask("/v1/chat/completions", {
        body: chatWith(""),
        // The very same ids, so that an id alone says nothing about whose request it is.
        headers: { ...as(key), "x-request-id": `guess-${turn}` },
      });
  const all = await brikk.events();
  const eventsOf = (id: string): Set<unknown> =>
    new Set(all.filter((row) => row["key_id"] === id).map((row) => row["event_id"]));
  const [ones, others] = [eventsOf(one.id), eventsOf(other.id)];
  assert.equal(ones.size, 6);

  const cursors: string[] = [];
  for (let cursor: string | null = ""; cursor !== null;) {
    const page: Page = await pageOf(one, `?limit=2${cursor === "" ? "" : `&cursor=${cursor}`}`);
    if (page.next_cursor !== null) cursors.push(page.next_cursor);
    cursor = page.next_cursor;
  }
  assert.ok(cursors.length >= 2);
  const forged = [...ones].flatMap((eventId) =>
    [Date.now() + 1_000, 999_999_999_999_999].map((ms) =>
      Buffer.from(`${ms}.${String(eventId)}`).toString("base64url"),
    ),
  );
  for (const cursor of [...cursors, ...forged]) {
    const { requests } = await pageOf(other, `?cursor=${cursor}`);
    for (const { event_id: eventId } of requests) assert.ok(others.has(eventId) && !ones.has(eventId));
  }
  for (const cursor of [
    Buffer.from(`0.${"0".repeat(8)}' or key_id = '${one.id}`).toString("base64url"),
    Buffer.from(`1.${String([...ones][0])}.${one.id}`).toString("base64url"),
    `${cursors[0]}=`,
    `${cursors[0]}A`,
    cursors[0]!.slice(1),
    "%00",
    one.id,
  ]) {
    const { status, code } = await ask(`/usage/me/requests?cursor=${encodeURIComponent(cursor)}`, {
      headers: as(other),
    });
    assert.deepEqual([status, code], [400, "invalid_request"], cursor);
  }
  for (const query of [`key_id=${one.id}`, `api_key_id=${one.id}`, `scope=all`, `event_id=${String([...ones][0])}`])
    for (const path of ["/usage/me", "/usage/me/requests", "/usage/me/timeseries", "/keys/me"]) {
      const { status, text } = await ask(`${path}?${query}`, { headers: as(other) });
      assert.ok(status === 200 || status === 400, text);
      for (const eventId of ones) assert.ok(!text.includes(String(eventId)));
      if (status === 200) assert.ok(!text.includes(one.id), path);
    }
  const { requests } = await pageOf(other, "");
  assert.deepEqual(
    new Set(requests.map(({ event_id: eventId }) => eventId)),
    others,
    "all of its own, none of another's",
  );
});

// --- Secrets -----------------------------------------------------------------------------------------------------------------

test("a secret that is forged, cut off, mistyped anywhere, swapped with another's or derived is refused with 401, whatever the route", async (t) => {
  // Wrong keys are limited by address, and here each comes from another one.
  const house = await startGateway({ environment: { ...ENVIRONMENT, TRUST_PROXY: "1" } });
  t.after(() => house.close());
  const { id, secret: known } = await house.createKey();
  const other = (await house.createKey()).secret;
  let tries = 0;
  const tryKey = (headers: Record<string, string>, path = "/v1/models", more: object = {}): Promise<Answer> => {
    tries += 1;
    const from = `198.${tries >> 8}.${tries & 255}.7`;
    return ask(path, { of: house, headers: { "x-forwarded-for": from, ...headers }, ...more });
  };
  const flipped = (text: string, at: number): string =>
    `${text.slice(0, at)}${text[at] === "x" ? "y" : "x"}${text.slice(at + 1)}`;
  const forged: readonly string[] = [
    newSecret(),
    ...Array.from({ length: 46 }, (_, index) => flipped(known, 6 + index)),
    ...Array.from({ length: 46 }, (_, index) => known.slice(0, 6 + index)),
    `${known}0`,
    known.slice(0, 26) + other.slice(26),
    known.slice(0, -6) + other.slice(-6),
    other.slice(0, 12) + known.slice(12),
    known.toUpperCase(),
    known.toLowerCase(),
    [...known].toReversed().join(""),
    `brikk_${"0".repeat(46)}`,
    createHash("sha256").update(known).digest("hex"),
    `brikk_${createHash("sha256").update(known).digest("hex").slice(0, 46)}`,
    id,
    `"${known}"`,
    `${known},${other}`,
    `${known} ${other}`,
    encodeURIComponent(`${known} `),
  ];
  for (const text of forged)
    for (const headers of [{ authorization: `Bearer ${text}` }, { authorization: "", "x-brikk-api-key": text }]) {
      const { status, code, text: said } = await tryKey(headers);
      assert.equal(status, 401, `${text}: ${said.slice(0, 200)}`);
      assert.ok(code === "invalid_api_key" || code === "missing_api_key", String(code));
      assert.ok(!said.includes(text.slice(12, 30)) || text.length < 30 || text === id, "nothing of it is repeated");
    }
  // Whichever of two headers is meant, a wrong one of ours is never passed over for a right one.
  for (const headers of [
    { "x-brikk-api-key": flipped(known, 20) },
    { "x-brikk-api-key": newSecret() },
    { "x-brikk-api-key": `${known}, ${other}` },
  ])
    assert.equal((await tryKey(headers)).status, 401);
  for (const route of routes.filter(({ open, admin }) => !open && !admin)) {
    const headers = { authorization: `Bearer ${known.slice(0, -6) + other.slice(-6)}` };
    const { status } = await tryKey(headers, pathOf(route, "openai"), {
      method: route.method,
      ...(route.method !== "GET" && { body: json(exampleBody(route) ?? {}) }),
    });
    assert.equal(status, 401, nameOf(route));
  }
});

onEachDatabase(
  "while storage is down during authentication the answer is 503, never 401 and never entry, whatever the route and the key",
  async (t, dialect) => {
    const server = dialect === "postgres" ? await startPostgres(t) : undefined;
    const house = await startGateway({
      environment: { ...ENVIRONMENT, ...(server && { DATABASE_URL: server.url }) },
    });
    try {
      const known = await house.createKey();
      const get = (key: string, path = "/v1/models"): Promise<Answer> =>
        ask(path, { of: house, headers: { authorization: `Bearer ${key}` } });
      assert.equal((await get(known.secret)).status, 200);
      const before = (await house.events()).length;
      await (server ? server.stop("kill") : house.gateway.database.close());
      for (const route of routes.filter(({ open, admin }) => !open && !admin)) {
        const answer = await ask(pathOf(route, "openai"), {
          of: house,
          method: route.method,
          headers: { authorization: `Bearer ${newSecret()}` },
          ...(route.method !== "GET" && { body: json(exampleBody(route) ?? {}) }),
        });
        assert.deepEqual([answer.status, answer.code], [503, "storage_unavailable"], nameOf(route));
        assert.ok(Number(answer.headers.get("retry-after")) >= 1);
        assert.equal(answer.headers.get("x-should-retry"), null);
      }
      // A hundred at once, and the same one again: what cannot be told is not remembered as wrong.
      const stranger = newSecret();
      const answers = await Promise.all(
        Array.from({ length: 100 }, (_, n) => get(n % 2 === 0 ? stranger : newSecret())),
      );
      assert.deepEqual([...new Set(answers.map(({ status }) => status))], [503]);
      assert.equal((await get(known.secret)).status, 200, "who is known goes on");
      assert.equal(
        (await get(known.secret.slice(0, -1))).status,
        401,
        "what can be no key needs no storage to be told so",
      );
      if (server) {
        await server.start();
        for (let tries = 0; (await get(stranger)).status === 503; tries += 1) {
          assert.ok(tries < 200, "it never came back");
          await new Promise((resolve) => setTimeout(resolve, 50));
        }
        const back = await get(stranger);
        assert.deepEqual([back.status, back.code], [401, "invalid_api_key"], "and is told the truth when it is back");
        assert.equal((await house.events()).length, before, "nobody was let in");
      }
    } finally {
      await house.close();
    }
  },
);
