import assert from "node:assert/strict";
import { once } from "node:events";
import { connect } from "node:net";
import { Agent, request } from "undici";
import { startSimulator } from "@brikk/simulator";
import { createKeyStore } from "../../src/access/key-store.ts";
import { newSecret } from "../../src/access/secret.ts";
import { systemClock } from "../../src/lib/clock.ts";
import { newFernetKey } from "../../src/lib/fernet.ts";
import { nanoUsd } from "../../src/lib/money.ts";
import type { Database } from "../../src/storage/database.ts";
import { openDatabase } from "../../src/storage/open-database.ts";
import { type ApiRoute, exampleBody, listApiRoutes, pathOf } from "../harness/api-routes.ts";
import { type GatewayProcess, startGatewayProcess } from "../harness/gateway-process.ts";
import { startPostgres } from "../harness/postgres-server.ts";
import { eventually } from "../ledger/ledger-fixture.ts";
import { emptyDatabaseUrl, onEachDatabase } from "../storage/scratch.ts";
import { brikkOnScratch } from "./brikk-command.ts";

/**
 * A gateway whose every secret is marked. They are pushed through all routes, in all places, with every kind of failure, and
 * everything that comes out is searched. The routes are the app's own, so that whoever adds one is tested here by doing so.
 */
const admin = "Marked-adm1n-7Qd2kLw9ZxT4vB1n";
const openai = "sk-marked-4hT9wQz7Lm2Vx8Rk5Jp1Nc6";
const mistral = "M4rk3dM1stral0Jq7Zp2Xv5Lw8Nc3Td";
const encryption = newFernetKey();
const databasePassword = "marked-Db9Passw0rd8GhJ2k";
const redisPassword = "marked-R3disPassw0rd5TyU7";
const webhookSecret = `whsec_${Buffer.from("marked-webhook-secret-of-test-01").toString("base64")}`;
const webhookPath = "/T0marked/B1/Wq8Zr5Xk2Lp7Nm4";
/** What callers write to models, and models answer, is nobody else's either. */
const PROMPT = "MARKED-PROMPT-5f1c9e7b3a2d";
/** Of a body, what is for the model or the caller's own. */
const CONTENT = ["message", "messages", "input", "system", "meta", "metadata", "tools", "user", "no_such_member"];

const ENVIRONMENT = {
  LOG_LEVEL: "trace",
  BRIKK_REQUIRE_AUTH: "true",
  BRIKK_ADMIN_TOKEN: admin,
  BRIKK_ENCRYPTION_KEY: encryption,
  OPENAI_API_KEY: openai,
  MISTRAL_API_KEY: mistral,
  REDIS_URL: `redis://:${redisPassword}@127.0.0.1:1`,
  BRIKK_BUDGET_WEBHOOK_URL: `http://127.0.0.1:1${webhookPath}`,
  BRIKK_BUDGET_WEBHOOK_SECRET: webhookSecret,
  BRIKK_MAX_BODY_BYTES: "20000",
  PROVIDER_MAX_RETRIES: "0",
  // Each request is from an address of its own: what is refused for being one too many has not been looked at.
  TRUST_PROXY: "1",
  BRIKK_SELF_SERVICE_MAX_KEYS: "1000000",
  BRIKK_SELF_SERVICE_MAX_KEYS_PER_ADDRESS: "1000000",
};

interface Output {
  readonly name: string;
  readonly text: string;
}

/** Everything that came out, under the name of where it did. */
class Outputs {
  readonly #found = new Set<string>();
  readonly #needle: RegExp;
  searched = 0;
  /** Of requests, how many were refused for being too many. */
  limited = 0;

  /** Of each secret a piece from its middle is enough; its beginning may be shown. */
  constructor(secrets: readonly string[]) {
    this.#needle = new RegExp(secrets.map((secret) => RegExp.escape(secret.slice(12, 26))).join("|"));
  }

  search({ name, text }: Output): void {
    this.searched += 1;
    const found = this.#needle.exec(text);
    if (found)
      this.#found.add(`${name}: ${text.slice(Math.max(0, found.index - 150), found.index + 60).replaceAll("\n", " ")}`);
  }

  get found(): readonly string[] {
    return [...this.#found];
  }
}

interface Push {
  readonly name: string;
  readonly method: string;
  readonly path: string;
  readonly headers: Readonly<Record<string, string>>;
  readonly body?: string;
  /** Whose own it is may be told by a provider that refuses it. */
  readonly mayRepeat?: string;
}

const json = JSON.stringify;

/** All the places of a route in which a secret may be put. */
function* placesOf(route: ApiRoute, credentials: Readonly<Record<string, string>>, secret: string): Generator<Push> {
  const { method, template } = route;
  const example = exampleBody(route);
  const path = pathOf(route, "openai");
  const hasBody = method !== "GET" && method !== "HEAD";
  const headers = { ...credentials, ...(hasBody && { "content-type": "application/json" }) };
  const base = {
    method,
    path,
    headers,
    ...(hasBody && { body: json(example ?? {}) }),
  };
  const named = (place: string): string => `${method} ${template}, a secret as ${place}`;
  const ascii = encodeURIComponent(secret);

  yield { ...base, name: named("a key"), headers: { ...headers, "x-brikk-api-key": secret } };
  yield { ...base, name: named("a bearer token"), headers: { ...headers, authorization: `Bearer ${secret}` } };
  yield {
    ...base,
    name: named("other headers"),
    headers: {
      ...headers,
      "x-request-id": secret,
      "idempotency-key": secret,
      "if-match": `"${secret}"`,
      traceparent: secret,
      tracestate: secret,
      "user-agent": secret,
      cookie: `session=${secret}`,
      origin: `https://${secret}.example`,
      referer: `https://x.example/${ascii}`,
      "x-forwarded-for": secret,
      forwarded: `for=${secret}`,
      "accept-language": secret,
      "signature-input": secret,
      signature: `sig=:${secret}:`,
      "content-digest": secret,
      ...Object.fromEntries(route.headerNames.map((name) => [name.toLowerCase(), secret])),
    },
  };
  yield { ...base, name: named("a wish"), headers: { ...headers, "x-brikk-rescue": secret } };
  yield { ...base, name: named("a query"), path: `${path}?${ascii}=${ascii}&api_key=${ascii}` };
  for (const query of route.queryNames)
    yield { ...base, name: named(`the query's ${query}`), path: `${path}?${query}=${ascii}` };
  if (path !== template) yield { ...base, name: named("a part of the path"), path: pathOf(route, ascii) };
  if (!hasBody) return;
  yield { ...base, name: named("a content type"), headers: { ...headers, "content-type": `text/${ascii}` } };
  yield { ...base, name: named("a body that is no JSON"), body: `{"a":"${secret}` };
  yield { ...base, name: named("a body that is no object"), body: json([secret]) };
  yield { ...base, name: named("a body that is too large"), body: json({ a: secret.repeat(1_000) }) };
  if (route.body === undefined) return;
  const members = Object.keys({ ...route.body.properties, no_such_member: true });
  for (const member of members)
    for (const value of [secret, `of ${secret}.`, { [secret]: secret, deep: [secret, { secret }] }]) {
      yield {
        ...base,
        name: named(`${member} of the body`),
        body: json({ ...(example as Record<string, unknown>), [member]: value }),
      };
    }
}

let addresses = 0;
const addressOfItsOwn = (): string => {
  addresses += 1;
  return `10.${addresses >> 16}.${(addresses >> 8) & 255}.${addresses & 255}`;
};

async function send(outputs: Outputs, agent: Agent, url: string, push: Push): Promise<string> {
  const { name, method, path, headers, body, mayRepeat } = push;
  try {
    const answer = await request(`${url}${path}`, {
      dispatcher: agent,
      method: method as "GET",
      headers: { "x-forwarded-for": addressOfItsOwn(), ...headers },
      ...(body !== undefined && { body }),
    });
    const text = await answer.body.text();
    if (answer.statusCode === 429) outputs.limited += 1;
    outputs.search({ name: `${name}: headers of ${answer.statusCode}`, text: json(answer.headers) });
    // What a model answers is between the caller and the model, who may repeat what it was told.
    const isModels = answer.headers["x-brikk-provider"] !== undefined || name.startsWith("POST /agents/bridge");
    if (!isModels || answer.statusCode !== 200)
      outputs.search({
        name: `${name}: body of ${answer.statusCode}`,
        text: mayRepeat === undefined ? text : text.replaceAll(mayRepeat, ""),
      });
    return text;
  } catch (error) {
    // A server may close the connection of who writes more than it reads.
    if (body !== undefined && body.length > 20_000) return "";
    throw new Error(`${name} was not answered`, { cause: error });
  }
}

/** So many at a time. */
async function sendAll(outputs: Outputs, url: string, pushes: Iterable<Push>): Promise<readonly string[]> {
  const agent = new Agent({ connections: 8 });
  const texts: string[] = [];
  const iterator = pushes[Symbol.iterator]();
  const work = async (): Promise<void> => {
    for (let next = iterator.next(); next.done !== true; next = iterator.next())
      texts.push(await send(outputs, agent, url, next.value));
  };
  try {
    await Promise.all(Array.from({ length: 8 }, work));
  } finally {
    await agent.destroy();
  }
  return texts;
}

async function sendRaw(outputs: Outputs, url: string, bytes: string): Promise<void> {
  const { hostname, port } = new URL(url);
  const socket = connect(Number(port), hostname);
  let text = "";
  socket.setEncoding("utf8").on("data", (chunk: string) => (text += chunk));
  socket.on("error", () => {});
  socket.end(bytes);
  await once(socket, "close");
  outputs.search({ name: `broken HTTP (${bytes.slice(0, 30)}...)`, text });
}

async function searchDatabase(outputs: Outputs, database: Database): Promise<void> {
  for (const { name } of await database.query.introspection.getTables()) {
    const rows = await database.all({ sql: `select * from ${name}`, params: [] });
    for (const row of rows)
      for (const [column, value] of Object.entries(row))
        outputs.search({ name: `${name}.${column}`, text: String(value) });
  }
}

onEachDatabase(
  "no secret comes out by any route, place or failure: in no answer, log line, metric, page, table or export",
  async (t, dialect) => {
    const postgres = dialect === "postgres" ? await startPostgres(t) : undefined;
    const url = new URL(postgres?.url ?? (await emptyDatabaseUrl(t, dialect)));
    const database = await openDatabase({ url: url.href });
    t.after(() => database.close());
    if (postgres) {
      await database.all({ sql: `create role marked superuser login password '${databasePassword}'`, params: [] });
      url.username = "marked";
      url.password = databasePassword;
    }
    const simulator = await startSimulator({ firstTokenMs: 0, tokensPerSecond: 0 });
    t.after(() => simulator.close());

    const keyStore = createKeyStore({ database, clock: systemClock });
    const [caller, other, revoked] = await Promise.all(
      ["caller", "other", "revoked"].map((name) => keyStore.create({ name, softCap: nanoUsd(1_000n) })),
    );
    await keyStore.revoke(revoked!.key.id);
    const secrets: Readonly<Record<string, string>> = {
      admin,
      openai,
      mistral,
      encryption,
      ...(postgres && { databasePassword }),
      redisPassword,
      webhookSecret,
      webhookPath,
      caller: caller!.secret,
      other: other!.secret,
      revoked: revoked!.secret,
      stranger: newSecret(),
      signing: `brikk_sig_${"k7Jx2mQp9RtV4wYz".repeat(3).slice(0, 43)}`,
    };
    const outputs = new Outputs([...Object.values(secrets), PROMPT]);
    // What reads a request does not know which database there is. On the second, it is the database's own words that are new.
    const pushed = Object.values(postgres ? { databasePassword, caller: caller!.secret, openai } : secrets);

    const gateway: GatewayProcess = await startGatewayProcess(t, {
      databaseUrl: url.href,
      simulator,
      environment: ENVIRONMENT,
    });
    const routes = (await listApiRoutes(ENVIRONMENT)).filter(({ method }) => method !== "OPTIONS");
    assert.ok(routes.length >= 30, `${routes.length} routes`);
    const credentialsOf = ({ admin: forAdmin }: ApiRoute): Record<string, string> => ({
      authorization: `Bearer ${forAdmin ? admin : caller!.secret}`,
    });
    const plainly = function* (): Generator<Push> {
      for (const route of routes) {
        const { method, template } = route;
        const hasBody = method !== "GET" && method !== "HEAD";
        yield {
          name: `${method} ${template}`,
          method,
          path: pathOf(route, "openai"),
          headers: { ...credentialsOf(route), ...(hasBody && { "content-type": "application/json" }) },
          ...(hasBody && { body: json(exampleBody(route) ?? {}) }),
        };
      }
    };

    // Every secret in every place of every route.
    const answers = await sendAll(outputs, gateway.url, plainly());
    const said = answers
      .flatMap((text) => /"content":"([^"\\]{30,})/.exec(text)?.[1] ?? [])
      .map((answer) => answer.slice(0, 30));
    assert.ok(said.length > 0, "a model's answer is known");
    await sendAll(
      outputs,
      gateway.url,
      (function* () {
        for (const secret of pushed) for (const route of routes) yield* placesOf(route, credentialsOf(route), secret);
        for (const route of routes)
          for (const push of placesOf(route, credentialsOf(route), PROMPT))
            if (CONTENT.some((member) => push.name.includes(`as ${member} of`)) || push.name.includes("a body that"))
              yield push;
      })(),
    );
    await sendAll(
      outputs,
      gateway.url,
      pushed.flatMap((secret): Push[] => {
        const path = `/${encodeURIComponent(secret)}`;
        const headers = { authorization: `Bearer ${caller!.secret}` };
        return ["GET", "POST", "DELETE"].map((method) => ({ name: "an unknown path", method, path, headers }));
      }),
    );
    assert.equal(outputs.limited, 0);
    for (const secret of pushed) {
      await sendRaw(outputs, gateway.url, `${secret}\r\n\r\n`);
      await sendRaw(outputs, gateway.url, `GET /${secret} HTTP/9.9\r\nHost: ${secret}\r\n\r\n`);
      await sendRaw(outputs, gateway.url, `GET /%zz${secret} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n`);
      await sendRaw(outputs, gateway.url, `GET / HTTP/1.1\r\nHost: x\r\nA: ${secret.repeat(1_000)}\r\n\r\n`);
      await sendRaw(outputs, gateway.url, `GET / HTTP/1.1\r\nHost: x\r\n${secret} : x\r\n\r\n`);
    }

    // A provider that repeats what it was sent, in every way to fail.
    const echo = `Incorrect API key provided: ${openai} or ${mistral}. You said ${PROMPT}.`;
    const wire = { error: { message: echo, type: echo, code: openai, param: mistral } };
    const chat = (stream: boolean, model: string): Push => ({
      name: `a provider that repeats its key (${stream ? "stream" : "whole"}, ${model})`,
      method: "POST",
      path: "/v1/chat/completions",
      headers: { authorization: `Bearer ${caller!.secret}`, "content-type": "application/json" },
      body: json({ model, stream, messages: [{ role: "user", content: PROMPT }] }),
      mayRepeat: PROMPT,
    });
    const faults = [
      ...[400, 401, 402, 403, 404, 408, 409, 413, 422, 429, 500, 503].map(
        (status) =>
          ({ kind: "status", status, body: status === 500 ? echo : wire, headers: { "x-echo": openai } }) as const,
      ),
      { kind: "error-event", afterTokens: 3, body: wire } as const,
      { kind: "cut", afterTokens: 3 } as const,
      { kind: "malformed-chunk", afterTokens: 2 } as const,
    ];
    for (const fault of faults) {
      simulator.faults.clear();
      simulator.faults.set({ vendor: "*", fault });
      const pushes = [true, false].flatMap((stream) => [
        chat(stream, "openai/gpt-4o-mini"),
        chat(stream, "mistral/mistral-small-latest"),
        chat(stream, "brikk/auto"),
      ]);
      await sendAll(outputs, gateway.url, pushes);
      await sendAll(outputs, gateway.url, [
        {
          name: "breakers",
          method: "POST",
          path: "/admin/circuit-breakers/reset",
          headers: { authorization: `Bearer ${admin}`, "content-type": "application/json" },
          body: "{}",
        },
      ]);
    }
    simulator.faults.clear();

    // No provider at all.
    await simulator.close();
    await sendAll(outputs, gateway.url, plainly());

    // No database.
    if (postgres) {
      await database.close();
      await postgres.stop("kill");
      const unknown = Object.values(secrets).map((): Push => {
        const headers = { authorization: `Bearer ${newSecret()}` };
        return { name: "an unknown key without a database", method: "GET", path: "/usage/me", headers };
      });
      // What was let in before the outage was noticed ends when it is over.
      const refused = sendAll(outputs, gateway.url, [...unknown, ...plainly()]);
      await eventually(() => gateway.said().includes("could not be refreshed"), 30_000);
      await postgres.start();
      await eventually(
        async () => (await (await fetch(`${gateway.url}/health/ready`)).text()).includes('"storage":{"ok":true'),
        30_000,
      );
      await refused;
    }
    assert.equal(await gateway.kill("SIGTERM"), 0, gateway.said().slice(-2_000));

    // What is left behind.
    const left = postgres ? await openDatabase({ url: url.href }) : database;
    try {
      await searchDatabase(outputs, left);
      const rows = await left.all({ sql: "select requested_model, request_id from usage_events", params: [] });
      assert.ok(rows.length > 100, `${rows.length} events`);
      for (const answer of said)
        assert.ok(!JSON.stringify(rows.map(Object.values)).includes(answer), "an answer in the ledger");
    } finally {
      if (left !== database) await left.close();
    }
    const { brikkWith } = brikkOnScratch(t);
    for (const format of ["csv", "jsonl"]) {
      const exported = await brikkWith(
        { DATABASE_URL: url.href },
        "ledger",
        "export",
        "--from",
        "2026-01-01",
        "--to",
        "2126-01-01",
        "--format",
        format,
      );
      assert.equal(exported.code, 0, exported.stderr);
      assert.ok(exported.stdout.length > 1_000);
      outputs.search({ name: `the export as ${format}`, text: exported.stdout + exported.stderr });
    }
    const lines = gateway.said().split("\n");
    assert.ok(lines.length > 1_000, `${lines.length} log lines`);
    for (const line of lines) {
      outputs.search({ name: "the log", text: line });
      for (const answer of said) assert.ok(!line.includes(answer), `an answer in the log: ${line.slice(0, 300)}`);
      if (line.startsWith("{")) JSON.parse(line);
    }
    t.diagnostic(`${outputs.searched} outputs of ${routes.length} routes were searched`);
    assert.deepEqual(outputs.found.slice(0, 20), [], `${outputs.found.length} places`);
  },
);
