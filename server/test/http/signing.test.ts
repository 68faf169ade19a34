import assert from "node:assert/strict";
import { once } from "node:events";
import { type ClientRequest, type IncomingMessage, request as httpRequest } from "node:http";
import { json } from "node:stream/consumers";
import { after, test } from "node:test";
import OpenAI from "openai";
import { signedFetch } from "../../../sdks/typescript/brikk-signing.ts";
import { newFernetKey } from "../../src/lib/fernet.ts";
import { type GatewayUnderTest, startGateway } from "../harness/gateway-under-test.ts";
import { skipWithoutRedis, startRedis } from "../harness/redis-server.ts";
import { digestOf, sign, type TestRequest, type TestSignature } from "../access/signed-request.ts";
import { eventually } from "../ledger/ledger-fixture.ts";
import { createTestClock } from "../lib/test-clock.ts";
import { onPostgres, scratchFolder, scratchPostgresUrl } from "../storage/scratch.ts";

const clock = createTestClock();
const nowS = (): number => Math.floor(clock.now() / 1_000);
const brikk = await startGateway({ clock });
after(() => brikk.close());

interface SignedKey {
  readonly id: string;
  readonly secret: string;
  readonly signingSecret: string;
}

async function signedKey(gateway: GatewayUnderTest = brikk): Promise<SignedKey> {
  const { key, secret, signingSecret } = await gateway.gateway.keyStore.create({
    name: "signs",
    signingRequired: true,
  });
  assert.ok(signingSecret !== undefined);
  return { id: key.id, secret, signingSecret };
}

const CHAT = JSON.stringify({ model: "gpt-4o-mini", messages: [{ role: "user", content: "Hello there" }] });

/** A chat as the key's holder would sign it. */
function signedChat(key: SignedKey, more: Partial<TestSignature> & { body?: string; url?: string } = {}): TestRequest {
  const { body = CHAT, url = "/v1/chat/completions", ...signature } = more;
  const request: TestRequest = {
    method: "POST",
    url,
    headers: [
      ["Content-Type", "application/json"],
      ["Content-Digest", digestOf(body)],
      ["Authorization", `Bearer ${key.secret}`],
    ],
  };
  return withSignature(request, key, signature);
}

function signedGet(key: SignedKey, url: string, signature: Partial<TestSignature> = {}): TestRequest {
  return withSignature({ method: "GET", url, headers: [["Authorization", `Bearer ${key.secret}`]] }, key, signature);
}

const withSignature = (request: TestRequest, key: SignedKey, signature: Partial<TestSignature>): TestRequest => ({
  ...request,
  headers: [
    ...request.headers,
    ...sign(request, { keyId: key.id, signingSecret: key.signingSecret, createdS: nowS(), ...signature }),
  ],
});

interface Answer {
  readonly status: number;
  readonly headers: IncomingMessage["headers"];
  readonly error?: { code: string; message: string; details: Record<string, unknown> };
}

/** To the byte as it is given, headers in their order and twice where they stand twice. */
async function send(
  request: TestRequest,
  options: { readonly body?: string; readonly chunks?: readonly string[]; readonly to?: GatewayUnderTest } = {},
): Promise<Answer> {
  const { hostname, port } = new URL((options.to ?? brikk).url);
  const { body, chunks = body === undefined ? [] : [body] } = options;
  const framing =
    options.chunks !== undefined
      ? ["Transfer-Encoding", "chunked"]
      : body === undefined
        ? []
        : ["Content-Length", String(Buffer.byteLength(body))];
  const outgoing: ClientRequest = httpRequest({
    hostname,
    port,
    method: request.method,
    path: request.url,
    agent: false,
    headers: ["Host", `${hostname}:${port}`, ...framing, ...request.headers.flat()],
  });
  for (const chunk of chunks) outgoing.write(chunk);
  outgoing.end();
  const [response] = (await once(outgoing, "response")) as [IncomingMessage];
  const { error } = (await json(response)) as Pick<Answer, "error">;
  return { status: response.statusCode!, headers: response.headers, ...(error && { error }) };
}

async function assertRefused(reason: string, answering: Promise<Answer>): Promise<Answer> {
  const answer = await answering;
  assert.equal(answer.status, 401, JSON.stringify(answer));
  assert.equal(answer.error?.code, "signature_invalid");
  assert.equal(answer.error.details["reason"], reason);
  assert.equal(answer.headers["x-should-retry"], "false");
  return answer;
}

/** What could have been asked of providers, or set aside, since the last look. */
const asked = (): number => brikk.simulator.served.list().length;

test("the OpenAI SDK with the helper as its fetch: plain, streamed, with a query, and its retries are signed anew", async () => {
  const key = await signedKey();
  const answers: number[] = [];
  const client = new OpenAI({
    baseURL: `${brikk.url}/v1`,
    apiKey: key.secret,
    maxRetries: 1,
    fetch: signedFetch({
      keyId: key.id,
      signingSecret: key.signingSecret,
      now: () => clock.now(),
      fetch: async (input, init) => {
        const answer = await fetch(input, init);
        answers.push(answer.status);
        // As if the answer was lost on its way.
        if (answers.length === 1) throw new TypeError("fetch failed");
        return answer;
      },
    }),
  });
  const messages = [{ role: "user" as const, content: "Hello ☀" }];
  const plain = await client.chat.completions.create({ model: "gpt-4o-mini", messages });
  assert.equal(plain.choices[0]!.finish_reason, "stop");
  assert.deepEqual(answers, [200, 200]);
  let text = "";
  for await (const chunk of await client.chat.completions.create({ model: "gpt-4o-mini", messages, stream: true }))
    text += chunk.choices[0]?.delta.content ?? "";
  assert.equal(text, plain.choices[0]!.message.content);
  assert.ok((await client.models.list({ query: { limit: 5, after: "a b/ü?" } })).data.length > 0);
  const unsigned = new OpenAI({ baseURL: `${brikk.url}/v1`, apiKey: key.secret, maxRetries: 0 });
  await assert.rejects(unsigned.models.list(), (error: Error) => {
    assert.ok(error instanceof OpenAI.AuthenticationError);
    assert.equal(error.code, "signature_invalid");
    return true;
  });
});

test("a request that was signed and sent by hand is taken, in one piece or in chunks, by either digest", async () => {
  const key = await signedKey();
  assert.equal((await send(signedChat(key), { body: CHAT })).status, 200);
  assert.equal((await send(signedChat(key), { chunks: [CHAT.slice(0, 9), CHAT.slice(9)] })).status, 200);
  const longer = withSignature(
    {
      method: "POST",
      url: "/v1/chat/completions?",
      headers: [
        ["X-Brikk-API-Key", key.secret],
        ["content-digest", digestOf(CHAT, "sha-512")],
        ["content-type", "application/json"],
      ],
    },
    key,
    {},
  );
  assert.equal((await send(longer, { body: CHAT })).status, 200);
  assert.equal((await send(signedGet(key, "/usage/me/requests?limit=2"))).status, 200);
});

test("another body than was signed is refused on every way in, and nobody is asked and nothing set aside for it", async () => {
  const key = await signedKey();
  const before = asked();
  const rows = (await brikk.events()).length;
  const bodies: Record<string, string> = {
    "/v1/chat/completions": CHAT,
    "/v1/embeddings": JSON.stringify({ model: "text-embedding-3-small", input: "Hello" }),
    "/v1/explain": CHAT,
    "/agents/openai/chat": JSON.stringify({ message: "Hello" }),
    "/agents/route/chat": JSON.stringify({ message: "Hello" }),
    "/keys/rotate": JSON.stringify({}),
  };
  for (const [url, body] of Object.entries(bodies)) {
    for (const other of [body.replace("{", "{ "), `${body} `, "{}  ", "not JSON"])
      await assertRefused("digest_mismatch", send(signedChat(key, { url, body }), { body: other }));
    await assertRefused("digest_mismatch", send(signedChat(key, { url, body }), { chunks: ["{", "}", " "] }));
  }
  assert.equal(asked(), before);
  assert.equal((await brikk.events()).length, rows);
  const { key: state } = (await brikk.gateway.keyStore.find(key.id))!;
  for (const { spent, reserved } of brikk.gateway.ledger.standing(state).budgets)
    assert.deepEqual([spent, reserved], [0n, 0n]);
});

test("a body that was taken away or never signed is refused, also where none is read", async () => {
  const key = await signedKey();
  await assertRefused("digest_mismatch", send(signedChat(key)));
  await assertRefused("digest_mismatch", send(signedChat(key), { body: "" }));
  await assertRefused("component_missing", send(signedGet(key, "/usage/me"), { body: "{}" }));
  const get = withSignature(
    {
      method: "GET",
      url: "/usage/me",
      headers: [
        ["Authorization", `Bearer ${key.secret}`],
        ["Content-Digest", digestOf("{}")],
      ],
    },
    key,
    {},
  );
  await assertRefused("digest_mismatch", send(get, { body: "{}" }));
});

test("a changed path, query or method is refused, as are another key's signature and none at all", async () => {
  const [key, other] = [await signedKey(), await signedKey()];
  await assertRefused("mismatch", send({ ...signedGet(key, "/usage/me"), url: "/keys/me" }));
  await assertRefused(
    "mismatch",
    send({ ...signedGet(key, "/usage/me/requests?limit=1"), url: "/usage/me/requests?limit=2" }),
  );
  await assertRefused("component_missing", send({ ...signedGet(key, "/usage/me"), url: "/usage/me?x" }));
  await assertRefused(
    "mismatch",
    send({ ...signedChat(key, { url: "/v1/explain" }), url: "/v1/chat/completions" }, { body: CHAT }),
  );
  await assertRefused("mismatch", send({ ...signedChat(key, { url: "/v1/models" }), method: "GET" }, { body: CHAT }));
  await assertRefused("wrong_key", send(signedChat({ ...other, secret: key.secret }), { body: CHAT }));
  await assertRefused("mismatch", send(signedChat({ ...key, signingSecret: other.signingSecret }), { body: CHAT }));
  const chat = signedChat(key);
  await assertRefused(
    "missing",
    send({ ...chat, headers: chat.headers.filter(([name]) => !name.startsWith("Signature")) }, { body: CHAT }),
  );
  await assertRefused(
    "malformed",
    send({ ...chat, headers: [...chat.headers, ...chat.headers.slice(-2)] }, { body: CHAT }),
  );
  assert.equal((await send({ ...chat, headers: chat.headers.toReversed() }, { body: CHAT })).status, 200);
});

test("a request sent again is refused, and of 300 at once exactly one enters", async () => {
  const key = await signedKey();
  const first = signedChat(key);
  assert.equal((await send(first, { body: CHAT })).status, 200);
  await assertRefused("nonce_used", send(first, { body: CHAT }));
  const before = asked();
  const crowd = signedChat(key);
  const answers = await Promise.all(Array.from({ length: 300 }, () => send(crowd, { body: CHAT })));
  const statuses = Map.groupBy(answers, ({ status }) => status);
  assert.equal(statuses.get(200)?.length, 1);
  assert.equal(statuses.get(401)?.length, 299);
  assert.equal(asked(), before + 1);
});

test("a replay counts against no limit of the key, so nobody uses it up for its holder", async () => {
  const { key, secret, signingSecret } = await brikk.gateway.keyStore.create({
    name: "limited",
    signingRequired: true,
    rateLimitPerMin: 2,
  });
  const signer = { id: key.id, secret, signingSecret: signingSecret! };
  const first = signedGet(signer, "/usage/me");
  assert.equal((await send(first)).status, 200);
  for (let time = 0; time < 5; time++) await assertRefused("nonce_used", send(first));
  assert.equal((await send(signedGet(signer, "/usage/me"))).status, 200);
  assert.equal((await send(signedGet(signer, "/usage/me"))).status, 429);
});

test("a clock that is off is told the server's time", async () => {
  const key = await signedKey();
  clock.advance(1_000_000);
  for (const [reason, createdS] of [
    ["too_old", nowS() - 301],
    ["in_future", nowS() + 31],
  ] as const) {
    const { error } = await assertRefused(reason, send(signedChat(key, { createdS }), { body: CHAT }));
    assert.ok(error!.message.includes(new Date(clock.now()).toISOString()));
    assert.equal(error!.details["server_time"], nowS());
  }
  for (const createdS of [nowS() - 299, nowS() + 30])
    assert.equal((await send(signedChat(key, { createdS }), { body: CHAT })).status, 200);
});

test("a renewed signing secret is the only one that counts, at once", async () => {
  const key = await signedKey();
  assert.equal((await send(signedGet(key, "/keys/me"))).status, 200);
  const renewed = await brikk.gateway.keyStore.renewSigningSecret(key.id);
  assert.ok(renewed !== undefined && renewed !== key.signingSecret);
  await assertRefused("mismatch", send(signedGet(key, "/keys/me")));
  assert.equal((await send(signedGet({ ...key, signingSecret: renewed }, "/keys/me"))).status, 200);
});

test("a signing secret under another encryption key means 503 and a line for the operator", async (t) => {
  const lines: string[] = [];
  const folder = scratchFolder(t);
  const environment = { DATABASE_URL: `sqlite:${folder}/brikk.db`, BRIKK_ENCRYPTION_KEY: newFernetKey() };
  const one = await startGateway({ clock, environment });
  const key = await signedKey(one);
  await one.close();
  const other = await startGateway({
    clock,
    environment: { ...environment, BRIKK_ENCRYPTION_KEY: newFernetKey() },
    log: { write: (line) => void lines.push(line) },
  });
  try {
    const answer = await send(signedGet(key, "/keys/me"), { to: other });
    assert.equal(answer.status, 503);
    assert.equal(answer.error?.code, "storage_unavailable");
    assert.ok(Number(answer.headers["retry-after"]) >= 1);
    assert.ok(!JSON.stringify(answer).includes("BRIKK_ENCRYPTION_KEY"));
    const line = lines.find((text) => text.includes("BRIKK_ENCRYPTION_KEY"));
    assert.ok(line?.includes(`signing secret of ${key.id}`), lines.join(""));
    assert.equal(
      (
        await send(
          { method: "GET", url: "/keys/me", headers: [["Authorization", `Bearer ${key.secret}`]] },
          { to: other },
        )
      ).error?.code,
      "signature_invalid",
    );
  } finally {
    await other.close();
  }
});

test("a request that the process before this one took is not taken again after a restart", async (t) => {
  const folder = scratchFolder(t);
  const environment = { DATABASE_URL: `sqlite:${folder}/brikk.db` };
  const one = await startGateway({ clock, environment });
  const key = await signedKey(one);
  const request = signedGet(key, "/keys/me");
  assert.equal((await send(request, { to: one })).status, 200);
  await one.close();
  clock.advance(2_000);
  const two = await startGateway({ clock, environment });
  try {
    const replay = await send(request, { to: two });
    assert.equal(replay.status, 503, "the client library tries again, and signs anew");
    assert.equal(replay.error?.code, "storage_unavailable");
    assert.equal((await send(signedGet(key, "/keys/me"), { to: two })).status, 200);
  } finally {
    await two.close();
  }
});

onPostgres("two instances with one Redis take a request once between them, and none while Redis is gone", async (t) => {
  if (skipWithoutRedis !== false) return t.skip(skipWithoutRedis);
  const redis = await startRedis();
  t.after(() => redis.stop());
  const environment = {
    DATABASE_URL: await scratchPostgresUrl(t, "migrated"),
    BRIKK_ENCRYPTION_KEY: newFernetKey(),
    REDIS_URL: redis.url,
    REDIS_TIMEOUT_MS: "2000",
  };
  const instances = await Promise.all([startGateway({ clock, environment }), startGateway({ clock, environment })]);
  t.after(() => Promise.all(instances.map((instance) => instance.close())));
  const [one, other] = instances;
  const key = await signedKey(one);
  const request = signedChat(key);
  assert.equal((await send(request, { body: CHAT, to: one })).status, 200);
  await assertRefused("nonce_used", send(request, { body: CHAT, to: other }));
  const crowd = signedChat(key);
  const answers = await Promise.all(
    Array.from({ length: 100 }, (_, n) => send(crowd, { body: CHAT, to: n % 2 === 0 ? one : other })),
  );
  assert.equal(answers.filter(({ status }) => status === 200).length, 1);
  assert.equal(answers.filter(({ error }) => error?.details["reason"] === "nonce_used").length, 99);

  const renewed = await one.gateway.keyStore.renewSigningSecret(key.id);
  const anew = { ...key, signingSecret: renewed! };
  await eventually(async () => (await send(signedGet(anew, "/keys/me"), { to: other })).status === 200);

  await redis.kill();
  for (const instance of instances) {
    const refused = await send(signedChat(anew), { body: CHAT, to: instance });
    assert.equal(refused.status, 503);
    assert.equal(refused.error?.code, "storage_unavailable");
    assert.ok(Number(refused.headers["retry-after"]) >= 1);
    await assertRefused("mismatch", send(signedChat(key), { body: CHAT, to: instance }));
    const { secret } = await instance.createKey();
    const unsigned = await fetch(`${instance.url}/keys/me`, { headers: { authorization: `Bearer ${secret}` } });
    assert.equal(unsigned.status, 200, "who signs nothing needs no Redis");
  }
  await redis.restart();
  await eventually(async () => (await send(signedGet(anew, "/keys/me"), { to: one })).status === 200);
});

test("refusals are counted by their reason", async () => {
  const metrics = await (await fetch(`${brikk.url}/metrics`)).text();
  for (const reason of ["nonce_used", "mismatch", "digest_mismatch"])
    assert.match(metrics, new RegExp(`brikk_signatures_refused_total\\{reason="${reason}"\\} [1-9]`));
});
