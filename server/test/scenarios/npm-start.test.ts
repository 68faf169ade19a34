import assert from "node:assert/strict";
import { type ChildProcess, execFile, spawn } from "node:child_process";
import { chmodSync, existsSync, mkdirSync, writeFileSync } from "node:fs";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { join } from "node:path";
import { test, type TestContext } from "node:test";
import { fileURLToPath } from "node:url";
import { openDatabase } from "../../src/storage/open-database.ts";
import { scratchFolder, sourceUrl } from "../storage/scratch.ts";

const MAIN = fileURLToPath(sourceUrl("main.ts"));

interface Started {
  readonly child: ChildProcess;
  /** Standard output and error so far. */
  stdout(): string;
  stderr(): string;
  /** Resolves with the text of standard output once it matches; rejects when the process ends before. */
  untilPrinted(pattern: RegExp): Promise<RegExpExecArray>;
  readonly exited: Promise<{ readonly code: number | null; readonly signal: string | null }>;
}

/** The server as `npm start` runs it, in a folder of the test's own; killed with the test if it still runs. */
function start(t: TestContext, folder: string, environment: Record<string, string> = {}): Started {
  const child = spawn(process.execPath, [MAIN], {
    cwd: folder,
    env: {
      PATH: process.env["PATH"],
      NODE_V8_COVERAGE: process.env["NODE_V8_COVERAGE"] ?? "",
      PORT: "0",
      SIMULATOR_FIRST_TOKEN_MS: "0",
      SIMULATOR_TOKENS_PER_SECOND: "0",
      ...environment,
    },
    stdio: ["ignore", "pipe", "pipe"],
  });
  let stdout = "";
  let stderr = "";
  const waiting = new Set<() => void>();
  child.stdout.setEncoding("utf8").on("data", (text: string) => {
    stdout += text;
    for (const look of waiting) look();
  });
  child.stderr.setEncoding("utf8").on("data", (text: string) => (stderr += text));
  const exited = new Promise<{ code: number | null; signal: string | null }>((resolve) =>
    child.on("close", (code, signal) => resolve({ code, signal })),
  );
  t.after(async () => {
    child.kill("SIGKILL");
    await exited;
  });
  return {
    child,
    stdout: () => stdout,
    stderr: () => stderr,
    exited,
    untilPrinted: (pattern) =>
      new Promise((resolve, reject) => {
        const look = (): void => {
          const found = pattern.exec(stdout);
          if (found === null) return;
          waiting.delete(look);
          resolve(found);
        };
        waiting.add(look);
        look();
        void exited.then(() =>
          reject(new Error(`The server ended before it printed ${pattern}:\n${stdout}\n${stderr}`)),
        );
      }),
  };
}

const URL_LINE = /Brikk \S+ +(http:\/\/\S+)/;

async function untilReady(server: Started): Promise<string> {
  const [, url] = await server.untilPrinted(URL_LINE);
  await server.untilPrinted(/curl .*\n/);
  return url!;
}

/** A start that must fail: what it says is for a person, and nothing else. */
async function failure(t: TestContext, folder: string, environment: Record<string, string>): Promise<string> {
  const server = start(t, folder, environment);
  const { code } = await Promise.race([
    server.exited,
    server.untilPrinted(/curl .*\n/).then(() => assert.fail("the server started")),
  ]);
  assert.ok(code !== null && code > 0, `the exit code is ${code}`);
  assert.equal(server.stdout(), "");
  const text = server.stderr();
  assert.doesNotMatch(text, /^\s+at |node:internal|\.ts:\d/m, "no stack trace");
  assert.doesNotMatch(text, /did not expect/);
  return text;
}

const oneLine = (text: string): void => assert.equal(text.trimEnd().split("\n").length, 1, text);

const run = (line: string): Promise<string> =>
  new Promise((resolve, reject) =>
    execFile("sh", ["-c", line], { encoding: "utf8" }, (error, stdout, stderr) =>
      error ? reject(new Error(stderr, { cause: error })) : resolve(stdout),
    ),
  );

test("with no setting at all it starts, says where it is, who answers and where the data lies, and its curl line works as pasted", async (t) => {
  const folder = scratchFolder(t);
  const server = start(t, folder);
  const url = await untilReady(server);
  const banner = server.stdout();
  assert.ok(banner.includes(`${url}/docs`));
  assert.match(banner, /openai, mistral \(SIMULATED/);
  assert.match(banner, /Data +data\/brikk\.db/);
  assert.ok(existsSync(join(folder, "data", "brikk.db")));
  const line = /^ *(curl .+)$/m.exec(banner)?.[1];
  assert.ok(line !== undefined);
  const answer = await run(line);
  assert.match(answer, /^data: \{/);
  assert.match(answer, /"cost_usd":/);
  assert.match(answer, /data: \[DONE\]\n\n$/);
  const health = await fetch(`${url}/health/ready`);
  assert.equal(health.status, 200);
  await health.arrayBuffer();
  server.child.kill("SIGTERM");
  assert.deepEqual(await server.exited, { code: 0, signal: null });
  assert.equal(server.stderr(), "");
});

test("where keys are required the curl line takes one from BRIKK_KEY, and works with a key that the command line made meanwhile", async (t) => {
  const folder = scratchFolder(t);
  const environment = { BRIKK_REQUIRE_AUTH: "true" };
  const server = start(t, folder, environment);
  await untilReady(server);
  assert.match(server.stdout(), /keys create --name/);
  const line = /^ *(curl .+)$/m.exec(server.stdout())![1]!;
  assert.match(await run(line.replace("$BRIKK_KEY", "")), /missing_api_key/);
  const made = await run(
    `cd '${folder}' && '${process.execPath}' '${fileURLToPath(sourceUrl("cli.ts"))}' keys create --name me --json`,
  );
  const { key } = JSON.parse(made) as { key: string };
  assert.match(await run(`BRIKK_KEY='${key}'; ${line}`), /data: \[DONE\]\n\n$/);
});

test("a second start on one database ends with one line; the first goes on", async (t) => {
  const folder = scratchFolder(t);
  const first = start(t, folder);
  const url = await untilReady(first);
  const text = await failure(t, folder, {});
  oneLine(text);
  assert.match(text, /brikk\.db/);
  assert.equal((await fetch(`${url}/health`)).status, 200);
  first.child.kill("SIGTERM");
  assert.equal((await first.exited).code, 0);
  const third = start(t, folder);
  await untilReady(third);
});

test("a start after a kill -9 works at once: no lock is left behind", async (t) => {
  const folder = scratchFolder(t);
  const first = start(t, folder);
  await untilReady(first);
  first.child.kill("SIGKILL");
  await first.exited;
  const url = await untilReady(start(t, folder));
  assert.equal((await fetch(`${url}/health/ready`)).status, 200);
});

test("a taken port ends the start with one line that names it", async (t) => {
  const other = createServer();
  await new Promise<void>((resolve) => other.listen(0, "127.0.0.1", resolve));
  t.after(() => new Promise((resolve) => other.close(resolve)));
  const { port } = other.address() as AddressInfo;
  const text = await failure(t, scratchFolder(t), { PORT: String(port) });
  oneLine(text);
  assert.ok(text.includes(`port ${port}`) && text.includes("PORT"), text);
});

test("an address that is not this machine's ends the start with one line", async (t) => {
  const text = await failure(t, scratchFolder(t), { HOST: "203.0.113.7", BRIKK_REQUIRE_AUTH: "true" });
  oneLine(text);
  assert.match(text, /HOST/);
});

test("a folder that cannot be made or written ends the start with one line that names it", async (t) => {
  const folder = scratchFolder(t);
  writeFileSync(join(folder, "file"), "not a folder");
  const underFile = await failure(t, folder, { DATABASE_URL: "sqlite:./file/brikk.db" });
  oneLine(underFile);
  assert.match(underFile, /file\/brikk\.db|DATABASE_URL/);
  oneLine(await failure(t, folder, { DATABASE_URL: "sqlite:/dev/null/x/brikk.db" }));
  // Permissions do not bind root, so a system file system that takes no folders stands in for one that may not be written.
  oneLine(await failure(t, folder, { DATABASE_URL: "sqlite:/proc/brikk/brikk.db" }));
  mkdirSync(join(folder, "closed"));
  chmodSync(join(folder, "closed"), 0o500);
  if (process.getuid?.() !== 0) oneLine(await failure(t, folder, { DATABASE_URL: "sqlite:./closed/brikk.db" }));
});

test("a file that is no database, and a folder in its place, end the start with one line", async (t) => {
  const folder = scratchFolder(t);
  writeFileSync(
    join(folder, "notes.txt"),
    "these are notes, not a database, and long enough to be sure of it\n".repeat(50),
  );
  const text = await failure(t, folder, { DATABASE_URL: "sqlite:./notes.txt" });
  oneLine(text);
  assert.match(text, /notes\.txt/);
  mkdirSync(join(folder, "folder.db"));
  oneLine(await failure(t, folder, { DATABASE_URL: "sqlite:./folder.db" }));
});

test("bad settings are all listed in one message, each with its name, and no database is made", async (t) => {
  const folder = scratchFolder(t);
  const text = await failure(t, folder, {
    PORT: "eighty",
    LOG_LEVEL: "loud",
    BRIKK_REQUIRE_AUTH: "maybe",
    PROVIDER_TIMEOUT_SECONDS: "0",
    OPENAI_API_KEY: "sk-has a space",
  });
  assert.match(text, /5 settings are wrong/);
  for (const name of ["PORT", "LOG_LEVEL", "BRIKK_REQUIRE_AUTH", "PROVIDER_TIMEOUT_SECONDS", "OPENAI_API_KEY"])
    assert.match(text, new RegExp(`^ {2}- ${name} `, "m"));
  assert.ok(!text.includes("has a space"), "a secret is not repeated");
  assert.equal(existsSync(join(folder, "data")), false);
  oneLine(await failure(t, folder, { HOST: "0.0.0.0" }));
});

/** A stream of a few seconds at most, whose first words have come. */
async function beginStream(url: string): Promise<{ reader: ReadableStreamDefaultReader<string>; first: string }> {
  const response = await fetch(`${url}/v1/chat/completions`, {
    method: "POST",
    headers: { "content-type": "application/json", "x-request-id": "the-stream" },
    body: JSON.stringify({
      model: "gpt-4o-mini",
      stream: true,
      messages: [{ role: "user", content: "Why is the sky blue?" }],
    }),
  });
  assert.equal(response.status, 200);
  const reader = response.body!.pipeThrough(new TextDecoderStream()).getReader();
  return { reader, first: (await reader.read()).value ?? "" };
}

async function readRest(reader: ReadableStreamDefaultReader<string>, first: string): Promise<string> {
  let text = first;
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return text;
    text += value;
  }
}

async function rowsOf(folder: string): Promise<Record<string, unknown>[]> {
  const database = await openDatabase({ url: `sqlite:${join(folder, "data", "brikk.db")}` });
  try {
    return await database.all({ sql: "select * from usage_events order by event_id", params: [] });
  } finally {
    await database.close();
  }
}

for (const signal of ["SIGTERM", "SIGINT"] as const) {
  test(`${signal} while a stream runs: the stream finishes whole, no new request is taken, exit 0, and the row is there`, async (t) => {
    const folder = scratchFolder(t);
    const server = start(t, folder, { SIMULATOR_TOKENS_PER_SECOND: "60" });
    const url = await untilReady(server);
    const { reader, first } = await beginStream(url);
    server.child.kill(signal);
    await server.untilPrinted(/Stopping: 1 in hand/);
    const refused = await fetch(`${url}/v1/models`);
    assert.equal(refused.status, 503);
    assert.equal(((await refused.json()) as { error: { code: string } }).error.code, "draining");
    const text = await readRest(reader, first);
    assert.match(text, /"finish_reason":"stop"/);
    assert.match(text, /data: \[DONE\]\n\n$/);
    assert.deepEqual(await server.exited, { code: 0, signal: null });
    assert.equal(server.stderr(), "");
    const rows = await rowsOf(folder);
    assert.deepEqual(
      rows.map((row) => [row["request_id"], row["outcome"], row["usage_source"]]),
      [["the-stream", "completed", "exact"]],
    );
  });
}

test("a stream that outlasts the drain's bound is cut off visibly; the process still ends, exit 0, with its row", async (t) => {
  const folder = scratchFolder(t);
  const server = start(t, folder, { SIMULATOR_TOKENS_PER_SECOND: "5", BRIKK_DRAIN_SECONDS: "0.2" });
  const url = await untilReady(server);
  const { reader, first } = await beginStream(url);
  server.child.kill("SIGTERM");
  const text = await readRest(reader, first);
  assert.ok(!text.includes("[DONE]"));
  assert.match(text, /event: error\ndata: .*"code":"draining"/);
  assert.deepEqual(await server.exited, { code: 0, signal: null });
  const [row] = await rowsOf(folder);
  assert.equal(row?.["outcome"], "truncated");
  assert.equal(row?.["usage_source"], "estimated");
  assert.ok(Number(row?.["cost_nano_usd"]) > 0);
});

test("a second signal stops at once", async (t) => {
  const folder = scratchFolder(t);
  const server = start(t, folder, { SIMULATOR_TOKENS_PER_SECOND: "5" });
  const { reader } = await beginStream(await untilReady(server));
  server.child.kill("SIGTERM");
  await server.untilPrinted(/Stopping/);
  server.child.kill("SIGTERM");
  assert.equal((await server.exited).code, 1);
  await reader.cancel().catch(() => undefined);
});

test("SIGHUP reads new prices from the config file; a faulty one changes nothing and the server goes on", async (t) => {
  const folder = scratchFolder(t);
  const path = join(folder, "brikk.yaml");
  const priced = (usd: string): void =>
    writeFileSync(
      path,
      `prices:\n  - provider: openai\n    model: gpt-4o-mini\n    input_usd_per_million: ${usd}\n    output_usd_per_million: 1\n`,
    );
  priced("7");
  const server = start(t, folder, { BRIKK_CONFIG: path });
  const url = await untilReady(server);
  const inputPrice = async (): Promise<number | undefined> => {
    const { data } = (await (await fetch(`${url}/v1/models`)).json()) as {
      data: { id: string; price: { input_usd_per_million: number } }[];
    };
    return data.find(({ id }) => id === "gpt-4o-mini")?.price.input_usd_per_million;
  };
  assert.equal(await inputPrice(), 7);
  priced("9");
  server.child.kill("SIGHUP");
  await server.untilPrinted(/the config file was read again/);
  assert.equal(await inputPrice(), 9);
  writeFileSync(path, "prices: 3");
  server.child.kill("SIGHUP");
  await server.untilPrinted(/the config file is faulty/);
  assert.equal(await inputPrice(), 9);
});
