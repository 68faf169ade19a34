import assert from "node:assert/strict";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { PassThrough } from "node:stream";
import { after, test, type TestContext } from "node:test";
import { loadConfig } from "../../src/config.ts";
import { newFernetKey } from "../../src/lib/fernet.ts";
import { startVendor, type VendorServer } from "../credentials/vendor-server.ts";
import { type GatewayUnderTest, type HarnessOptions, startGateway } from "../harness/gateway-under-test.ts";

const TOKEN = "the-admin-token-of-this-test";
const KEY = "sk-first-credential-AAAA";
const OTHER_KEY = "sk-other-credential-BBBB";

const folder = mkdtempSync(join(tmpdir(), "brikk-credentials-"));
after(() => rmSync(folder, { recursive: true, force: true }));

interface Under {
  readonly brikk: GatewayUnderTest;
  readonly vendor: VendorServer;
  readonly admin: (
    method: string,
    path: string,
    body?: object,
    headers?: Record<string, string>,
  ) => Promise<{ status: number; etag: string | null; body: Answer; text: string }>;
  readonly chat: (model?: string) => Promise<Response>;
}

interface Answer {
  readonly provider: string;
  readonly source: string;
  readonly simulated: boolean;
  readonly hint: string | null;
  readonly revision: number;
  readonly verification: string;
  readonly outcome: string;
  readonly fault: string | null;
  readonly provider_status: number | null;
  readonly known: boolean;
  readonly credentials: readonly Answer[];
  readonly error: { readonly code: string; readonly message: string; readonly param: string | null };
}

/** The first vendor's address is a server of the test's own; the simulator serves while no provider can be asked. */
async function start(
  t: TestContext,
  options: HarnessOptions = {},
  environment: Record<string, string> = {},
): Promise<Under> {
  const vendor = await startVendor(t, KEY, OTHER_KEY);
  const brikk = await startGateway({
    simulatorServes: "alone",
    ...options,
    environment: {
      BRIKK_ADMIN_TOKEN: TOKEN,
      OPENAI_BASE_URL: vendor.baseUrl,
      PROVIDER_MAX_RETRIES: "0",
      ...environment,
    },
  });
  t.after(() => brikk.close());
  return {
    brikk,
    vendor,
    admin: async (method, path, body, headers) => {
      const response = await fetch(`${brikk.url}/admin/provider-credentials${path}`, {
        method,
        headers: {
          authorization: `Bearer ${TOKEN}`,
          ...(body !== undefined && { "content-type": "application/json" }),
          ...headers,
        },
        ...(body !== undefined && { body: JSON.stringify(body) }),
      });
      const text = await response.text();
      return { status: response.status, etag: response.headers.get("etag"), body: JSON.parse(text) as Answer, text };
    },
    chat: (model = "gpt-4o-mini") =>
      fetch(`${brikk.url}/v1/chat/completions`, {
        method: "POST",
        headers: { "content-type": "application/json" },
        body: JSON.stringify({ model, messages: [{ role: "user", content: "Hello" }] }),
      }),
  };
}

const standings = async (
  brikk: GatewayUnderTest,
): Promise<Record<string, [configured: boolean, simulated: boolean]>> => {
  const { providers } = (await (await fetch(`${brikk.url}/health/providers`)).json()) as {
    providers: { name: string; configured: boolean; simulated: boolean }[];
  };
  return Object.fromEntries(providers.map(({ name, configured, simulated }) => [name, [configured, simulated]]));
};

test("a credential that is stored makes its provider real at once, without a restart, and everything says so", async (t) => {
  const { brikk, vendor, admin, chat } = await start(t);
  const before = await chat();
  assert.equal(before.headers.get("x-brikk-simulated"), "true");
  assert.deepEqual(await standings(brikk), { openai: [true, true], mistral: [true, true] });
  assert.deepEqual(
    (await admin("GET", "")).body.credentials.map(({ provider, source, simulated }) => [provider, source, simulated]),
    [
      ["openai", "none", true],
      ["mistral", "none", true],
    ],
  );

  const saved = await admin("PUT", "/openai", { api_key: KEY });
  assert.equal(saved.status, 200, saved.text);
  assert.deepEqual(
    [saved.body.source, saved.body.verification, saved.body.hint, saved.body.simulated, saved.etag],
    ["stored", "accepted", "AAAA", false, `"${saved.body.revision}"`],
  );
  assert.deepEqual(vendor.asked, [{ path: "/v1/models", key: KEY }], "it was tested first");

  const now = await chat();
  assert.equal(now.status, 200);
  assert.equal(now.headers.get("x-brikk-simulated"), "false");
  assert.deepEqual(vendor.asked.at(-1), { path: "/v1/chat/completions", key: KEY });
  // Nothing that is made up is served beside what is real, as after a restart.
  assert.deepEqual(await standings(brikk), { openai: [true, false], mistral: [false, false] });
  assert.deepEqual(
    (await brikk.events()).map((row) => Number(row["simulated"])),
    [1, 0],
  );
});

test("a stored credential wins over the environment's, and the environment's holds again when it is removed", async (t) => {
  const { vendor, admin, chat } = await start(t, {}, { OPENAI_API_KEY: OTHER_KEY });
  assert.equal((await admin("GET", "")).body.credentials[0]?.source, "environment");
  await chat();
  assert.equal(vendor.asked.at(-1)?.key, OTHER_KEY);
  const { etag } = await admin("PUT", "/openai", { api_key: KEY });
  await chat();
  assert.equal(vendor.asked.at(-1)?.key, KEY);
  assert.equal((await admin("GET", "")).body.credentials[0]?.source, "stored");
  const removed = await admin("DELETE", "/openai", undefined, { "if-match": etag! });
  assert.deepEqual([removed.status, removed.body.source, removed.body.hint], [200, "environment", null]);
  await chat();
  assert.equal(vendor.asked.at(-1)?.key, OTHER_KEY);
});

test("a credential that the provider refuses is refused, and the one before stays in force", async (t) => {
  const { vendor, admin, chat } = await start(t);
  const { etag } = await admin("PUT", "/openai", { api_key: KEY });
  for (const status of [401, 403]) {
    vendor.instead = (_request, response) => void response.writeHead(status).end(`{"error":{"message":"no"}}`);
    const refused = await admin("PUT", "/openai", { api_key: "sk-not-a-credential-CCCC" }, { "if-match": etag! });
    assert.deepEqual(
      [refused.status, refused.body.error.code, refused.body.error.param],
      [422, "provider_credentials_invalid", "api_key"],
    );
    vendor.instead = undefined;
  }
  assert.equal((await admin("GET", "")).body.credentials[0]?.hint, "AAAA");
  assert.equal((await chat()).status, 200);
  assert.equal(vendor.asked.at(-1)?.key, KEY);
});

const unanswered: readonly [what: string, play: VendorServer["instead"]][] = [
  ["answers 500", (_request, response) => void response.writeHead(500).end("{}")],
  ["closes the connection", (request) => void request.socket.destroy()],
  [
    "answers with a redirect",
    (_request, response) => void response.writeHead(302, { location: "/v1/elsewhere" }).end(),
  ],
];
for (const [what, play] of unanswered)
  test(`a provider that ${what} leaves a credential untested: it is not stored, unless nobody asks for the test`, async (t) => {
    const { vendor, admin } = await start(t);
    vendor.instead = play;
    const failed = await admin("PUT", "/openai", { api_key: KEY });
    assert.deepEqual([failed.status, failed.body.error.code], [502, "provider_error"], failed.text);
    assert.equal((await admin("GET", "")).body.credentials[0]?.source, "none");
    assert.deepEqual(
      vendor.asked.map(({ path }) => path),
      ["/v1/models"],
      "nothing is followed, and nothing asked twice",
    );
    const stored = await admin("PUT", "/openai", { api_key: KEY, verify: false });
    assert.deepEqual([stored.status, stored.body.verification, stored.body.source], [200, "skipped", "stored"]);
    assert.equal(vendor.asked.length, 1);
  });

test("a provider that does not answer in time is given up", async (t) => {
  const { vendor, admin } = await start(t, {}, { PROVIDER_TIMEOUT_SECONDS: "0.2" });
  vendor.instead = () => undefined;
  const failed = await admin("PUT", "/openai", { api_key: KEY });
  assert.deepEqual([failed.status, failed.body.error.code], [502, "provider_error"]);
});

test("who counts our requests or has no list of models does not refuse the credential", async (t) => {
  const { vendor, admin } = await start(t);
  for (const [status, verification] of [
    [429, "accepted"],
    [402, "accepted"],
    [404, "inconclusive"],
    [405, "inconclusive"],
  ] as const) {
    vendor.instead = (_request, response) => void response.writeHead(status).end("{}");
    const saved = await admin("PUT", "/openai", { api_key: KEY }, { "if-match": "*" }).then(async (answer) =>
      answer.status === 412 ? admin("PUT", "/openai", { api_key: KEY }) : answer,
    );
    assert.deepEqual([saved.status, saved.body.verification], [200, verification], String(status));
  }
});

test("two administrators cannot overwrite each other: a change names the revision that it was made on", async (t) => {
  const { admin } = await start(t);
  const first = await admin("PUT", "/openai", { api_key: KEY });
  for (const [method, body] of [
    ["PUT", { api_key: OTHER_KEY }],
    ["DELETE", undefined],
  ] as const) {
    const blind = await admin(method, "/openai", body);
    assert.deepEqual([blind.status, blind.body.error.code], [428, "precondition_required"]);
  }
  const second = await admin("PUT", "/openai", { api_key: OTHER_KEY }, { "if-match": first.etag! });
  assert.equal(second.status, 200);
  assert.notEqual(second.etag, first.etag);
  for (const [method, body] of [
    ["PUT", { api_key: KEY }],
    ["DELETE", undefined],
  ] as const) {
    const late = await admin(method, "/openai", body, { "if-match": first.etag! });
    assert.deepEqual([late.status, late.body.error.code], [412, "version_conflict"]);
  }
  assert.equal((await admin("GET", "")).body.credentials[0]?.hint, "BBBB");
  const races = await Promise.all(
    [KEY, OTHER_KEY, KEY, OTHER_KEY].map((key) =>
      admin("PUT", "/openai", { api_key: key }, { "if-match": second.etag! }),
    ),
  );
  assert.deepEqual(
    races.map(({ status }) => status).toSorted((one, other) => one - other),
    [200, 412, 412, 412],
  );
  assert.equal((await admin("DELETE", "/openai", undefined, { "if-match": "*" })).status, 200);
  const gone = await admin("PUT", "/openai", { api_key: KEY }, { "if-match": second.etag! });
  assert.equal(gone.status, 412);
  for (const wrong of ["3", 'W/"3"', '"1", "2"'])
    assert.equal((await admin("DELETE", "/openai", undefined, { "if-match": wrong })).status, 400, wrong);
});

test("an unknown provider is answered with those that are known, and what is not stored cannot be removed", async (t) => {
  const { admin } = await start(t);
  for (const [method, path, body] of [
    ["PUT", "/acme", { api_key: KEY }],
    ["DELETE", "/acme", undefined],
    ["POST", "/acme/test", {}],
  ] as const) {
    const { status, body: answer } = await admin(method, path, body);
    assert.deepEqual([status, answer.error.code], [404, "not_found"]);
    assert.match(answer.error.message, /openai, mistral/);
  }
  assert.equal((await admin("DELETE", "/openai")).status, 404);
  assert.equal((await admin("POST", "/openai/test", {})).status, 400, "there is nothing to test");
});

test("the credential that is used is tested when asked, wherever it is from", async (t) => {
  const { vendor, admin } = await start(t, {}, { OPENAI_API_KEY: OTHER_KEY });
  const tried = async () => {
    const { status, body } = await admin("POST", "/openai/test", {});
    return [status, body.source, body.outcome, body.fault, body.provider_status];
  };
  assert.deepEqual(await tried(), [200, "environment", "accepted", null, null]);
  await admin("PUT", "/openai", { api_key: KEY });
  assert.deepEqual(await tried(), [200, "stored", "accepted", null, null]);
  assert.equal(vendor.asked.at(-1)?.key, KEY);
  vendor.accepted.delete(KEY);
  assert.deepEqual(await tried(), [200, "stored", "refused", null, 401]);
  vendor.instead = (_request, response) => void response.writeHead(503).end();
  assert.deepEqual(await tried(), [200, "stored", "failed", "overloaded", 503]);
});

test("what is no key is refused without repeating it, and a short one gives no hint", async (t) => {
  const { vendor, admin } = await start(t);
  for (const wrong of [
    "",
    "   ",
    "sk with-hidden spaces",
    "sk-hidden\u0000",
    "sk-hidden-ünicode",
    `sk-hidden${"x".repeat(5_000)}`,
  ]) {
    const { status, text } = await admin("PUT", "/openai", { api_key: wrong });
    assert.equal(status, 400, wrong.slice(0, 30));
    assert.doesNotMatch(text, /hidden/);
  }
  assert.equal((await admin("PUT", "/openai", { api_key: KEY, base_url: "http://127.0.0.1/" })).status, 400);
  vendor.accepted.add("short-key-1234567");
  const { status, body } = await admin("PUT", "/openai", { api_key: "  short-key-1234567\n" });
  assert.deepEqual([status, body.hint], [200, null]);
});

test("a credential stands in no answer, no log line, no metric, no page and no row, whatever becomes of it", async (t) => {
  const log = new PassThrough();
  let logged = "";
  log.on("data", (chunk: Buffer) => (logged += chunk.toString("utf8")));
  const { brikk, vendor, admin, chat } = await start(t, { log });
  const secret = "sk-MARKEDCREDENTIAL-0123456789";
  const texts: string[] = [];
  const note = async (...asked: Parameters<Under["admin"]>): Promise<void> =>
    void texts.push((await admin(...asked)).text);
  await note("PUT", "/openai", { api_key: secret });
  vendor.instead = (request) => void request.socket.destroy();
  await note("PUT", "/openai", { api_key: secret });
  vendor.instead = undefined;
  vendor.accepted.add(secret);
  await note("PUT", "/acme", { api_key: secret });
  await note("PUT", "/openai", { api_key: secret });
  await note("PUT", "/openai", { api_key: secret });
  await note("POST", "/openai/test", {});
  vendor.accepted.clear();
  await note("POST", "/openai/test", {});
  texts.push(await (await chat()).text());
  await note("GET", "");
  for (const path of ["/metrics", "/health/providers", "/health/ready", "/openapi.json"])
    texts.push(await (await fetch(`${brikk.url}${path}`)).text());
  for (const table of ["provider_credentials", "usage_events"])
    texts.push(
      JSON.stringify(await brikk.all(`select * from ${table}`), (_, value: unknown) =>
        typeof value === "bigint" ? String(value) : value,
      ),
    );
  await note("DELETE", "/openai", undefined, { "if-match": "*" });
  const acts = JSON.stringify(await brikk.all("select action, details from audit_entries where kind = 'act'"));
  assert.match(acts, /provider_credential\.save.*provider_credential\.test.*provider_credential\.remove/);
  texts.push(logged, acts);
  assert.match(logged, /provider_credentials_rejected/);
  for (const text of texts) assert.doesNotMatch(text, /MARKEDCREDENTIAL/);
});

test("the last credential removed, the simulator serves again where it runs, and says that it does", async (t) => {
  const { brikk, admin, chat } = await start(t);
  const { etag } = await admin("PUT", "/openai", { api_key: KEY });
  assert.equal((await chat()).headers.get("x-brikk-simulated"), "false");
  await admin("DELETE", "/openai", undefined, { "if-match": etag! });
  assert.equal((await chat()).headers.get("x-brikk-simulated"), "true");
  assert.deepEqual(await standings(brikk), { openai: [true, true], mistral: [true, true] });
});

test("in production nothing made up follows on real answers: the last credential removed, requests are refused", async (t) => {
  const { brikk, admin, chat } = await start(
    t,
    {},
    {
      NODE_ENV: "production",
      BRIKK_ALLOW_ANONYMOUS: "true",
      BRIKK_ALLOW_PRIVATE_ADDRESSES: "true",
      BRIKK_ENCRYPTION_KEY: newFernetKey(),
    },
  );
  const { etag } = await admin("PUT", "/openai", { api_key: KEY });
  assert.equal((await chat()).status, 200);
  await admin("DELETE", "/openai", undefined, { "if-match": etag! });
  for (const model of ["gpt-4o-mini", "openai/gpt-4o-mini", "brikk/auto"]) {
    const refused = await chat(model);
    assert.equal(refused.status, 503, model);
    assert.equal(((await refused.json()) as Answer).error.code, "no_provider_available");
  }
  const ready = await fetch(`${brikk.url}/health/ready`);
  assert.equal(ready.status, 503);
  assert.match(await ready.text(), /none is configured/);
});

test("a config file that is read anew keeps stored credentials, and a provider of the file may have its own stored", async (t) => {
  const house = await startVendor(t, "sk-of-the-house-0123456789");
  const write = (providers: object[]): string => {
    const path = join(folder, "providers.json");
    writeFileSync(path, JSON.stringify({ providers }));
    return path;
  };
  const entry = {
    name: "house",
    base_url: house.baseUrl,
    api_key_stored: true,
    models: [{ id: "gpt-4o-mini", input_usd_per_million: 2, output_usd_per_million: 4 }],
  };
  const environment = { BRIKK_CONFIG: write([entry]) };
  const { brikk, vendor, admin, chat } = await start(t, {}, environment);
  assert.deepEqual((await standings(brikk))["house"], [false, false], "it never goes without a key");
  await admin("PUT", "/openai", { api_key: KEY });
  assert.equal((await admin("PUT", "/house", { api_key: "sk-of-the-house-0123456789" })).status, 200);
  assert.equal((await chat("house/gpt-4o-mini")).status, 200);
  assert.equal(house.asked.at(-1)?.key, "sk-of-the-house-0123456789");

  const reload = (): void =>
    brikk.gateway.replaceConfigFile(loadConfig({ ...environment, OPENAI_BASE_URL: vendor.baseUrl }));
  write([{ ...entry, default_model: "gpt-4o" }]);
  reload();
  for (const model of ["house/gpt-4o-mini", "openai/gpt-4o-mini"]) assert.equal((await chat(model)).status, 200, model);
  assert.equal(vendor.asked.at(-1)?.key, KEY);

  write([]);
  reload();
  const orphan = (await admin("GET", "")).body.credentials.find(({ provider }) => provider === "house");
  assert.deepEqual([orphan?.known, orphan?.source], [false, "stored"]);
  assert.equal((await admin("DELETE", "/house", undefined, { "if-match": `"${orphan?.revision}"` })).status, 200);
  assert.equal(
    (await admin("GET", "")).body.credentials.some(({ provider }) => provider === "house"),
    false,
  );
});

test("what is in hand goes on with the credential that it began with", async (t) => {
  const { vendor, admin, chat } = await start(t);
  const { etag } = await admin("PUT", "/openai", { api_key: KEY });
  let goOn: (() => void) | undefined;
  const begun = new Promise<void>((resolve) => {
    vendor.instead = (_request, response) => {
      vendor.instead = undefined;
      response.writeHead(200, { "content-type": "application/json" });
      goOn = () =>
        response.end(
          JSON.stringify({
            id: "c",
            object: "chat.completion",
            created: 1,
            model: "m",
            choices: [{ index: 0, message: { role: "assistant", content: "Late." }, finish_reason: "stop" }],
            usage: { prompt_tokens: 1, completion_tokens: 1, total_tokens: 2 },
          }),
        );
      resolve();
    };
  });
  const slow = chat();
  await begun;
  await admin("PUT", "/openai", { api_key: OTHER_KEY }, { "if-match": etag! });
  await chat();
  assert.equal(vendor.asked.at(-1)?.key, OTHER_KEY);
  goOn!();
  assert.match(await (await slow).text(), /Late\./);
});

test("while storage does not answer nothing is stored, and what is known goes on", async (t) => {
  const { brikk, admin } = await start(t);
  await admin("PUT", "/openai", { api_key: KEY });
  await brikk.gateway.database.close();
  for (const answer of [
    await admin("GET", ""),
    await admin("PUT", "/openai", { api_key: OTHER_KEY }, { "if-match": "*" }),
    await admin("DELETE", "/openai", undefined, { "if-match": "*" }),
  ])
    assert.deepEqual([answer.status, answer.body.error.code], [503, "storage_unavailable"]);
  assert.deepEqual(await standings(brikk), { openai: [true, false], mistral: [false, false] });
});
