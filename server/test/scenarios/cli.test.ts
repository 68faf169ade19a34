import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { join } from "node:path";
import { test, type TestContext } from "node:test";
import { fileURLToPath } from "node:url";
import { createAuthenticator } from "../../src/access/authenticate.ts";
import { createKeyRing } from "../../src/access/key-ring.ts";
import { createKeyStore } from "../../src/access/key-store.ts";
import { runCli } from "../../src/cli.ts";
import { BrikkError } from "../../src/errors.ts";
import { systemClock } from "../../src/lib/clock.ts";
import { lockInstance } from "../../src/storage/instance-lock.ts";
import { openDatabase } from "../../src/storage/open-database.ts";
import { scratchFolder, sourceUrl } from "../storage/scratch.ts";

interface Ran {
  readonly code: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

/** The command line as a process of its own, on a database of the test's own and no other setting. */
function setUp(t: TestContext) {
  const path = join(scratchFolder(t), "data", "brikk.db");
  const url = `sqlite:${path}`;
  const brikkWith = (environment: Record<string, string>, ...args: string[]): Promise<Ran> =>
    new Promise((resolve, reject) => {
      const child = spawn(process.execPath, [fileURLToPath(sourceUrl("cli.ts")), ...args], {
        env: {
          PATH: process.env["PATH"],
          DATABASE_URL: url,
          ...environment,
          NODE_V8_COVERAGE: process.env["NODE_V8_COVERAGE"] ?? "",
        },
      });
      let stdout = "";
      let stderr = "";
      child.stdout.setEncoding("utf8").on("data", (text: string) => (stdout += text));
      child.stderr.setEncoding("utf8").on("data", (text: string) => (stderr += text));
      child.on("error", reject).on("close", (code) => resolve({ code, stdout, stderr }));
    });
  const brikk = (...args: string[]): Promise<Ran> => brikkWith({}, ...args);
  return { path, url, brikk, brikkWith };
}

/** Standard output of a command that went well, as JSON. */
async function printed<T>(running: Promise<Ran>): Promise<T> {
  const { code, stdout, stderr } = await running;
  assert.equal(code, 0, stderr);
  assert.equal(stderr, "");
  return JSON.parse(stdout) as T;
}

interface PrintedKey {
  readonly id: string;
  readonly key_id: string;
  readonly key: string;
  readonly status: string;
  readonly prefixes: readonly string[];
}

test("a key's life: made with its secret shown once, listed without it, revoked once and for all", async (t) => {
  const { brikk } = setUp(t);
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
    rate_limit_per_min: 7,
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
  assert.deepEqual(listed?.prefixes, [made.key.slice(0, 12)]);
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
  const { brikkWith } = setUp(t);
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

test("while a server runs, a key made by the command line works at once and a revoked one ends with the next poll", async (t) => {
  const { brikk, path, url } = setUp(t);
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

/** The command line inside this process, for what it answers before it opens anything. */
async function answered(...args: string[]): Promise<Ran> {
  let stdout = "";
  let stderr = "";
  const code = await runCli(args, {
    stdout: { write: (text) => (stdout += text) },
    stderr: { write: (text) => (stderr += text) },
  });
  return { code, stdout, stderr };
}

test("help is there for every command and goes to standard output", async () => {
  const cases: readonly [string[], RegExp][] = [
    [["--help"], /Brikk's command line/],
    [["help"], /Brikk's command line/],
    [["keys", "--help"], /Makes, lists and revokes/],
    [["keys", "create", "--help"], /--hard-cap-usd USD/],
    [["keys", "list", "-h"], /oldest first/],
    [["keys", "revoke", "--help"], /KEY_ID/],
  ];
  for (const [args, text] of cases) {
    const { code, stdout, stderr } = await answered(...args);
    assert.deepEqual([code, stderr], [0, ""]);
    assert.match(stdout, text);
  }
});

const misuses: readonly [string[], RegExp][] = [
  [["key"], /There is no command "key"/],
  [["keys"], /keys create, keys list or keys revoke/],
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
  [["keys", "list", "all"], /takes only --json/],
  [["keys", "revoke"], /Which key\?/],
  [["keys", "revoke", "bk_a", "bk_b"], /One key at a time/],
  [["keys", "revoke", "brikk_abc"], /That is a secret, not an id/],
  [["keys", "revoke", "bk_anonymous000"], /BRIKK_REQUIRE_AUTH=true/],
];

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
  const { brikk } = setUp(t);
  const cases: readonly [string[], RegExp][] = [
    [["--soft-cap-usd", "3", "--hard-cap-usd", "2"], /soft cap of 3 USD is above the hard cap of 2 USD/],
    [["--soft-cap-usd", "30"], /above the default hard cap of 10 USD/],
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
  const { brikk, brikkWith, path } = setUp(t);
  const cases: readonly [Promise<Ran>, RegExp][] = [
    [brikk("keys", "revoke", "bk_000000000000"), /There is no key bk_000000000000/],
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
