import assert from "node:assert/strict";
import { execFile, spawnSync } from "node:child_process";
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test, type TestContext } from "node:test";
import { promisify } from "node:util";
import { systemClock } from "../../src/lib/clock.ts";
import {
  alertRows,
  dayStanding,
  type Message,
  SECRET,
  startAlerts,
  startReceiver,
} from "../ledger/alerts-under-test.ts";
import { scratchDatabase, scratchFolder } from "../storage/scratch.ts";

/** The verifiers of docs/webhooks.md, as they stand on the page, with a message that was really sent. */
const page = readFileSync(join(import.meta.dirname, "..", "..", "..", "docs", "webhooks.md"), "utf8");
const run = promisify(execFile);
const whsec = `whsec_${SECRET.toString("base64")}`;

const python = spawnSync("python3", ["-c", "''.removeprefix('')"], { stdio: "ignore" }).status === 0;
const mustRun = process.env["BRIKK_NO_SKIP"] === "1";
const absent = "no python3 of 3.9 or newer";
if (!python && !mustRun) process.stderr.write(`SKIPPED webhooks-page, Python: ${absent}\n`);

function blockOf(language: string): string {
  const block = new RegExp(`^\`\`\`${language}\\n(.*?)^\`\`\``, "ms").exec(page)?.[1];
  assert.ok(block !== undefined, `the page has no ${language} block`);
  return block;
}

interface Case {
  readonly headers: Record<string, string>;
  readonly body: string;
  readonly secret: string;
}

/** A message as it came, and what may be done to it; the first two are good. */
async function casesFrom(t: TestContext): Promise<Case[]> {
  const { database } = await scratchDatabase(t);
  const receiver = await startReceiver(t);
  const secrets = [Buffer.alloc(24, 1), SECRET];
  const alerts = startAlerts(t, { database, clock: systemClock, webhook: { ...receiver.target, secrets } });
  alerts.observe(dayStanding(5));
  await alerts.deliverDue();
  assert.equal((await alertRows(database)).length, 1);
  const { headers: all, body } = receiver.messages[0] satisfies Message | undefined as Message;
  const headers = Object.fromEntries(Object.entries(all).map(([name, value]) => [name, String(value)]));
  const other = (name: string, value: string): Case => ({
    headers: { ...headers, [name]: value },
    body,
    secret: whsec,
  });
  return [
    { headers, body, secret: whsec },
    { headers, body, secret: `whsec_${Buffer.alloc(24, 1).toString("base64")}` },
    { headers, body, secret: `whsec_${Buffer.alloc(24, 2).toString("base64")}` },
    { headers, body: body.replace("bk_0", "bk_1"), secret: whsec },
    other("webhook-id", "another"),
    other("webhook-timestamp", String(Number(headers["webhook-timestamp"]) + 1)),
    other("webhook-timestamp", String(Number(headers["webhook-timestamp"]) - 400)),
    other("webhook-signature", "v1,AAAA"),
    other("webhook-signature", ""),
  ];
}
const VERDICTS = [true, true, false, false, false, false, false, false, false];

test("the page's verifier in Node takes what was sent and nothing that was changed", async (t) => {
  const cases = await casesFrom(t);
  const script = join(scratchFolder(t), "verify.mjs");
  const calls = `console.log(JSON.stringify(${JSON.stringify(cases)}.map((one) => isFromBrikk(one.headers, one.body, one.secret))));\n`;
  writeFileSync(script, blockOf("js") + calls);
  const { stdout } = await run(process.execPath, [script]);
  assert.deepEqual(JSON.parse(stdout), VERDICTS);
});

test(
  "the page's verifier in Python takes what was sent and nothing that was changed",
  { skip: python || mustRun ? false : absent },
  async (t) => {
    const cases = await casesFrom(t);
    const folder = scratchFolder(t);
    writeFileSync(join(folder, "cases.json"), JSON.stringify(cases));
    const calls = [
      "import json, sys",
      "cases = json.load(open(sys.argv[1]))",
      "print(json.dumps([is_from_brikk(one['headers'], one['body'].encode(), one['secret']) for one in cases]))",
    ];
    writeFileSync(join(folder, "verify.py"), `${blockOf("python")}\n${calls.join("\n")}\n`);
    const { stdout } = await run("python3", [join(folder, "verify.py"), join(folder, "cases.json")]);
    assert.deepEqual(JSON.parse(stdout), VERDICTS);
  },
);
