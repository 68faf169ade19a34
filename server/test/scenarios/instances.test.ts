import assert from "node:assert/strict";
import { type ChildProcess, spawn } from "node:child_process";
import type { TestContext } from "node:test";
import { fileURLToPath } from "node:url";
import { openDatabase } from "../../src/storage/open-database.ts";
import { onPostgres, scratchPostgresUrl, sourceUrl } from "../storage/scratch.ts";

interface Instance {
  readonly url: string;
  readonly said: () => string;
  stop(): Promise<number | null>;
}

function run(t: TestContext, file: string, args: readonly string[], databaseUrl: string): ChildProcess {
  const child = spawn(process.execPath, [fileURLToPath(sourceUrl(file)), ...args], {
    env: {
      PATH: process.env["PATH"],
      PORT: "0",
      DATABASE_URL: databaseUrl,
      BRIKK_REQUIRE_AUTH: "true",
      SIMULATOR_FIRST_TOKEN_MS: "0",
      SIMULATOR_TOKENS_PER_SECOND: "0",
      NODE_V8_COVERAGE: process.env["NODE_V8_COVERAGE"] ?? "",
    },
    stdio: ["ignore", "pipe", "pipe"],
  });
  t.after(() => void child.kill("SIGKILL"));
  return child;
}

/** Everything that a child says, and how it ends. */
function heard(child: ChildProcess, onText: (said: string) => void = () => {}) {
  let said = "";
  for (const stream of [child.stdout, child.stderr])
    stream?.setEncoding("utf8").on("data", (text: string) => {
      said += text;
      onText(said);
    });
  const ended = new Promise<number | null>((resolve) => child.on("close", resolve));
  return { said: () => said, ended };
}

function startInstance(t: TestContext, databaseUrl: string): Promise<Instance> {
  const child = run(t, "main.ts", [], databaseUrl);
  return new Promise((resolve, reject) => {
    const { said, ended } = heard(child, (text) => {
      const url = /Brikk \S+\s+(http:\/\/\S+)/.exec(text)?.[1];
      if (url !== undefined)
        resolve({
          url,
          said,
          stop: () => {
            child.kill("SIGTERM");
            return ended;
          },
        });
    });
    void ended.then((code) => reject(new Error(`The instance ended with ${code}: ${said()}`)));
  });
}

onPostgres(
  "two instances start at once on one empty database, share its keys and its ledger, and say no password",
  async (t) => {
    const databaseUrl = await scratchPostgresUrl(t, "empty");
    const { password, host, pathname } = new URL(databaseUrl);
    const instances = await Promise.all([startInstance(t, databaseUrl), startInstance(t, databaseUrl)]);

    const made = heard(run(t, "cli.ts", ["keys", "create", "--name", "shared", "--json"], databaseUrl));
    assert.equal(await made.ended, 0, made.said());
    const { id, key } = JSON.parse(made.said()) as { id: string; key: string };
    const ask = ({ url }: Instance): Promise<Response> =>
      fetch(`${url}/v1/chat/completions`, {
        method: "POST",
        headers: { "content-type": "application/json", authorization: `Bearer ${key}` },
        body: JSON.stringify({ model: "brikk/cheap", messages: [{ role: "user", content: "Hello" }] }),
      });
    for (const instance of instances) {
      const answer = await ask(instance);
      assert.equal(answer.status, 200, await answer.text());
    }

    const revoked = heard(run(t, "cli.ts", ["keys", "revoke", id], databaseUrl));
    assert.equal(await revoked.ended, 0, revoked.said());
    const revokedAtMs = performance.now();
    for (const instance of instances) {
      while ((await ask(instance)).status !== 401) assert.ok(performance.now() - revokedAtMs < 2_000);
    }

    for (const instance of instances) {
      assert.equal(await instance.stop(), 0, instance.said());
      assert.match(instance.said(), new RegExp(`Data +postgres ${host}${pathname}`));
      assert.ok(!instance.said().includes(password));
    }
    const database = await openDatabase({ url: databaseUrl });
    t.after(() => database.close());
    const rows = await database.all({
      sql: "select count(*) as events, count(distinct event_id) as distinct_events from usage_events where key_id = ? and outcome = 'completed'",
      params: [id],
    });
    assert.ok((rows[0]?.["events"] as bigint) >= 2n);
    const sums = await database.all({
      sql: "select sum(requests) as requests from usage_hourly where key_id = ? and outcome = 'completed'",
      params: [id],
    });
    assert.deepEqual(sums[0]?.["requests"], rows[0]?.["events"]);
  },
);

onPostgres(
  "a start that cannot reach its database ends with one sentence, at once and without the password",
  async (t) => {
    const url = new URL(await scratchPostgresUrl(t, "empty"));
    url.password = "hunter2";
    for (const [file, args] of [
      ["main.ts", []],
      ["cli.ts", ["keys", "list"]],
    ] as const) {
      const { said, ended } = heard(run(t, file, args, url.href));
      assert.equal(await ended, 1);
      assert.match(said().trim(), /^[^\n]*the server refuses the password of the user "brikk"[^\n]*$/);
      assert.ok(!said().includes("hunter2"));
    }
  },
);
