import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test, type TestContext } from "node:test";
import { promisify } from "node:util";
import { startGateway } from "../harness/gateway-under-test.ts";

/** The README's own blocks, run as they stand but for the address, which is the test's. */
const root = join(import.meta.dirname, "..", "..", "..");
const readme = readFileSync(join(root, "README.md"), "utf8");
const README_URL = "http://127.0.0.1:8080";
const run = promisify(execFile);

const blocks = (language: string): string[] =>
  [...readme.matchAll(new RegExp(`^\`\`\`${language}\\n(.*?)^\`\`\``, "gms"))].map(([, text = ""]) => text);

const blockWith = (language: string, words: string): string => {
  const found = blocks(language).find((block) => block.includes(words));
  assert.ok(found, `the README has no ${language} block with ${words}`);
  return found;
};

async function served(t: TestContext): Promise<{ at: (block: string) => string; folder: string; key: string }> {
  const gateway = await startGateway();
  t.after(() => gateway.close());
  const folder = mkdtempSync(join(root, "node_modules", ".readme-"));
  t.after(() => rmSync(folder, { recursive: true, force: true }));
  const { secret } = await gateway.createKey();
  return { at: (block) => block.replaceAll(README_URL, gateway.url), folder, key: secret };
}

test("the README's curl lines stream an answer with its cost, and show the usage", async (t) => {
  const { at } = await served(t);
  const { stdout: stream } = await run("sh", ["-c", at(blockWith("sh", "/v1/chat/completions"))]);
  assert.match(stream, /"cost_usd":/);
  assert.ok(stream.endsWith("data: [DONE]\n\n"));
  const { stdout: usage } = await run("sh", ["-c", at(blockWith("sh", "/usage/me"))]);
  assert.equal((JSON.parse(usage) as { today: { requests: number } }).today.requests, 1);
});

test("the README's explanation says that its request would pass, and what it may cost", async (t) => {
  const { at } = await served(t);
  const { stdout } = await run("sh", ["-c", at(blockWith("sh", "/v1/explain"))]);
  const explained = JSON.parse(stdout) as { passes: boolean; worst_case_usd: number };
  assert.equal(explained.passes, true);
  assert.ok(explained.worst_case_usd > 0);
});

test("the README's fire drill breaks a vendor, is answered by the other, and mends it", async (t) => {
  const token = "an-admin-token-of-this-test";
  const gateway = await startGateway({ environment: { BRIKK_ADMIN_TOKEN: token } });
  t.after(() => gateway.close());
  const block = blockWith("sh", "/admin/fire-drill").replaceAll(README_URL, gateway.url);
  const { stdout } = await run("sh", ["-ec", block], { env: { ...process.env, BRIKK_ADMIN_TOKEN: token } });
  assert.match(stdout, /^\{"id":"fault-1","vendor":"openai"/);
  assert.match(stdout, /HTTP\/1\.1 200 OK\r$/m);
  assert.match(stdout, /^x-brikk-fallback: true\r$/m);
  assert.match(stdout, /\{"breakers":\[.*\{"faults":\[\]\}$/s);
});

test("the README's TypeScript prints an answer and its usage", async (t) => {
  const { at, folder, key } = await served(t);
  // Type stripping refuses files under node_modules, which is where the package is found from; the block has no types.
  const script = join(folder, "readme.mjs");
  writeFileSync(script, at(blockWith("ts", "new OpenAI")));
  const { stdout } = await run(process.execPath, [script], { env: { ...process.env, BRIKK_KEY: key } });
  assert.match(stdout, /\S{3,} \S{3,}/);
  assert.match(stdout, /cost_usd/);
});

test("the README's Python prints an answer", async (t) => {
  const python = process.env["BRIKK_PYTHON"];
  if (python === undefined && process.env["BRIKK_NO_SKIP"] !== "1") {
    return t.skip("no Python with the openai package; set BRIKK_PYTHON to one");
  }
  assert.ok(python, "BRIKK_PYTHON names no Python");
  const { at, folder, key } = await served(t);
  const file = join(folder, "readme.py");
  writeFileSync(file, at(blockWith("python", "OpenAI(")));
  const { stdout } = await run(python, [file], { env: { ...process.env, BRIKK_KEY: key } });
  assert.match(stdout, /\S{2,} \S{2,}/);
});

test("the README's key command makes a key", async (t) => {
  const folder = mkdtempSync(join(tmpdir(), "brikk-readme-"));
  t.after(() => rmSync(folder, { recursive: true, force: true }));
  const command = blockWith("sh", "keys create").trim();
  assert.match(command, /^npm run -s brikk -- /);
  const { stdout } = await run("sh", ["-c", command], {
    cwd: root,
    env: { ...process.env, DATABASE_URL: `sqlite:${join(folder, "brikk.db")}` },
  });
  assert.match(stdout, /brikk_[0-9A-Za-z]{46}/);
});

test("the README's ledger commands verify and export", async (t) => {
  const folder = mkdtempSync(join(tmpdir(), "brikk-readme-"));
  t.after(() => rmSync(folder, { recursive: true, force: true }));
  const { stdout } = await run("sh", ["-ec", blockWith("sh", "ledger verify")], {
    cwd: root,
    env: { ...process.env, DATABASE_URL: `sqlite:${join(folder, "brikk.db")}` },
  });
  assert.match(stdout, /^The ledger holds\.\n/);
  assert.match(stdout, /\nevent_id,request_id,.*\r\n$/);
});
