import assert from "node:assert/strict";
import { test } from "node:test";
import { setTimeout as wait } from "node:timers/promises";
import { ANONYMOUS_KEY_ID } from "../../src/access/api-key.ts";
import { createKeyStore } from "../../src/access/key-store.ts";
import { systemClock } from "../../src/lib/clock.ts";
import { ZERO_USD } from "../../src/lib/money.ts";
import type { GatewayUnderTest } from "../harness/gateway-under-test.ts";
import { createTestClock } from "../lib/test-clock.ts";
import { onEachDatabase } from "../storage/scratch.ts";
import { type Ask, done, type Refusal, startAdministered } from "./administered.ts";

interface Key {
  readonly id: string;
  readonly key_id: string;
  readonly name: string;
  readonly hard_cap_usd: number | null;
  readonly status: string;
  readonly version: string;
  readonly secrets: readonly { readonly prefix: string; readonly valid_until: string | null }[];
  readonly metadata: Record<string, string> | null;
}
type Created = Key & { readonly key: string; readonly signing_secret?: string };
interface Page {
  readonly data: readonly Key[];
  readonly next_cursor: string | null;
}

const make = async (admin: Ask, body: object = {}): Promise<Created> =>
  (await done(admin<Created>("POST", "/admin/keys", { body: { name: "test", ...body } }))).body;

const change = (admin: Ask, id: string, body: object, ifMatch = "*") =>
  admin<Key>("PATCH", `/admin/keys/${id}`, { body, headers: { "if-match": ifMatch } });

const statusOf = async (brikk: GatewayUnderTest, secret?: string): Promise<number> => {
  const response = await fetch(`${brikk.url}/v1/chat/completions`, {
    method: "POST",
    headers: {
      "content-type": "application/json",
      ...(secret !== undefined && { authorization: `Bearer ${secret}` }),
    },
    body: JSON.stringify({ model: "gpt-4o-mini", max_tokens: 20, messages: [{ role: "user", content: "Hello" }] }),
  });
  await response.arrayBuffer();
  return response.status;
};

onEachDatabase("a key is made with all that can be chosen, and is shown as it was made", async (t, dialect) => {
  const { admin } = await startAdministered(t, { database: dialect, clock: createTestClock() });
  const wanted = {
    name: "  billing service ",
    soft_cap_usd: 1.5,
    hard_cap_usd: 2,
    week_soft_cap_usd: 3,
    week_hard_cap_usd: 4,
    month_soft_cap_usd: 5,
    month_hard_cap_usd: 6,
    rate_limit_per_min: 7,
    tokens_per_min: 8,
    max_concurrent_requests: 9,
    rescue: "continue",
    expires_at: "2026-12-24T01:00:00+01:00",
    models: ["gpt-4o-mini", "mistral/mistral-small-latest"],
    providers: ["openai"],
    allowed_ips: ["203.0.113.7", "2001:db8::/32"],
    signing_required: true,
    metadata: { team: "billing" },
  };
  const made = await done(admin<Created>("POST", "/admin/keys", { body: wanted }));
  assert.equal(made.status, 201);
  const { key, signing_secret: signingSecret, id } = made.body;
  assert.match(key, /^brikk_[0-9A-Za-z]{46}$/);
  assert.match(signingSecret ?? "", /^brikk_sig_[\w-]{43}$/);
  assert.equal(made.headers.get("location"), `/admin/keys/${id}`);
  assert.equal(made.headers.get("cache-control"), "no-store");

  const shown = await done(admin<Key>("GET", `/admin/keys/${id}`));
  assert.equal(shown.headers.get("etag"), `"${shown.body.version}"`);
  assert.equal(shown.headers.get("etag"), made.headers.get("etag"));
  assert.deepEqual(shown.body, {
    id,
    key_id: id,
    ...wanted,
    name: "billing service",
    expires_at: "2026-12-24T00:00:00.000Z",
    self_service: false,
    created_at: "2026-11-23T12:00:00.000Z",
    revoked_at: null,
    status: "active",
    version: shown.body.version,
    secrets: [{ prefix: key.slice(0, 12), created_at: "2026-11-23T12:00:00.000Z", valid_until: null }],
    has_signing_secret: true,
  });
});

test("amounts are kept to the nano-USD as they were written, whatever a binary fraction would make of them", async (t) => {
  const { brikk, admin } = await startAdministered(t, {
    environment: { BRIKK_DEFAULT_SOFT_CAP_USD: "0", BRIKK_DEFAULT_HARD_CAP_USD: "900000000" },
  });
  const amounts: readonly [string, bigint][] = [
    ["0.1", 100_000_000n],
    ["123456789.123456789", 123_456_789_123_456_789n],
    ["0.000000001", 1n],
    ["1e-7", 100n],
    ["2.50e1", 25_000_000_000n],
    ["1.000000000000000", 1_000_000_000n],
    ["0", 0n],
  ];
  for (const [text, expected] of amounts) {
    const { id } = (
      await done(admin<Created>("POST", "/admin/keys", { body: `{"name":"exact","hard_cap_usd": ${text} }` }))
    ).body;
    const [row] = await brikk.all(`select hard_cap_nano_usd as cap from api_keys where id = '${id}'`);
    assert.equal(row?.["cap"], expected, text);
    await done(change(admin, id, { hard_cap_usd: null }));
    await done(admin("PATCH", `/admin/keys/${id}`, { body: `{"hard_cap_usd":${text}}`, headers: { "if-match": "*" } }));
    assert.equal(
      (await brikk.all(`select hard_cap_nano_usd as cap from api_keys where id = '${id}'`))[0]?.["cap"],
      expected,
    );
  }
});

onEachDatabase(
  "of two administrators who change one version of a key at once exactly one is obeyed, and the other is told",
  async (t, dialect) => {
    const { admin } = await startAdministered(t, { database: dialect });
    const { id } = await make(admin);
    for (let round = 0; round < 10; round += 1) {
      const etag = (await admin("GET", `/admin/keys/${id}`)).headers.get("etag")!;
      const answers = await Promise.all([1, 2].map((who) => change(admin, id, { name: `${round}-${who}` }, etag)));
      assert.deepEqual(
        answers.map(({ status }) => status).sort((a, b) => a - b),
        [200, 412],
      );
      const winner = answers.find(({ status }) => status === 200)!;
      const { error } = answers.find(({ status }) => status === 412)!.body as unknown as Refusal;
      assert.equal(error.code, "version_conflict");
      assert.equal(String(error.details?.["current"]), winner.body.version);
      assert.equal(winner.headers.get("etag"), `"${winner.body.version}"`);
      const now = await admin<Key>("GET", `/admin/keys/${id}`);
      assert.equal(now.body.name, winner.body.name);
    }
  },
);

test("a change must name its version: none is 428, an older one or a weak one is refused, and * overwrites on purpose", async (t) => {
  const { admin } = await startAdministered(t);
  const { id } = await make(admin);
  const first = (await admin("GET", `/admin/keys/${id}`)).headers.get("etag")!;
  const missing = await admin<Refusal>("PATCH", `/admin/keys/${id}`, { body: { name: "b" } });
  assert.deepEqual([missing.status, missing.body.error.code], [428, "precondition_required"]);
  assert.equal((await change(admin, id, { name: "b" }, first)).status, 200);
  for (const [ifMatch, status] of [
    [first, 412],
    ['"no-version-of-ours"', 412],
    [`W/${first}`, 400],
    [first.replaceAll('"', ""), 400],
    [`${first}, "2"`, 400],
  ] as const)
    assert.equal((await change(admin, id, { name: "c" }, ifMatch)).status, status, ifMatch);
  assert.equal((await admin<Key>("GET", `/admin/keys/${id}`)).body.name, "b");
  assert.equal((await change(admin, id, { name: "d" })).body.name, "d");
});

test("what a change does not name stays, and null takes a limit away or back to the default", async (t) => {
  const { admin } = await startAdministered(t);
  const rules = {
    tokens_per_min: 9,
    models: ["gpt-4o-mini"],
    providers: ["openai"],
    allowed_ips: ["203.0.113.0/24"],
    metadata: { a: "1", b: "2" },
    expires_at: "2099-01-01T00:00:00.000Z",
    rescue: "restart",
  };
  const { id } = await make(admin, { hard_cap_usd: 3, rate_limit_per_min: 5, ...rules });
  const before = (await admin<Key>("GET", `/admin/keys/${id}`)).body;
  const renamed = (await done(change(admin, id, { name: "renamed" }))).body;
  assert.deepEqual(renamed, { ...before, name: "renamed", version: renamed.version });
  assert.notEqual(renamed.version, before.version);
  assert.deepEqual((await done(change(admin, id, { metadata: { c: "3" } }))).body.metadata, { c: "3" });
  const nulls = Object.fromEntries(Object.keys(rules).map((field) => [field, null]));
  const bare = (await done(change(admin, id, { ...nulls, hard_cap_usd: null, rate_limit_per_min: null }))).body;
  assert.deepEqual(bare, {
    ...before,
    ...nulls,
    name: "renamed",
    soft_cap_usd: 1000,
    hard_cap_usd: 1000,
    rate_limit_per_min: 100_000,
    version: bare.version,
  });
});

onEachDatabase("every key is on one page and one only, while others are being made", async (t, dialect) => {
  const { brikk, admin } = await startAdministered(t, { database: dialect });
  const KEYS = 1_000;
  await brikk.gateway.database.transact([
    {
      sql: `with recursive n(i) as (select cast(1 as bigint) union all select i + 1 from n where i < ?)
        insert into api_keys (id, name, status, created_at_ms, revision, signing_required, origin)
        select 'bk_' || substr(cast(1000000000000 + i as text), 2), 'seeded', 'active', ? + i / 3, i + 10, 0, 'admin' from n`,
      params: [KEYS, Date.now() - 60_000],
    },
  ]);
  let making = true;
  const made: string[] = [];
  const maker = (async () => {
    while (making) made.push((await make(admin, { name: "late" })).id);
  })();
  const seen: string[] = [];
  let cursor: string | null = null;
  do {
    const page: Page = (
      await done(admin<Page>("GET", `/admin/keys?limit=37${cursor === null ? "" : `&cursor=${cursor}`}`))
    ).body;
    seen.push(...page.data.map(({ id }) => id));
    cursor = page.next_cursor;
    // Who made more than this has shown the point; else the maker could outrun the reader.
    if (made.length > 100) making = false;
  } while (cursor !== null);
  making = false;
  await maker;
  assert.equal(new Set(seen).size, seen.length, "none is there twice");
  const known = new Set(seen);
  for (let index = 1; index <= KEYS; index += 1) assert.ok(known.has(`bk_${String(index).padStart(12, "0")}`));
  assert.ok(known.has(ANONYMOUS_KEY_ID));
  assert.ok(made.length > 0);
});

onEachDatabase(
  "keys are found by status, by a part of the name, by id and by a secret's beginning",
  async (t, dialect) => {
    const { admin } = await startAdministered(t, { database: dialect });
    const alpha = await make(admin, { name: "Alpha 100%" });
    const beta = await make(admin, { name: "beta_1" });
    const accented = await make(admin, { name: "Écu" });
    await done(admin("POST", `/admin/keys/${beta.id}/revoke`));
    const found = async (query: string): Promise<string[]> =>
      (await done(admin<Page>("GET", `/admin/keys?${query}`))).body.data.map(({ id }) => id);
    assert.deepEqual(await found("status=revoked"), [beta.id]);
    assert.deepEqual(await found("status=active&q=a"), [ANONYMOUS_KEY_ID, alpha.id]);
    assert.deepEqual(await found(`q=${encodeURIComponent("Écu")}`), [accented.id], "as it is written");
    assert.deepEqual(await found("status=expired"), []);
    assert.deepEqual(await found("q=alpHA"), [alpha.id]);
    assert.deepEqual(await found("q=100%25"), [alpha.id]);
    assert.deepEqual(await found("q=a_1"), [beta.id], "the wildcards of SQL are letters here");
    assert.deepEqual(await found("q=%25"), [alpha.id]);
    assert.deepEqual(await found(`q=${alpha.id}`), [alpha.id]);
    assert.deepEqual(await found(`q=${beta.key.slice(0, 12)}`), [beta.id]);
    const leaked = await admin<Refusal>("GET", `/admin/keys?q=${alpha.key}`);
    assert.equal(leaked.status, 400);
    assert.ok(!leaked.text.includes(alpha.key.slice(12)));
  },
);

onEachDatabase(
  "a creation that is repeated under its Idempotency-Key makes one key, however many come at once",
  async (t, dialect) => {
    const { brikk, admin } = await startAdministered(t, { database: dialect });
    const create = (body: object, key = "once-and-only-once") =>
      admin<Created & Refusal>("POST", "/admin/keys", { body, headers: { "idempotency-key": key } });
    const asked = { name: "once", signing_required: true };
    const answers = await Promise.all(Array.from({ length: 8 }, () => create(asked)));
    for (const { status, body } of answers) {
      assert.equal(status, 201);
      assert.deepEqual(body, answers[0]!.body);
    }
    assert.equal(answers.filter(({ headers }) => headers.get("idempotent-replayed") === "true").length, 7);
    assert.equal((await brikk.all("select id from api_keys where name = 'once'")).length, 1);
    const other = await create({ name: "another" });
    assert.deepEqual([other.status, other.body.error.code], [422, "idempotency_key_reused"]);
    assert.equal((await create({ name: "another" }, "another-key")).status, 201);
    assert.equal((await create({ name: "third" }, "with space")).status, 400);
  },
);

test("a change is obeyed by the running gateway within a second, whether made here or by another process", async (t) => {
  const { brikk, admin } = await startAdministered(t);
  const elsewhere = createKeyStore({ database: brikk.gateway.database, clock: systemClock });
  const { id, key } = await make(admin);
  const obeyed = async (status: number, secret: string | undefined = key): Promise<void> => {
    const startMs = performance.now();
    while ((await statusOf(brikk, secret)) !== status) {
      assert.ok(performance.now() - startMs < 1_000, `still no ${status}`);
      await wait(10);
    }
  };
  await obeyed(200);
  await done(change(admin, id, { hard_cap_usd: 0, soft_cap_usd: 0 }));
  await obeyed(402);
  await done(change(admin, id, { hard_cap_usd: null, soft_cap_usd: null }));
  await obeyed(200);
  await elsewhere.update(id, (before) => ({ ...before, hardCap: ZERO_USD, softCap: ZERO_USD }));
  await obeyed(402);
  await done(change(admin, id, { hard_cap_usd: null, soft_cap_usd: null }));
  await obeyed(200);
  const rotated = await done(
    admin<{ new_key: string }>("POST", `/admin/keys/${id}/rotate`, { body: { grace_period_seconds: 60 } }),
  );
  await obeyed(200, rotated.body.new_key);
  await obeyed(200);
  await done(admin("POST", `/admin/keys/${id}/revoke`));
  await obeyed(401);
  await obeyed(401, rotated.body.new_key);
});

onEachDatabase(
  "a rotation is told as it was, repeats under its Idempotency-Key, and shows when the old secret ends",
  async (t, dialect) => {
    const clock = createTestClock();
    const { admin } = await startAdministered(t, { database: dialect, clock });
    const { id, key } = await make(admin);
    const rotate = () =>
      admin<Record<string, string>>("POST", `/admin/keys/${id}/rotate`, {
        body: { grace_period_seconds: 3_600 },
        headers: { "idempotency-key": "rotate-1" },
      });
    const [first, second] = await Promise.all([rotate(), rotate()]);
    assert.deepEqual(second.body, first.body);
    assert.deepEqual(first.body, {
      key_id: id,
      old_key_prefix: key.slice(0, 12),
      new_key: first.body["new_key"],
      rotated_at: "2026-11-23T12:00:00.000Z",
      old_key_valid_until: "2026-11-23T13:00:00.000Z",
    });
    const shown = (await admin<Key>("GET", `/admin/keys/${id}`)).body;
    assert.deepEqual(
      new Map(shown.secrets.map(({ prefix, valid_until: validUntil }) => [prefix, validUntil])),
      new Map([
        [key.slice(0, 12), "2026-11-23T13:00:00.000Z"],
        [first.body["new_key"]!.slice(0, 12), null],
      ]),
    );
  },
);

test("revoking is for good and may be repeated, by POST and by DELETE, and nothing else is done to a revoked key", async (t) => {
  const { admin } = await startAdministered(t);
  const { id } = await make(admin);
  const first = await done(admin<Key & { revoked_at: string }>("DELETE", `/admin/keys/${id}`));
  assert.deepEqual([first.body.status, typeof first.body.revoked_at], ["revoked", "string"]);
  for (const again of [admin("POST", `/admin/keys/${id}/revoke`, { body: {} }), admin("DELETE", `/admin/keys/${id}`)])
    assert.deepEqual((await done(again)).body, first.body);
  for (const refused of [
    change(admin, id, { name: "b" }),
    admin("POST", `/admin/keys/${id}/rotate`),
    admin("POST", `/admin/keys/${id}/signing-secret`),
  ]) {
    const { status, text } = await refused;
    assert.equal(status, 400);
    assert.match(text, /revoked for good/);
  }
});

test("the anonymous key may be capped, limited and revoked, but has no secret to rotate or to sign with", async (t) => {
  const { brikk, admin } = await startAdministered(t);
  assert.equal((await done(change(admin, ANONYMOUS_KEY_ID, { rate_limit_per_min: 7 }))).status, 200);
  for (const refused of [
    change(admin, ANONYMOUS_KEY_ID, { signing_required: true }),
    admin("POST", `/admin/keys/${ANONYMOUS_KEY_ID}/rotate`),
    admin("POST", `/admin/keys/${ANONYMOUS_KEY_ID}/signing-secret`),
  ]) {
    const { status, text } = await refused;
    assert.equal(status, 400);
    assert.match(text, /anonymous key/);
  }
  assert.equal(await statusOf(brikk), 200);
  await done(change(admin, ANONYMOUS_KEY_ID, { hard_cap_usd: 0, soft_cap_usd: 0 }));
  assert.equal(await statusOf(brikk), 402);
  await done(admin("POST", `/admin/keys/${ANONYMOUS_KEY_ID}/revoke`));
  assert.equal(await statusOf(brikk), 401);
});

test("signing is asked for only of a key that has a signing secret, which is renewed at will", async (t) => {
  const { admin } = await startAdministered(t);
  const { id } = await make(admin);
  const early = await change(admin, id, { signing_required: true });
  assert.equal(early.status, 400);
  assert.match(early.text, /signing secret/);
  const secrets = await Promise.all(
    [1, 2].map(
      async () => (await done(admin<{ signing_secret: string }>("POST", `/admin/keys/${id}/signing-secret`))).body,
    ),
  );
  assert.notEqual(secrets[0]?.signing_secret, secrets[1]?.signing_secret);
  const changed = await done(change(admin, id, { signing_required: true }));
  assert.deepEqual(
    [changed.body, (await admin<Key>("GET", `/admin/keys/${id}`)).body].map(
      (key) => (key as unknown as Record<string, unknown>)["signing_required"],
    ),
    [true, true],
  );
});

test("secrets are in the answers that make them and nowhere else: no later answer, and no line of the log", async (t) => {
  const lines: string[] = [];
  const { admin } = await startAdministered(t, { log: { write: (line) => void lines.push(line) } });
  const made = await make(admin, { signing_required: true });
  const rotated = (
    await done(
      admin<{ new_key: string }>("POST", `/admin/keys/${made.id}/rotate`, { body: { grace_period_seconds: 60 } }),
    )
  ).body.new_key;
  const signing = (await done(admin<{ signing_secret: string }>("POST", `/admin/keys/${made.id}/signing-secret`))).body
    .signing_secret;
  const later = await Promise.all([
    admin("GET", "/admin/keys"),
    admin("GET", `/admin/keys?q=${made.id}`),
    admin("GET", `/admin/keys/${made.id}`),
    admin("GET", `/admin/keys/${made.id}/usage`),
    admin("GET", "/admin/usage"),
    change(admin, made.id, { name: "renamed" }),
    change(admin, made.id, { name: "renamed" }, '"1"'),
    admin("POST", `/admin/keys/${made.id}/revoke`),
    admin("GET", `/admin/keys/${made.key}`),
    admin("GET", `/admin/usage?key_id=${made.key}`),
  ]);
  const seen = [...later.map(({ text }) => text), ...lines].join("\n");
  // Its beginning is shown on purpose.
  for (const secret of [made.key, rotated].map((text) => text.slice(13))) assert.ok(!seen.includes(secret));
  for (const secret of [made.signing_secret!, signing]) assert.ok(!seen.includes(secret));
});

test("a key's usage is the administrator's to see, as its caller sees it", async (t) => {
  const { brikk, admin } = await startAdministered(t);
  const { id, key } = await make(admin);
  assert.equal(await statusOf(brikk, key), 200);
  const mine = await (await fetch(`${brikk.url}/usage/me`, { headers: { authorization: `Bearer ${key}` } })).json();
  const theirs = await done(admin<{ today: { requests: number } }>("GET", `/admin/keys/${id}/usage`));
  assert.deepEqual(theirs.body, mine);
  assert.equal(theirs.body.today.requests, 1);
});

test("an id that is none of a key's is refused, and one of no key is not found, in words", async (t) => {
  const { admin } = await startAdministered(t);
  for (const [method, path, body] of [
    ["GET", "", undefined],
    ["PATCH", "", { name: "b" }],
    ["DELETE", "", undefined],
    ["POST", "/revoke", undefined],
    ["POST", "/rotate", undefined],
    ["POST", "/signing-secret", undefined],
    ["GET", "/usage", undefined],
  ] as const) {
    const ask = (id: string) =>
      admin<Refusal>(method, `/admin/keys/${id}${path}`, { body, headers: { "if-match": "*" } });
    const unknown = await ask("bk_000000000000");
    assert.deepEqual([unknown.status, unknown.body.error.code, unknown.body.error.param], [404, "not_found", "id"]);
    assert.match(unknown.body.error.message, /There is no key bk_000000000000/);
    for (const id of ["bk_short", "bk_0000000000000", "1", "bk_00000000000%27", "brikk_abc"]) {
      const { status, body: refusal } = await ask(id);
      assert.deepEqual([status, refusal.error.code, refusal.error.param], [400, "invalid_request", "id"], id);
    }
  }
});

/** What is wrong with a body, and the part that the refusal names. */
const BAD: readonly (readonly [name: string, body: unknown, param: string | null, said: RegExp])[] = [
  ["no body", undefined, null, /expected object/],
  ["a list", [], null, /must be a JSON object/],
  ["an unknown member", { hard_cap: 5 }, null, /"hard_cap"/],
  ["an empty name", { name: " " }, "name", /empty/],
  ["a name with a line break", { name: "a\nb" }, "name", /control/],
  ["a name that is too long", { name: "x".repeat(101) }, "name", /at most 100/],
  ["an amount in quotes", { hard_cap_usd: "5" }, "hard_cap_usd", /number/],
  ["an amount below zero", { hard_cap_usd: -0.01 }, "hard_cap_usd", />=0/],
  ["less than a nano-USD", `{"name":"a","hard_cap_usd":0.0000000001}`, "hard_cap_usd", /9 decimals/],
  [
    "a tenth decimal that a float would hide",
    `{"name":"a","hard_cap_usd":0.1000000000000000055511151231257827}`,
    "hard_cap_usd",
    /9 decimals/,
  ],
  ["an amount beyond all", `{"name":"a","hard_cap_usd":1e12}`, "hard_cap_usd", /<=999999999/],
  [
    "a soft cap above the hard cap",
    { soft_cap_usd: 3, hard_cap_usd: 2 },
    "soft_cap_usd",
    /soft cap of 3 USD is above the hard cap of 2 USD/,
  ],
  ["the same for the week", { week_soft_cap_usd: 3, week_hard_cap_usd: 2 }, "week_soft_cap_usd", /the week's soft cap/],
  ["no requests at all", { rate_limit_per_min: 0 }, "rate_limit_per_min", />=1/],
  ["half a request", { rate_limit_per_min: 1.5 }, "rate_limit_per_min", /int/],
  ["too many at once", { max_concurrent_requests: 1_000_001 }, "max_concurrent_requests", /<=1000000/],
  ["a rescue of another kind", { rescue: "always" }, "rescue", /continue/],
  ["an end without a zone", { expires_at: "2099-01-01T00:00:00" }, "expires_at", /RFC 3339/],
  ["an end that no calendar has", { expires_at: "2099-02-30T00:00:00Z" }, "expires_at", /RFC 3339/],
  ["an end that has passed", { expires_at: "2020-01-01T00:00:00Z" }, "expires_at", /has passed/],
  ["a list of nothing", { models: [] }, "models", /[Tt]oo small|>=1/],
  ["a model twice", { models: ["a", "a"] }, "models", /twice/],
  ["a model with a space", { models: ["a b"] }, "models", /no name/],
  ["a provider that is a number", { providers: [1] }, "providers[0]", /string/],
  ["an address that is none", { allowed_ips: ["10.0.0.256"] }, "allowed_ips", /10\.0\.0\.256/],
  ["an address in octal", { allowed_ips: ["010.0.0.1"] }, "allowed_ips", /decimal/],
  ["metadata that is no text", { metadata: { a: 1 } }, "metadata.a", /string/],
  [
    "too much metadata",
    { metadata: Object.fromEntries(Array.from({ length: 17 }, (_, index) => [`n${index}`, ""])) },
    "metadata",
    /17 pairs/,
  ],
  ["a metadata name that is too long", { metadata: { ["n".repeat(65)]: "" } }, "metadata", /64/],
  ["a metadata value that is too long", { metadata: { a: "v".repeat(513) } }, "metadata", /512/],
  ["a member twice", `{"name":"a","name":"b"}`, null, /twice/],
  ["a prototype", `{"name":"a","metadata":{"__proto__":"x"}}`, null, /__proto__/],
];

test("a body that is wrong is refused with the part at fault, on making and on changing, and does nothing", async (t) => {
  const { brikk, admin } = await startAdministered(t);
  const { id } = await make(admin);
  const before = await brikk.all("select * from api_keys order by id");
  for (const [name, body, param, said] of BAD) {
    const whole = typeof body === "object" && !Array.isArray(body) ? { name: "a", ...body } : body;
    for (const answering of [
      admin<Refusal>("POST", "/admin/keys", { body: whole }),
      admin<Refusal>("PATCH", `/admin/keys/${id}`, { body, headers: { "if-match": "*" } }),
    ]) {
      const { status, body: refusal } = await answering;
      assert.deepEqual([status, refusal.error.code, refusal.error.param], [400, "invalid_request", param], name);
      assert.match(refusal.error.message, said, name);
    }
  }
  const nameless = await admin<Refusal>("POST", "/admin/keys", { body: {} });
  assert.deepEqual([nameless.status, nameless.body.error.param], [400, "name"]);
  assert.equal((await change(admin, id, {})).status, 400);
  assert.equal((await change(admin, id, { key: "brikk_mine" })).status, 400);
  for (const query of ["limit=0", "limit=201", "cursor=none", "status=gone", "q=", "q=%00", "page=2"])
    assert.equal((await admin("GET", `/admin/keys?${query}`)).status, 400, query);
  for (const grace of [-1, 604_801, 1.5, "60"])
    assert.equal(
      (await admin("POST", `/admin/keys/${id}/rotate`, { body: { grace_period_seconds: grace } })).status,
      400,
    );
  assert.deepEqual(await brikk.all("select * from api_keys order by id"), before);
});
