import assert from "node:assert/strict";
import { type ChildProcess, spawn } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { DatabaseSync } from "node:sqlite";
import { after, test } from "node:test";
import { fileURLToPath } from "node:url";
import { Agent, request } from "undici";

const MAIN = fileURLToPath(new URL("../../src/main.ts", import.meta.url));
const folder = mkdtempSync(join(tmpdir(), "brikk-kill-"));
const databasePath = join(folder, "brikk.db");
const running = new Set<ChildProcess>();
after(() => {
  for (const child of running) child.kill("SIGKILL");
  rmSync(folder, { recursive: true, force: true });
});

interface Server {
  readonly url: string;
  kill(signal: NodeJS.Signals): Promise<number | null>;
}

/** The real process on the one database, ready to serve. */
async function startServer(): Promise<Server> {
  const child = spawn(process.execPath, [MAIN], {
    env: {
      PATH: process.env["PATH"],
      PORT: "0",
      DATABASE_URL: `sqlite:${databasePath}`,
      LOG_LEVEL: "silent",
      SIMULATOR_FIRST_TOKEN_MS: "0",
      SIMULATOR_TOKENS_PER_SECOND: "0",
      BRIKK_RATE_LIMIT_PER_MIN: "1000000",
      BRIKK_ANONYMOUS_RATE_LIMIT_PER_MIN: "1000000",
      BRIKK_DEFAULT_SOFT_CAP_USD: "1000",
      BRIKK_DEFAULT_HARD_CAP_USD: "1000",
    },
    stdio: ["ignore", "pipe", "pipe"],
  });
  running.add(child);
  const ended = new Promise<number | null>((resolve) =>
    child.on("close", (code) => {
      running.delete(child);
      resolve(code);
    }),
  );
  const url = await new Promise<string>((resolve, reject) => {
    let said = "";
    const hear = (text: string): void => {
      said += text;
      const found = /Brikk \S+\s+(http:\/\/\S+)/.exec(said)?.[1];
      if (found) resolve(found);
    };
    child.stdout.setEncoding("utf8").on("data", hear);
    child.stderr.setEncoding("utf8").on("data", hear);
    void ended.then((code) => reject(new Error(`the server ended with ${code}: ${said}`)));
  });
  return {
    url,
    kill: (signal) => {
      child.kill(signal);
      return ended;
    },
  };
}

interface Received {
  readonly requestId: string;
  readonly stream: boolean;
}

/** Callers that ask one after the other until the server is gone; resolves with the ids of the answers that came whole. */
async function load(url: string, callers: number, onWhole: (count: number) => void): Promise<Received[]> {
  const agent = new Agent({ connections: callers, connect: { timeout: 2_000 } });
  const whole: Received[] = [];
  let asked = 0;
  const caller = async (): Promise<void> => {
    for (;;) {
      const stream = asked++ % 2 === 0;
      try {
        const answer = await request(`${url}/v1/chat/completions`, {
          method: "POST",
          dispatcher: agent,
          headers: { "content-type": "application/json" },
          body: JSON.stringify({
            model: asked % 3 === 0 ? "mistral-small-latest" : "gpt-4o-mini",
            stream,
            messages: [{ role: "user", content: `Question ${asked}` }],
          }),
        });
        const text = await answer.body.text();
        assert.equal(answer.statusCode, 200, text);
        if (stream ? !text.endsWith("data: [DONE]\n\n") : !(JSON.parse(text) as { usage?: unknown }).usage) continue;
        whole.push({ requestId: String(answer.headers["x-request-id"]), stream });
        onWhole(whole.length);
      } catch (error) {
        if (error instanceof assert.AssertionError) throw error;
        // The connection broke: the server is gone.
        return;
      }
    }
  };
  await Promise.all(Array.from({ length: callers }, caller));
  await agent.destroy();
  return whole;
}

const ROUNDS = 6;
const received: Received[] = [];

for (let round = 1; round <= ROUNDS; round++) {
  test(`every answer received whole has its one row, and the roll-ups equal the events, after kill -9 under load: round ${round}`, async (t) => {
    // Starts at once on the file that the killed process left behind.
    const server = await startServer();
    const killAfter = 60 + round * 53;
    let killed: Promise<unknown> | undefined;
    const whole = await load(server.url, 20, (count) => {
      if (count >= killAfter) killed ??= server.kill("SIGKILL");
    });
    await killed;
    received.push(...whole);
    assert.ok(whole.length >= killAfter && whole.some(({ stream }) => stream) && whole.some(({ stream }) => !stream));

    const database = new DatabaseSync(databasePath);
    t.after(() => database.close());
    assert.deepEqual({ ...database.prepare("pragma integrity_check").get() }, { integrity_check: "ok" });
    const rows = database.prepare("select request_id, outcome, usage_source from usage_events").all();
    const rowsOf = Map.groupBy(rows, (row) => String(row["request_id"]));
    for (const { requestId } of received) {
      assert.deepEqual(
        rowsOf.get(requestId)?.map((row) => [row["outcome"], row["usage_source"]]),
        [["completed", "exact"]],
        requestId,
      );
    }
    assert.equal(rowsOf.size, rows.length, "a request has two rows");
    const eventSums = database
      .prepare(`select occurred_at_ms - occurred_at_ms % 3600000 as hour, key_id, coalesce(provider, '') as provider, coalesce(model, '') as model, outcome, simulated, count(*) as requests,
        sum(fresh_input_tokens + cached_input_tokens + cache_write_tokens + audio_input_tokens) as input, sum(output_tokens + audio_output_tokens) as output, sum(cost_nano_usd) as cost
      from usage_events group by 1, 2, 3, 4, 5, 6 order by 1, 2, 3, 4, 5, 6`)
      .all();
    const rollUps = database
      .prepare(`select hour_start_ms as hour, key_id, provider, model, outcome, simulated, requests, input_tokens as input, output_tokens as output, cost_nano_usd as cost
      from usage_hourly order by 1, 2, 3, 4, 5, 6`)
      .all();
    assert.deepEqual(rollUps, eventSums);
    t.diagnostic(`${whole.length} answers received whole, ${rows.length} rows in all`);
  });
}

test("the restarted server counts what the killed ones had spent, and stops politely", async () => {
  const server = await startServer();
  const answer = await request(`${server.url}/usage/me`);
  const usage = (await answer.body.json()) as { this_month: { cost_usd: number; requests: number } };
  const stopped = server.kill("SIGTERM");
  assert.equal(await stopped, 0);
  const database = new DatabaseSync(databasePath);
  const sums = database.prepare("select count(*) as requests, sum(cost_nano_usd) as cost from usage_events").get()!;
  database.close();
  assert.deepEqual(
    [usage.this_month.requests, Math.round(usage.this_month.cost_usd * 1e9)],
    [sums["requests"], sums["cost"]],
  );
});
