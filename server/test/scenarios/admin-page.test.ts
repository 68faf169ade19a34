import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { promisify } from "node:util";
import { ADMIN_TOKEN, startAdministered } from "../http/administered.ts";
import { scratchFolder } from "../storage/scratch.ts";

/** The blocks of docs/admin.md, run one after the other as they stand but for the address, which is the test's. */
const page = readFileSync(join(import.meta.dirname, "..", "..", "..", "docs", "admin.md"), "utf8");
const run = promisify(execFile);

test("the page's commands make a key, change it on its version, rotate it, revoke it, and show what all keys use", async (t) => {
  const { brikk } = await startAdministered(t);
  const blocks = [...page.matchAll(/^```sh\n(.*?)^```/gms)].map(([, text = ""]) => text);
  // An answer has no line end of its own.
  const script = blocks
    .join("\n")
    .replaceAll("http://127.0.0.1:8080", brikk.url)
    .replaceAll("curl -s ", "echo; curl -s ");
  const { stdout } = await run("sh", ["-ec", script.replaceAll("$(echo; ", "$(")], {
    cwd: scratchFolder(t),
    env: { ...process.env, BRIKK_ADMIN_TOKEN: ADMIN_TOKEN },
  });
  const answers = stdout
    .split("\n")
    .filter((line) => line !== "")
    .map((line) => JSON.parse(line) as Record<string, unknown>);
  const [made, listed, changed, rotated, revoked, totals, series, requests, usage, ...more] = answers;
  assert.deepEqual(more, []);
  assert.match(String(made?.["key"]), /^brikk_/);
  const id = made?.["id"];
  assert.deepEqual(
    (listed?.["data"] as Record<string, unknown>[] | undefined)?.map((key) => key["id"]),
    [id],
  );
  assert.deepEqual([changed?.["month_hard_cap_usd"], changed?.["rate_limit_per_min"]], [200, 120]);
  assert.match(String(rotated?.["new_key"]), /^brikk_/);
  assert.equal(revoked?.["status"], "revoked");
  assert.deepEqual(
    [totals?.["data"], series?.["points"], requests?.["requests"], usage?.["api_key_id"]],
    [[], [], [], id],
  );
});
