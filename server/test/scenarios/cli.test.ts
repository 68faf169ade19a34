import assert from "node:assert/strict";
import { join } from "node:path";
import { test } from "node:test";
import { createAuthenticator } from "../../src/access/authenticate.ts";
import { createKeyRing } from "../../src/access/key-ring.ts";
import { createKeyStore } from "../../src/access/key-store.ts";
import { BrikkError } from "../../src/errors.ts";
import { systemClock } from "../../src/lib/clock.ts";
import { lockInstance } from "../../src/storage/instance-lock.ts";
import { openDatabase } from "../../src/storage/open-database.ts";
import { eventRow, insertEvents, rollUpEvents } from "../ledger/ledger-rows.ts";
import { brikkInProcess, brikkOnScratch, printed, type Ran, runHere } from "./brikk-command.ts";

interface PrintedKey {
  readonly id: string;
  readonly key_id: string;
  readonly key: string;
  readonly status: string;
  readonly secrets: readonly { readonly prefix: string; readonly valid_until: string | null }[];
}

/** A key's rules where nothing was chosen. */
const NO_RULES = {
  models: null,
  providers: null,
  allowed_ips: null,
  signing_required: false,
  metadata: null,
  self_service: false,
  revoked_at: null,
};

test("a key's life: made with its secret shown once, listed without it, revoked once and for all", async (t) => {
  const { brikk } = brikkOnScratch(t);
  const made = await printed<PrintedKey & Record<string, unknown>>(
    brikk(
      "keys",
      "create",
      "--name",
      "demo",
      "--soft-cap-usd",
      "0.5",
      "--hard-cap-usd",
      "1.25",
      "--rate-limit-per-min",
      "7",
      "--expires-in-days",
      "2",
      "--json",
    ),
  );
  assert.match(made.id, /^bk_[0-9A-Za-z]{12}$/);
  assert.match(made.key, /^brikk_[0-9A-Za-z]{46}$/);
  const createdAt = String(made["created_at"]);
  assert.deepEqual(made, {
    id: made.id,
    key_id: made.id,
    key: made.key,
    name: "demo",
    soft_cap_usd: 0.5,
    hard_cap_usd: 1.25,
    week_soft_cap_usd: null,
    week_hard_cap_usd: null,
    month_soft_cap_usd: null,
    month_hard_cap_usd: null,
    rate_limit_per_min: 7,
    tokens_per_min: null,
    max_concurrent_requests: null,
    rescue: null,
    ...NO_RULES,
    created_at: createdAt,
    expires_at: made["expires_at"],
  });
  // The end is counted from the moment of asking, which is a little before the key is stored.
  const livesMs = Date.parse(String(made["expires_at"])) - Date.parse(createdAt);
  assert.ok(livesMs <= 2 * 86_400_000 && livesMs > 2 * 86_400_000 - 60_000, `lives for ${livesMs} ms`);

  const listing = await brikk("keys", "list", "--json");
  assert.ok(!listing.stdout.includes(made.key));
  const [listed] = JSON.parse(listing.stdout) as PrintedKey[];
  assert.equal(listed?.status, "active");
  assert.deepEqual(
    listed?.secrets.map(({ prefix }) => prefix),
    [made.key.slice(0, 12)],
  );
  assert.match(
    (await brikk("keys", "list")).stdout,
    new RegExp(`${made.id}  demo +active +${made.key.slice(0, 12)}\\.\\.\\. +\\$0\\.50 +\\$1\\.25 +7 `),
  );

  const revoked = await printed<PrintedKey>(brikk("keys", "revoke", made.id, "--json"));
  assert.equal(revoked.status, "revoked");
  assert.match((await brikk("keys", "revoke", made.id)).stdout, /already revoked, on 20/);
  assert.equal((await printed<PrintedKey[]>(brikk("keys", "list", "--json")))[0]?.status, "revoked");
});

test("what people read says that the secret is shown once and gives a curl line that holds it", async (t) => {
  const { brikkWith } = brikkOnScratch(t);
  const { code, stdout } = await brikkWith(
    { PORT: "9123", BRIKK_DEFAULT_HARD_CAP_USD: "20" },
    "keys",
    "create",
    "--name",
    "Ana's laptop",
  );
  assert.equal(code, 0);
  const secret = /brikk_[0-9A-Za-z]{46}/.exec(stdout)?.[0];
  assert.ok(secret !== undefined);
  assert.match(stdout, /Key "Ana's laptop" is ready/);
  assert.match(stdout, /shown this once and cannot be read back/);
  assert.match(stdout, /Hard cap +\$20\.00 a day \(the server's default\)/);
  assert.ok(stdout.includes("curl http://127.0.0.1:9123/v1/chat/completions"));
  assert.ok(stdout.includes(`-H "Authorization: Bearer ${secret}"`));
  JSON.parse(/-d '(.*)'/.exec(stdout)?.[1] ?? "");
});

test("a key's caps and limits are changed one by one, and taken back to the default or to none", async (t) => {
  const { brikk } = brikkInProcess(t);
  const made = await printed<PrintedKey>(brikk("keys", "create", "--name", "demo", "--json"));
  const update = (...options: string[]): Promise<Record<string, unknown>> =>
    printed(brikk("keys", "update", made.id, ...options, "--json"));
  const before = await update("--name", "renamed");
  assert.deepEqual([before["name"], before["hard_cap_usd"], before["expires_at"]], ["renamed", 10, null]);

  const given = { week_soft_cap_usd: 20, week_hard_cap_usd: 40, month_hard_cap_usd: 100 };
  // With a hard cap of its own for the week, the default one of the day is gone.
  const held = { ...before, ...given, soft_cap_usd: null, hard_cap_usd: null };
  assert.deepEqual(
    await update("--week-soft-cap-usd", "20", "--week-hard-cap-usd", "40", "--month-hard-cap-usd", "100"),
    held,
  );
  const limits = { rate_limit_per_min: 7, tokens_per_min: 5_000, max_concurrent_requests: 4 };
  assert.deepEqual(await update("--rate-limit-per-min", "7", "--tokens-per-min", "5000", "--max-concurrent", "4"), {
    ...held,
    ...limits,
  });
  const { stdout } = await brikk("keys", "list");
  assert.match(
    stdout,
    / SOFT CAP +HARD CAP +WEEK SOFT +WEEK HARD +MONTH HARD +PER MINUTE +TOKENS\/MIN +AT ONCE +CREATED/,
  );
  assert.match(stdout, / - +- +\$20\.00 +\$40\.00 +\$100\.00 +7 +5000 +4 +20/);
  assert.deepEqual(await update("--hard-cap-usd", "3"), { ...held, ...limits, soft_cap_usd: 3, hard_cap_usd: 3 });
  assert.deepEqual(await update("--hard-cap-usd", "20"), { ...held, ...limits, soft_cap_usd: 5, hard_cap_usd: 20 });

  const none = ["--week-soft-cap-usd", "none", "--week-hard-cap-usd", "none", "--month-hard-cap-usd", "none"];
  const plain = ["--tokens-per-min", "none", "--max-concurrent", "none", "--rate-limit-per-min", "default"];
  assert.deepEqual(await update(...none, ...plain, "--hard-cap-usd", "default"), before);
  assert.ok((await update("--expires-in-days", "1"))["expires_at"] !== null);
  assert.deepEqual(await update("--expires-in-days", "never"), before);
  assert.equal((await update("--expires-at", "2100-01-01T09:30:00Z"))["expires_at"], "2100-01-01T09:30:00.000Z");
  assert.equal((await update("--expires-at", "2100-01-01"))["expires_at"], "2100-01-01T00:00:00.000Z");
  assert.deepEqual(await update("--expires-at", "never"), before);
  assert.match((await brikk("keys", "list")).stdout, / SOFT CAP +HARD CAP +PER MINUTE +CREATED +EXPIRES/);
});

test("a change that contradicts what the key has is refused in a sentence and changes nothing", async (t) => {
  const { brikk } = brikkInProcess(t);
  const { id } = await printed<PrintedKey>(
    brikk("keys", "create", "--name", "demo", "--soft-cap-usd", "2", "--hard-cap-usd", "4", "--json"),
  );
  const before = (await brikk("keys", "list", "--json")).stdout;
  const cases: readonly [string[], RegExp][] = [
    [["--hard-cap-usd", "1"], /soft cap of 2 USD is above the hard cap of 1 USD/],
    [["--soft-cap-usd", "11", "--hard-cap-usd", "default"], /11 USD is above the default hard cap of 10 USD/],
    [["--week-soft-cap-usd", "5", "--week-hard-cap-usd", "4"], /the week's soft cap of 5 USD/],
  ];
  for (const [args, said] of cases) {
    const { code, stdout, stderr } = await brikk("keys", "update", id, ...args);
    assert.deepEqual([code, stdout], [2, ""]);
    assert.match(stderr, said);
    assert.match(stderr, ONE_SENTENCE);
  }
  assert.equal((await brikk("keys", "list", "--json")).stdout, before);
  await brikk("keys", "revoke", id);
  const { code, stderr } = await brikk("keys", "update", id, "--name", "b");
  assert.equal(code, 1);
  assert.match(stderr, /was revoked for good/);
});

const RULES = [
  ["--models", "gpt-4o-mini, brikk/auto"],
  ["--providers", "openai"],
  ["--allowed-ips", "203.0.113.7,2001:db8::/32"],
  ["--metadata", "team=billing"],
  ["--metadata", "note=a=b"],
].flat();

test("a key's rules are given, shown, kept by a change of something else, and taken away", async (t) => {
  const { brikk } = brikkInProcess(t);
  const rules = {
    models: ["gpt-4o-mini", "brikk/auto"],
    providers: ["openai"],
    allowed_ips: ["203.0.113.7", "2001:db8::/32"],
    metadata: { team: "billing", note: "a=b" },
  };
  const made = await printed<PrintedKey & Record<string, unknown>>(
    brikk("keys", "create", "--name", "demo", ...RULES, "--json"),
  );
  const show = async (): Promise<Record<string, unknown>> => printed(brikk("keys", "show", made.id, "--json"));
  const shown = await show();
  assert.deepEqual({ ...shown, ...rules }, shown);
  await brikk("keys", "update", made.id, "--rate-limit-per-min", "7");
  const limited = await show();
  assert.deepEqual(limited, { ...shown, rate_limit_per_min: 7, version: limited["version"] });
  const text = (await brikk("keys", "show", made.id)).stdout;
  for (const line of [
    /Status +active/,
    /Models +gpt-4o-mini, brikk\/auto/,
    /Metadata +note=a=b/,
    /Secret +brikk_\w{6}\.\.\./,
  ])
    assert.match(text, line);
  assert.ok(!text.includes(made.key));

  const all = ["--models", "all", "--providers", "all", "--allowed-ips", "all", "--metadata", "none"];
  await brikk("keys", "update", made.id, ...all, "--rate-limit-per-min", "default");
  const bare = await show();
  assert.deepEqual(bare, { ...shown, ...NO_RULES, version: bare["version"] });
});

test("secrets are renewed with the old one in its grace, and signing is asked for once there is a secret to sign with", async (t) => {
  const { brikk } = brikkInProcess(t);
  const { id, key } = await printed<PrintedKey>(brikk("keys", "create", "--name", "demo", "--json"));
  const rotated = await printed<Record<string, string>>(brikk("keys", "rotate", id, "--grace-hours", "2", "--json"));
  assert.match(rotated["new_key"] ?? "", /^brikk_[0-9A-Za-z]{46}$/);
  assert.equal(rotated["old_key_prefix"], key.slice(0, 12));
  assert.equal(Date.parse(rotated["old_key_valid_until"]!) - Date.parse(rotated["rotated_at"]!), 7_200_000);
  const { secrets } = await printed<PrintedKey>(brikk("keys", "show", id, "--json"));
  assert.deepEqual(
    new Map(secrets.map(({ prefix, valid_until: validUntil }) => [prefix, validUntil])),
    new Map([
      [key.slice(0, 12), rotated["old_key_valid_until"]],
      [rotated["new_key"]?.slice(0, 12), null],
    ]),
  );

  const early = await brikk("keys", "update", id, "--signing-required");
  assert.deepEqual([early.code, early.stdout], [2, ""]);
  assert.match(early.stderr, /--signing-required needs a signing secret/);
  const { signing_secret: signing } = await printed<Record<string, string>>(
    brikk("keys", "new-signing-secret", id, "--json"),
  );
  assert.match(signing ?? "", /^brikk_sig_/);
  const signed = await printed<Record<string, unknown>>(brikk("keys", "update", id, "--signing-required", "--json"));
  assert.equal(signed["signing_required"], true);
  const unsigned = await printed<Record<string, unknown>>(
    brikk("keys", "update", id, "--no-signing-required", "--json"),
  );
  assert.equal(unsigned["signing_required"], false);

  const { stdout } = await brikk("keys", "create", "--name", "signing", "--signing-required");
  assert.match(stdout, /Signing +brikk_sig_[\w-]{43}/);
  await brikk("keys", "revoke", id);
  for (const args of [
    ["rotate", id],
    ["new-signing-secret", id],
  ]) {
    const { code, stderr } = await brikk("keys", ...args);
    assert.equal(code, 1);
    assert.match(stderr, /was revoked for good/);
  }
});

test("the usage of all keys is summed up by whatever is asked for", async (t) => {
  const { brikk, url } = brikkInProcess(t);
  const { id } = await printed<PrintedKey>(brikk("keys", "create", "--name", "demo", "--json"));
  const database = await openDatabase({ url });
  t.after(() => database.close());
  const at = (keyId: string, model: string) =>
    eventRow({ key_id: keyId, model, occurred_at_ms: BigInt(Date.now() - 86_400_000), cost_nano_usd: 250_000_000n });
  await insertEvents(database, [at(id, "model-a"), at(id, "model-b"), at("bk_other0000001", "model-b")]);
  await rollUpEvents(database);

  const { stdout } = await brikk("usage", "summary");
  assert.match(stdout, /\$0\.75 for 3 requests/);
  assert.match(
    stdout,
    new RegExp(`KEY +NAME +COST +REQUESTS.*\\n${id}  demo  \\$0\\.50 +2 +32 +48\\nbk_other0000001  - +\\$0\\.25 +1`),
  );
  interface Summary {
    readonly total: { readonly cost_usd: number };
    readonly data: readonly { readonly group: string; readonly cost_usd: number }[];
    readonly complete: boolean;
  }
  const byModel = await printed<Summary>(brikk("usage", "summary", "--by", "model", "--key", id, "--json"));
  assert.deepEqual(
    [byModel.total.cost_usd, byModel.data.map(({ group, cost_usd: cost }) => [group, cost]), byModel.complete],
    [
      0.5,
      [
        ["model-a", 0.25],
        ["model-b", 0.25],
      ],
      true,
    ],
  );
  const first = await brikk("usage", "summary", "--by", "provider", "--limit", "1", "--from", "2020-01-01");
  assert.equal(first.code, 2);
  assert.match(first.stderr, /at most 366 days/);
});

test("a running server sees a changed key with the next poll", async (t) => {
  const { brikk, url } = brikkOnScratch(t);
  const database = await openDatabase({ url });
  t.after(() => database.close());
  const keyRing = createKeyRing({ database, clock: systemClock });
  await keyRing.start();
  t.after(() => keyRing.stop());
  const { id } = await printed<PrintedKey>(brikk("keys", "create", "--name", "live", "--json"));
  await brikk("keys", "update", id, "--month-hard-cap-usd", "0.25", "--max-concurrent", "2");
  await keyRing.refresh();
  const key = keyRing.get(id);
  assert.deepEqual([key?.month, key?.maxConcurrentRequests], [{ hardCap: 250_000_000n }, 2]);
});

test("while a server runs, a key made by the command line works at once and a revoked one ends with the next poll", async (t) => {
  const { brikk, path, url } = brikkOnScratch(t);
  const lock = lockInstance(path);
  t.after(() => lock.release());
  const database = await openDatabase({ url });
  t.after(() => database.close());
  const anonymousKey = await createKeyStore({ database, clock: systemClock }).ensureAnonymousKey();
  const keyRing = createKeyRing({ database, clock: systemClock });
  await keyRing.start();
  t.after(() => keyRing.stop());
  const authenticate = createAuthenticator({ keyRing, requireAuth: true, anonymousKey, clock: systemClock });

  const made = await printed<PrintedKey>(brikk("keys", "create", "--name", "live", "--json"));
  assert.equal((await authenticate({ "x-brikk-api-key": made.key })).id, made.id);
  assert.equal((await brikk("keys", "revoke", made.id)).code, 0);
  await keyRing.refresh();
  assert.throws(
    () => authenticate({ "x-brikk-api-key": made.key }),
    (error) => error instanceof BrikkError && error.code === "key_revoked",
  );
});

const answered = (...args: string[]): Promise<Ran> => runHere("", {}, args);

test("help is there for every command and goes to standard output", async () => {
  const cases: readonly [string[], RegExp][] = [
    [["--help"], /Brikk's command line/],
    [["help"], /Brikk's command line/],
    [["keys", "--help"], /Makes, lists, changes and revokes/],
    [["keys", "update", "--help"], /the one you gave is the only hard cap/],
    [["ledger", "--help"], /what every budget has spent/],
    [["ledger", "verify", "--help"], /window-spent/],
    [["ledger", "export", "-h"], /--format csv\|jsonl/],
    [["audit", "--help"], /every act of an administrator/],
    [["audit", "verify", "--help"], /--expect-head SEQUENCE:HASH/],
    [["audit", "list", "--help"], /newest first/],
    [["keys", "create", "--help"], /--hard-cap-usd USD/],
    [["keys", "list", "-h"], /oldest first/],
    [["keys", "revoke", "--help"], /KEY_ID/],
    [["keys", "reencrypt", "--help"], /Give the new key to every server first/],
    [["credentials", "--help"], /win over the environment's/],
    [["credentials", "set", "--help"], /read from standard input/],
    [["credentials", "list", "--help"], /No key is shown/],
    [["credentials", "remove", "--help"], /the environment's holds again/],
    [["keys", "show", "--help"], /beginnings of its secrets/],
    [["keys", "rotate", "--help"], /--grace-hours N/],
    [["keys", "new-signing-secret", "--help"], /The old one ends at once/],
    [["usage", "--help"], /by whom and for what/],
    [["usage", "summary", "--help"], /--by WHAT/],
  ];
  for (const [args, text] of cases) {
    const { code, stdout, stderr } = await answered(...args);
    assert.deepEqual([code, stderr], [0, ""]);
    assert.match(stdout, text);
  }
});

const misuses: readonly [string[], RegExp][] = [
  [["key"], /There is no command "key"/],
  [["keys"], /keys create, keys list, .* or keys \w+/],
  [["keys", "delete"], /There is no command "keys delete"/],
  [["keys", "create"], /add --name NAME/],
  [["keys", "create", "demo"], /give the name as --name NAME/],
  [["keys", "create", "--name", " "], /add --name NAME/],
  [["keys", "create", "--name", "x".repeat(101)], /at most 100 characters/],
  [["keys", "create", "--name", "bad\u001b[31m"], /no control characters/],
  [["keys", "create", "--name", "a", "--hard-cap", "5"], /Unknown option '--hard-cap'\. Add --help/],
  [["keys", "create", "--name", "a", "--hard-cap-usd", "five"], /--hard-cap-usd is "five"; give an amount/],
  [["keys", "create", "--name", "a", "--soft-cap-usd=-1"], /--soft-cap-usd is "-1"; give an amount/],
  [["keys", "create", "--name", "a", "--rate-limit-per-min", "0"], /give a whole number from 1 to 1000000/],
  [["keys", "create", "--name", "a", "--expires-in-days", "1.5"], /give a whole number from 1 to 36500/],
  [["keys", "create", "--name", "a", "--expires-at", "tomorrow"], /--expires-at is "tomorrow"; give a date such as/],
  [
    ["keys", "create", "--name", "a", "--expires-at", "2020-01-01"],
    /--expires-at has passed; a key that is to end now/,
  ],
  [
    ["keys", "create", "--name", "a", "--expires-at", "2100-01-01", "--expires-in-days", "2"],
    /Give either --expires-in-days or --expires-at/,
  ],
  [
    ["keys", "create", "--name", "a", "--week-hard-cap-usd", "default"],
    /give an amount of USD such as 5 or 0\.50, or none/,
  ],
  [["keys", "update"], /Which key\? Give its id, as in: keys update bk_/],
  [["keys", "update", "bk_000000000000"], /What is to change\?/],
  [["keys", "update", "bk_000000000000", "--json"], /What is to change\?/],
  [["keys", "update", "bk_000000000000", "--hard-cap-usd", "none"], /or default/],
  [
    ["keys", "update", "bk_000000000000", "--month-hard-cap-usd", "much"],
    /--month-hard-cap-usd is "much"; .*, or none/,
  ],
  [["keys", "update", "bk_000000000000", "--tokens-per-min", "0"], /from 1 to 999999999, or none/],
  [["keys", "update", "bk_000000000000", "--expires-in-days", "none"], /from 1 to 36500, or never/],
  [["keys", "update", "brikk_abc", "--name", "b"], /That is a secret, not an id/],
  [["ledger"], /ledger verify or ledger export/],
  [["audit"], /audit list or audit verify/],
  [["audit", "verify", "now"], /takes only --expect-head and --json/],
  [["audit", "verify", "--expect-head", "12"], /--expect-head is "12"; give an entry's number and hash/],
  [["audit", "list", "all"], /"all" is not understood/],
  [["audit", "list", "--kind", "crime"], /--kind is "crime"; give one of request, refusal, act, notice/],
  [["audit", "list", "--from", "2026-11-02", "--to", "2026-11-02"], /--from must be before --to/],
  [["audit", "list", "--key", "brikk_abc"], /That is a secret, not an id/],
  [["ledger", "verify", "now"], /takes only --json/],
  [["ledger", "export"], /Add --from with a date such as 2026-11-23/],
  [["ledger", "export", "--from", "yesterday"], /--from is "yesterday"; give a date/],
  [["ledger", "export", "--from", "2026-02-30"], /--from is "2026-02-30"/],
  [["ledger", "export", "--from", "2026-11-02", "--to", "2026-11-02", "--format", "csv"], /--from must be before --to/],
  [["ledger", "export", "--from", "2026-11-01", "--to", "2026-11-02"], /Add --format csv or --format jsonl/],
  [["ledger", "export", "--from", "2026-11-01", "--to", "2026-11-02", "--format", "xml"], /give csv or jsonl/],
  [
    ["ledger", "export", "--from", "2026-11-01", "--to", "2026-11-02", "--format", "csv", "--key", "brikk_abc"],
    /That is a secret/,
  ],
  [["keys", "list", "all"], /takes only --json/],
  [["keys", "reencrypt", "now"], /takes only --json/],
  [["credentials"], /credentials set, credentials list or credentials remove/],
  [["credentials", "set"], /Which provider\?/],
  [["credentials", "set", "openai", "sk-on-the-command-line"], /a key is read from standard input, never from here/],
  [["credentials", "set", "sk-ON-THE-COMMAND-LINE"], /That is not a provider's name/],
  [["credentials", "remove"], /Which provider\?/],
  [["credentials", "list", "openai"], /takes only --json/],
  [["keys", "revoke"], /Which key\?/],
  [["keys", "revoke", "bk_a", "bk_b"], /One key at a time/],
  [["keys", "revoke", "brikk_abc"], /That is a secret, not an id/],
  [["keys", "show"], /Which key\?/],
  [["keys", "rotate", "bk_anonymous000"], /nothing to rotate/],
  [["keys", "rotate", "bk_000000000000", "--grace-hours", "169"], /from 0 to 168/],
  [["keys", "new-signing-secret", "bk_anonymous000"], /no signing secret/],
  [["keys", "create", "--name", "a", "--models", ","], /--models is empty/],
  [["keys", "create", "--name", "a", "--models", "a,a"], /--models has an entry twice/],
  [["keys", "create", "--name", "a", "--models", "a b"], /--models has an entry that is no name/],
  [["keys", "create", "--name", "a", "--allowed-ips", "here"], /--allowed-ips "here" is not an address/],
  [["keys", "create", "--name", "a", "--metadata", "team"], /give NAME=VALUE/],
  [["keys", "create", "--name", "a", "--metadata", "team=a", "--metadata", "team=b"], /team twice/],
  [["keys", "update", "bk_000000000000", "--signing-required", "--no-signing-required"], /Give either/],
  [["usage"], /Say usage summary/],
  [["usage", "summary", "all"], /say what is wanted with options/],
  [["usage", "summary", "--by", "caller"], /give key, provider, model or day/],
  [["usage", "summary", "--key", "brikk_abc"], /That is a secret/],
  [["usage", "summary", "--limit", "0"], /from 1 to 1000/],
];

const EXPORT = ["ledger", "export", "--from", "2026-11-01", "--to", "2026-12-01", "--format", "csv"] as const;
const ONE_SENTENCE = /^[^\n]+\n$/;

for (const [args, said] of misuses) {
  test(`misuse is one sentence on standard error and exit code 2: ${JSON.stringify(args.join(" ")).slice(0, 60)}`, async () => {
    const { code, stdout, stderr } = await answered(...args);
    assert.deepEqual([code, stdout], [2, ""]);
    assert.match(stderr, said);
    assert.match(stderr, ONE_SENTENCE);
  });
}

test("no command at all shows what there is, as misuse", async () => {
  const { code, stdout, stderr } = await answered();
  assert.deepEqual([code, stdout], [2, ""]);
  assert.match(stderr, /keys create --name NAME/);
});

test("a soft cap above the hard cap, given or default, is refused and makes no key", async (t) => {
  const { brikk } = brikkInProcess(t);
  const cases: readonly [string[], RegExp][] = [
    [["--soft-cap-usd", "3", "--hard-cap-usd", "2"], /soft cap of 3 USD is above the hard cap of 2 USD/],
    [["--soft-cap-usd", "30"], /above the default hard cap of 10 USD/],
    [
      ["--week-soft-cap-usd", "9", "--week-hard-cap-usd", "8"],
      /the week's soft cap of 9 USD is above the week's hard cap of 8 USD.* Lower --week-soft-cap-usd/,
    ],
    [["--month-soft-cap-usd", "9", "--month-hard-cap-usd", "8"], /the month's soft cap of 9 USD/],
  ];
  for (const [args, said] of cases) {
    const { code, stderr } = await brikk("keys", "create", "--name", "a", ...args);
    assert.equal(code, 2);
    assert.match(stderr, said);
    assert.match(stderr, ONE_SENTENCE);
  }
  assert.match((await brikk("keys", "list")).stdout, /There are no keys yet/);
});

test("what cannot be done is one sentence and exit code 1", async (t) => {
  const { brikk, brikkWith, path } = brikkInProcess(t);
  const cases: readonly [Promise<Ran>, RegExp][] = [
    [brikk("keys", "revoke", "bk_000000000000"), /There is no key bk_000000000000/],
    [brikk("keys", "update", "bk_000000000000", "--name", "b"), /There is no key bk_000000000000/],
    [brikk("keys", "show", "bk_000000000000"), /There is no key bk_000000000000/],
    [brikk("keys", "rotate", "bk_000000000000"), /There is no key bk_000000000000/],
    [brikk("keys", "new-signing-secret", "bk_000000000000"), /There is no key bk_000000000000/],
    [brikk(...EXPORT, "--key", "bk_000000000000"), /There is no key bk_000000000000/],
    [brikkWith({ PORT: "many" }, "keys", "list"), /PORT is "many"/],
    [brikkWith({ DATABASE_URL: `sqlite:${join(path, "..", "..")}` }, "keys", "list"), /is a folder/],
  ];
  for (const [running, said] of cases) {
    const { code, stdout, stderr } = await running;
    assert.deepEqual([code, stdout], [1, ""]);
    assert.match(stderr, said);
    assert.match(stderr, ONE_SENTENCE);
  }
});
