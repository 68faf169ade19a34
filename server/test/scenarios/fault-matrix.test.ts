import assert from "node:assert/strict";
import { once } from "node:events";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { type AddressInfo, createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test, type TestContext } from "node:test";
import { Agent, type Dispatcher, request } from "undici";
import { type ErrorCode, errorTable } from "../../src/errors.ts";
import type { Row } from "../../src/storage/database.ts";
import { startDeafServer } from "../harness/deaf-server.ts";
import { startGateway } from "../harness/gateway-under-test.ts";
import { billOf } from "../harness/provider-bill.ts";
import { eventually } from "../ledger/ledger-fixture.ts";
import { type Expectation, faultMatrix, type FaultRow, rowOf, type Struck } from "./fault-matrix.ts";

const MODELS = { openai: "gpt-4o-mini", mistral: "mistral-small-latest" } as const;
/** Refuses connections, as nobody listens there any more. */
const refusingPort = await takeAwayPort();
const deaf = await startDeafServer();
const folder = mkdtempSync(join(tmpdir(), "brikk-faults-"));
const configPath = join(folder, "providers.json");
const model = { id: "absent", input_usd_per_million: 1, output_usd_per_million: 1 };
writeFileSync(
  configPath,
  JSON.stringify({
    providers: [
      { name: "refusing", base_url: `http://127.0.0.1:${refusingPort}/v1`, models: [model] },
      {
        name: "deaf",
        base_url: `http://127.0.0.1:${deaf?.port ?? refusingPort}/v1`,
        models: [model],
        timeouts: { connect_seconds: 0.2, first_token_seconds: 10, attempt_seconds: 10 },
      },
    ],
  }),
);
const lines: Line[] = [];
const brikk = await startGateway({
  environment: {
    BRIKK_CONFIG: configPath,
    PROVIDER_FIRST_TOKEN_TIMEOUT_SECONDS: "0.3",
    PROVIDER_IDLE_TIMEOUT_SECONDS: "0.3",
    PROVIDER_TIMEOUT_SECONDS: "0.5",
    PROVIDER_MAX_RETRIES: "1",
  },
  log: { write: (line) => void lines.push(JSON.parse(line) as Line) },
});
const agent = new Agent();
after(async () => {
  await Promise.all([brikk.close(), agent.close(), deaf?.close()]);
  rmSync(folder, { recursive: true, force: true });
});
const { simulator } = brikk;

interface Line {
  readonly msg: string;
  readonly request_id: string;
  readonly attempt_log?: readonly { readonly provider: string; readonly fault?: string }[];
}

const question = { messages: [{ role: "user", content: "Why is the sky blue, and the sea too?" }], max_tokens: 40 };
/** What each vendor answers when it is well, asked without the gateway. */
const healthy = {
  [MODELS.openai]: await answerOf(simulator.openaiBaseUrl, { ...question, model: MODELS.openai, seed: 7 }),
  [MODELS.mistral]: await answerOf(simulator.mistralBaseUrl, { ...question, model: MODELS.mistral, random_seed: 7 }),
};

test("each fault, plain and streamed, alone and with a healthy second provider: what the caller got, who was asked, how long, what was billed and what the row says", async (t) => {
  for (const group of faultMatrix) {
    await t.test(group.name, async (inGroup) => {
      for (const row of group.rows) await inGroup.test(row.name, (inRow) => checkRow(inRow, row));
    });
  }
});

async function checkRow(t: TestContext, row: FaultRow): Promise<void> {
  if ("provider" in row.struck && row.struck.provider === "deaf" && deaf === undefined)
    return t.skip("this system takes every connection in");
  for (const way of ["plain", "stream"] as const) {
    for (const company of ["alone", "second"] as const) {
      const expected = row[way]?.[company];
      if (expected)
        await t.test(`${way}, ${company}`, () => check(row, { stream: way === "stream", company }, expected));
    }
  }
}

let asked = 0;

async function check(
  { struck, rescue }: FaultRow,
  { stream, company }: { stream: boolean; company: "alone" | "second" },
  expected: Expectation,
): Promise<void> {
  brikk.gateway.health.reset();
  simulator.served.clear();
  simulator.faults.clear();
  if ("vendor" in struck) simulator.faults.set({ vendor: struck.vendor, fault: struck.fault, count: struck.times });
  const first = "vendor" in struck ? struck.vendor : struck.provider;
  const second = first === "mistral" ? "openai" : "mistral";
  const firstModel = "vendor" in struck ? MODELS[struck.vendor] : `${struck.provider}/absent`;
  const requestId = `fault-${++asked}`;
  const startedAt = performance.now();
  const seen = await ask(struck, {
    stream,
    headers: { "x-request-id": requestId, ...(rescue && { "x-brikk-rescue": rescue }) },
    models: company === "alone" ? [firstModel] : [firstModel, MODELS[second]],
  });
  const ms = performance.now() - startedAt;

  assertSeen(seen, expected, second);
  assert.ok(ms <= expected.withinMs, `it took ${Math.round(ms)} ms`);
  assert.ok(ms >= (expected.atLeastMs ?? 0), `it took ${Math.round(ms)} ms only`);

  await eventually(() => lines.some((line) => line.msg === "completion" && line.request_id === requestId));
  const line = lines.find(({ msg, request_id: id }) => msg === "completion" && id === requestId)!;
  const [entry, ...others] = await brikk.all(`select * from usage_events where request_id = '${requestId}'`);
  assert.ok(entry && others.length === 0, "one row");
  const log = line.attempt_log ?? [{ provider: String(entry["provider"]) }];
  assert.deepEqual(
    log.map(({ provider, fault }) => [
      provider === first ? "first" : provider === second ? "second" : provider,
      fault === "ended" ? "left" : (fault ?? "answer"),
    ]),
    expected.tries,
  );
  assertRow(entry, expected);

  const reached = expected.tries.filter(([who]) => who === "second" || "vendor" in struck);
  await eventually(() => simulator.served.list().length >= reached.length);
  const served = simulator.served.list();
  assert.deepEqual(
    served.map(({ vendor }) => vendor),
    reached.map(([who]) => (who === "first" ? first : second)),
  );
  const bills = served.map((answer) => billOf(answer.model, answer.usage));
  assertCharge(entry, seen, expected, bills);
}

interface Seen {
  readonly status: number | undefined;
  readonly headers: Dispatcher.ResponseData["headers"];
  readonly text: string;
}

/** Asks, reads to the end, and leaves before that where the row wants it. */
async function ask(
  struck: Struck,
  { stream, headers, models }: { stream: boolean; headers: Record<string, string>; models: readonly string[] },
): Promise<Seen> {
  const leaving = new AbortController();
  const leaves = "vendor" in struck ? struck.leaves : undefined;
  const answered = request(`${brikk.url}/v1/chat/completions`, {
    method: "POST",
    dispatcher: agent,
    signal: leaving.signal,
    headers: { "content-type": "application/json", ...headers },
    body: JSON.stringify({
      ...question,
      seed: 7,
      model: models[0],
      ...(models.length > 1 && { models: models.slice(1) }),
      ...(stream && { stream, stream_options: { include_usage: true } }),
    }),
  });
  if (leaves === "while it waits") {
    const left = assert.rejects(answered, { name: "AbortError" });
    await eventually(() => simulator.faults.list()[0]?.struck === 1);
    leaving.abort();
    await left;
    return { status: undefined, headers: {}, text: "" };
  }
  const answer = await answered;
  let text = "";
  try {
    for await (const chunk of answer.body) {
      text += String(chunk);
      if (leaves === "in the middle of the answer" && textOf(text) !== "") leaving.abort();
    }
  } catch (error) {
    if (!leaving.signal.aborted) throw error;
    return { status: undefined, headers: answer.headers, text };
  }
  return { status: answer.statusCode, headers: answer.headers, text };
}

function assertSeen(
  { status, headers, text }: Seen,
  { ending, tries, rescued }: Expectation,
  second: keyof typeof MODELS,
) {
  switch (ending.kind) {
    case "complete": {
      assert.equal(status, 200, text);
      const served = tries.at(-1)![0] === "second" ? MODELS[second] : headers["x-brikk-model"];
      const whole = healthy[served as keyof typeof healthy];
      if (!rescued) {
        assert.equal(textOf(text), whole);
        assert.equal(headers["x-brikk-fallback"], String(tries.at(-1)![0] === "second"));
      }
      return;
    }
    case "refused": {
      assert.equal(status, ending.status, text);
      const { error } = JSON.parse(text) as { error: { code: string; message: string } };
      assert.equal(error.code, ending.code);
      assert.equal(headers["x-should-retry"], errorTable[ending.rowCode].retryable ? undefined : "false");
      assert.equal(headers["retry-after"], ending.retryAfterS === undefined ? undefined : String(ending.retryAfterS));
      if (ending.rowCode !== "invalid_request") assert.doesNotMatch(text, /vendor's own words/);
      return;
    }
    case "cut": {
      assert.equal(status, 200, text);
      assert.notEqual(textOf(text), "");
      const { error } = JSON.parse(text.split("event: error\ndata: ")[1]!) as { error: { code: ErrorCode } };
      assert.equal(error.code, ending.code);
      assert.doesNotMatch(text, /\[DONE\]|"finish_reason":"/);
      return;
    }
    case "left":
      return assert.equal(status, undefined);
    default:
      ending satisfies never;
  }
}

function assertRow(row: Row, expected: Expectation): void {
  const { outcome, errorCode, fallback, rescued } = rowOf(expected);
  assert.deepEqual(
    [row["outcome"], row["error_code"], row["fallback"], row["attempts"], row["rescue"] !== null],
    [outcome, errorCode ?? null, fallback === "yes" ? 1n : 0n, BigInt(expected.tries.length), rescued === "yes"],
  );
  const statusOf = { complete: 200, cut: 200, left: 499 } as const;
  const { ending } = expected;
  assert.equal(Number(row["status"]), ending.kind === "refused" ? ending.status : statusOf[ending.kind]);
}

function assertCharge(
  row: Row,
  { headers, text }: Seen,
  { charge, ending, tries }: Expectation,
  bills: readonly bigint[],
) {
  const cost = row["cost_nano_usd"] as bigint;
  const earlier = row["earlier_cost_nano_usd"] as bigint;
  const bill = bills.reduce((sum, each) => sum + each, 0n);
  switch (charge) {
    case "nothing":
      assert.deepEqual([row["usage_source"], cost, bill], ["none", 0n, 0n]);
      break;
    case "the bill":
      assert.deepEqual([row["usage_source"], cost, earlier], ["exact", bill, 0n]);
      assert.ok(bill > 0n);
      break;
    case "an estimate":
      assert.equal(row["usage_source"], "estimated");
      assert.ok(cost > 0n);
      break;
    case "the bill and an estimate":
      assert.deepEqual([row["usage_source"], cost - earlier], ["exact", bills.at(-1)]);
      assert.ok(earlier > 0n);
      break;
    default:
      charge satisfies never;
  }
  if (ending.kind === "cut" || (ending.kind === "left" && tries[0]![1] === "answer")) {
    // Of what was shown; what a vendor makes of it beyond that is not known here.
    const off = Number(cost > bill ? cost - bill : bill - cost);
    assert.ok(off <= Number(bill) * 0.15, `${cost} nano-USD were charged, ${bill} billed`);
  }
  if (ending.kind !== "complete") return;
  const told = text.startsWith("{") ? Number(headers["x-brikk-cost-usd"]) : costIn(text);
  assert.equal(BigInt(Math.round(told * 1e9)), cost, "the caller was told another cost");
}

interface Chunk {
  readonly choices: readonly {
    readonly message?: { readonly content: string };
    readonly delta?: { readonly content?: string | null };
    readonly finish_reason: string | null;
  }[];
  readonly usage?: { readonly cost_usd: number } | null;
}

const chunksOf = (text: string): Chunk[] =>
  text
    .split("\n\n")
    .filter((event) => event.startsWith("data: {"))
    .map((event) => JSON.parse(event.slice("data: ".length)) as Chunk);

/** The answer's text, of a whole body or of a stream; of a stream that is not broken off its end is looked at, too. */
function textOf(text: string): string {
  if (text.startsWith("{")) return (JSON.parse(text) as Chunk).choices[0]!.message!.content;
  return chunksOf(text)
    .map(({ choices }) => choices[0]?.delta?.content ?? "")
    .join("");
}

const costIn = (text: string): number => chunksOf(text).findLast(({ usage }) => usage)!.usage!.cost_usd;

async function answerOf(baseUrl: string, body: object): Promise<string> {
  const answer = await fetch(`${baseUrl}/chat/completions`, {
    method: "POST",
    headers: { authorization: "Bearer any", "content-type": "application/json" },
    body: JSON.stringify(body),
  });
  return textOf(await answer.text());
}

async function takeAwayPort(): Promise<number> {
  const server = createServer().listen(0, "127.0.0.1");
  await once(server, "listening");
  const { port } = server.address() as AddressInfo;
  server.close();
  await once(server, "close");
  return port;
}
