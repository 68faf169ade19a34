import assert from "node:assert/strict";
import { execFile, spawnSync } from "node:child_process";
import { createHmac } from "node:crypto";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { test, type TestContext } from "node:test";
import { promisify } from "node:util";
import { type InnerList, parseDictionary } from "structured-headers";
import { importSecret, signatureHeaders } from "../../../sdks/typescript/brikk-signing.ts";
import { signatureBase } from "../../src/access/signature-base.ts";
import { bytesOf } from "../../src/access/signing-secret.ts";
import { systemClock } from "../../src/lib/clock.ts";
import { type GatewayUnderTest, startGateway } from "../harness/gateway-under-test.ts";

/** What docs/signing.md says, to the byte; its recipe as it stands there; and the helper for Python, which has to say the same. */
const root = join(import.meta.dirname, "..", "..", "..");
const page = readFileSync(join(root, "docs", "signing.md"), "utf8");
const run = promisify(execFile);

function blockOf(language: string): string {
  const block = new RegExp(`^\`\`\`${language}\\n(.*?)\\n\`\`\``, "ms").exec(page)?.[1];
  assert.ok(block !== undefined, `the page has no ${language} block`);
  return block;
}

function wordOf(pattern: RegExp): string {
  const found = pattern.exec(page)?.[1];
  assert.ok(found !== undefined, `the page has no ${pattern}`);
  return found;
}

const example = {
  keyId: wordOf(/With the key `(bk_\w{12})`/),
  signingSecret: wordOf(/`(brikk_sig_[\w-]{43})`/),
  nonce: wordOf(/with the nonce `([^`]+)`/),
  createdMs: Date.parse(wordOf(/, at (\S+Z)/)),
  body: blockOf("json"),
  base: blockOf("text"),
  headers: Object.fromEntries(
    blockOf("http")
      .split("\n")
      .map((line) => line.split(/: (.*)/s).slice(0, 2)),
  ) as Record<string, string>,
};

const inLowerCase = (headers: Readonly<Record<string, string>>): Record<string, string> =>
  Object.fromEntries(Object.entries(headers).map(([name, value]) => [name.toLowerCase(), value]));

test("the page's example has the signature base and the signature that the server expects", () => {
  const request = {
    method: "POST",
    url: "/v1/chat/completions",
    rawHeaders: Object.entries(example.headers).flat(),
    headers: inLowerCase(example.headers),
  };
  const input = parseDictionary(example.headers["Signature-Input"]!).get("brikk") as InnerList;
  const base = signatureBase(request, input);
  assert.ok(base.kind === "base");
  assert.equal(base.bytes.toString(), example.base);
  const signature = createHmac("sha256", bytesOf(example.signingSecret)!).update(example.base).digest("base64");
  assert.equal(example.headers["Signature"], `brikk=:${signature}:`);
});

test("the helper for TypeScript makes the page's headers", async () => {
  const headers = await signatureHeaders(
    {
      method: "POST",
      url: "http://127.0.0.1:8080/v1/chat/completions#part",
      body: new TextEncoder().encode(example.body),
    },
    {
      keyId: example.keyId,
      hmacKey: await importSecret(example.signingSecret),
      createdMs: example.createdMs + 999,
      nonce: example.nonce,
    },
  );
  assert.deepEqual(headers, inLowerCase(example.headers));
  await assert.rejects(
    importSecret("brikk_of-another-kind"),
    (error: Error) => !error.message.includes("another-kind"),
  );
});

interface Caller {
  readonly gateway: GatewayUnderTest;
  readonly keyId: string;
  readonly environment: Record<string, string>;
}

/** A gateway and the settings of a caller whose key asks for signatures. */
async function callerOf(t: TestContext): Promise<Caller> {
  let olderMs = 0;
  const gateway = await startGateway({
    clock: { ...systemClock, monotonicMs: () => systemClock.monotonicMs() + olderMs },
  });
  t.after(() => gateway.close());
  // What is signed in the second in which a gateway began is refused; this one began a while ago.
  olderMs = 10_000;
  const { key, secret, signingSecret } = await gateway.gateway.keyStore.create({ name: "page", signingRequired: true });
  const environment = {
    PATH: process.env["PATH"] ?? "",
    BRIKK_URL: gateway.url,
    BRIKK_KEY: secret,
    BRIKK_KEY_ID: key.id,
    BRIKK_SIGNING_SECRET: signingSecret!,
  };
  return { gateway, keyId: key.id, environment };
}

const tools = ["curl", "openssl", "od"].filter(
  (name) => spawnSync(name, ["--version"], { stdio: "ignore" }).error !== undefined,
);
const mustRun = process.env["BRIKK_NO_SKIP"] === "1";

test(
  "the page's recipe for curl and openssl is answered, each time that it is run",
  { skip: tools.length > 0 && !mustRun ? `there is no ${tools.join(" and no ")}` : false },
  async (t) => {
    const { environment } = await callerOf(t);
    for (let time = 0; time < 2; time++) {
      const { stdout } = await run("sh", ["-ec", blockOf("sh")], { env: environment });
      assert.match(stdout, /"choices":/, stdout);
    }
    const other = { ...environment, BRIKK_SIGNING_SECRET: example.signingSecret };
    const { stdout } = await run("sh", ["-ec", blockOf("sh")], { env: other });
    assert.match(stdout, /"reason":"mismatch"/);
  },
);

/** The first Python that has the `openai` package; BRIKK_PYTHON names one. */
const python = [process.env["BRIKK_PYTHON"], "python3"].find(
  (path) =>
    path !== undefined && path !== "" && spawnSync(path, ["-c", "import openai"], { stdio: "ignore" }).status === 0,
);
const noPython = "no Python with the openai package; set BRIKK_PYTHON to one";
if (python === undefined && !mustRun) process.stderr.write(`SKIPPED signing-page, Python: ${noPython}\n`);

test(
  "the helper for Python signs for the openai package, plain, streamed and asynchronous, and makes the page's headers",
  { skip: python === undefined && !mustRun ? noPython : false },
  async (t) => {
    assert.ok(python !== undefined, noPython);
    const { environment } = await callerOf(t);
    const given = {
      body: example.body,
      key_id: example.keyId,
      hmac_key: bytesOf(example.signingSecret)!.toString("hex"),
      created: example.createdMs / 1_000,
      nonce: example.nonce,
    };
    const { stdout } = await run(
      python,
      [join(import.meta.dirname, "python", "signing_client.py"), JSON.stringify(given)],
      { env: { ...environment, PYTHONPATH: join(root, "sdks", "python"), PYTHONDONTWRITEBYTECODE: "1" } },
    );
    const { example: headers, models, plain, ...seen } = JSON.parse(stdout) as Record<string, unknown>;
    assert.deepEqual(headers, example.headers);
    assert.ok(typeof plain === "string" && plain !== "");
    assert.ok(Number(models) > 0);
    assert.deepEqual(seen, { streamed: plain, asynchronous: plain, unsigned: "missing", secret_in_error: false });
  },
);

test("every reason that the source knows has its line in the page's table, and no other", () => {
  const source = readFileSync(join(root, "server", "src", "access", "signature-refusal.ts"), "utf8");
  const known = [...source.matchAll(/^ {2}\| "(\w+)"/gm)].map(([, reason]) => reason!);
  const table = page.slice(page.indexOf("| reason |"), page.indexOf("`storage_unavailable` (503"));
  const told = table
    .split("\n")
    .slice(2)
    .flatMap((line) => [...(line.split("|")[1] ?? "").matchAll(/`(\w+)`/g)].map(([, reason]) => reason!));
  assert.ok(known.length > 10);
  assert.deepEqual(told.sort(), known.sort());
});
