import assert from "node:assert/strict";
import { connect } from "node:net";
import { join } from "node:path";
import { test } from "node:test";
import { startSimulator } from "@brikk/simulator";
import type { Fault } from "@brikk/simulator/faults";
import { createKeyStore } from "../../src/access/key-store.ts";
import { errorTable } from "../../src/errors.ts";
import { verifyLedger } from "../../src/ledger/verify-ledger.ts";
import { systemClock } from "../../src/lib/clock.ts";
import { openDatabase } from "../../src/storage/open-database.ts";
import { listApiRoutes } from "../harness/api-routes.ts";
import { Draw, drawRequest, type FuzzRequest } from "../harness/fuzz-requests.ts";
import { startGatewayProcess } from "../harness/gateway-process.ts";
import { scratchFolder } from "../storage/scratch.ts";

/**
 * Random requests, from the API's own document and from nothing at all, against a gateway process whose providers fail at
 * random. BRIKK_FUZZ_SECONDS is how long, BRIKK_FUZZ_SEED what is drawn: always the same
 * here, so that a change is not blamed for what somebody else's draw finds, and something new each time with `npm run fuzz`.
 */
const seconds = Number(process.env["BRIKK_FUZZ_SECONDS"] ?? 4);
const seed = Number(process.env["BRIKK_FUZZ_SEED"] ?? 1);
const CALLERS = 12;
/** The gateway gives a request 3 s. */
const ANSWERED_WITHIN_MS = 20_000;
const MOST_MEMORY_BYTES = 700 * 1024 * 1024;
const ADMIN_TOKEN = "the-admin-token-of-this-test";

const ENVIRONMENT = {
  BRIKK_REQUIRE_AUTH: "true",
  BRIKK_ADMIN_TOKEN: ADMIN_TOKEN,
  LOG_LEVEL: "error",
  BRIKK_MAX_BODY_BYTES: "200000",
  BRIKK_MAX_CONNECTIONS_PER_ADDRESS: "1000",
  PROVIDER_TIMEOUT_SECONDS: "1",
  PROVIDER_FIRST_TOKEN_TIMEOUT_SECONDS: "1",
  PROVIDER_THINKING_FIRST_TOKEN_TIMEOUT_SECONDS: "1",
  PROVIDER_IDLE_TIMEOUT_SECONDS: "1",
  BRIKK_REQUEST_TIMEOUT_SECONDS: "3",
  BRIKK_KEEP_ALIVE_SECONDS: "0.5",
};

interface WireAnswer {
  readonly status: number;
  readonly head: string;
  readonly body: string;
  /** It came to the end that its framing promised. */
  readonly whole: boolean;
}

type Outcome = "hung" | "left" | { readonly text: string };

/** Writes the bytes and reads until the connection is closed. */
function exchange(url: string, { bytes, pieceBytes, leavesAfterBytes, wellFormed }: FuzzRequest): Promise<Outcome> {
  const { hostname, port } = new URL(url);
  return new Promise((resolve) => {
    const socket = connect(Number(port), hostname);
    let text = "";
    const timer = setTimeout(() => end("hung"), ANSWERED_WITHIN_MS);
    const end = (outcome: Outcome): void => {
      clearTimeout(timer);
      socket.destroy();
      resolve(outcome);
    };
    socket.setEncoding("latin1").on("data", (chunk: string) => {
      text += chunk;
      if (leavesAfterBytes !== undefined && text.length >= leavesAfterBytes) end("left");
    });
    socket.on("error", () => {});
    socket.on("close", () => end({ text }));
    socket.on("connect", () => {
      if (leavesAfterBytes === 0) return end("left");
      if (pieceBytes === undefined) socket.write(bytes);
      else for (let at = 0; at < bytes.length; at += pieceBytes) socket.write(bytes.subarray(at, at + pieceBytes));
      // What is no whole request would be waited for.
      if (!wellFormed) socket.end();
    });
  });
}

/** Takes the first answer apart; undefined when there is none. */
function readAnswer(text: string): WireAnswer | undefined {
  let rest = text;
  while (/^HTTP\/1\.1 1\d\d /.test(rest)) rest = rest.slice(rest.indexOf("\r\n\r\n") + 4);
  const status = Number(/^HTTP\/1\.1 (\d{3}) /.exec(rest)?.[1]);
  const end = rest.indexOf("\r\n\r\n");
  if (!status || end === -1) return undefined;
  const head = rest.slice(0, end);
  const sent = rest.slice(end + 4);
  const length = /^content-length: (\d+)$/im.exec(head)?.[1];
  if (length !== undefined)
    return { status, head, body: sent.slice(0, Number(length)), whole: sent.length >= Number(length) };
  if (!/^transfer-encoding: chunked$/im.test(head)) return { status, head, body: sent, whole: true };
  let body = "";
  for (let at = 0; ;) {
    const lineEnd = sent.indexOf("\r\n", at);
    const size = Number.parseInt(sent.slice(at, lineEnd), 16);
    if (lineEnd === -1 || Number.isNaN(size)) return { status, head, body, whole: false };
    if (size === 0) return { status, head, body, whole: true };
    body += sent.slice(lineEnd + 2, lineEnd + 2 + size);
    at = lineEnd + 2 + size + 2;
  }
}

interface ErrorBody {
  readonly error?: {
    readonly message?: unknown;
    readonly type?: unknown;
    readonly code?: unknown;
    readonly request_id?: unknown;
  };
}

/** What is wrong with the answer; undefined: nothing. */
function faultIn(outcome: Outcome, { wellFormed, bytes, pieceBytes }: FuzzRequest): string | undefined {
  if (outcome === "hung") return `was neither answered nor closed within ${ANSWERED_WITHIN_MS} ms`;
  if (outcome === "left") return undefined;
  const answer = readAnswer(outcome.text);
  // A refusal that comes before the last piece of a body is lost where the caller's own writing resets the connection.
  if (answer === undefined)
    return wellFormed && pieceBytes === undefined
      ? `was closed without an answer: ${outcome.text.slice(0, 200)}`
      : undefined;
  const { status, head, body, whole } = answer;
  for (const line of head.split("\r\n").slice(1))
    if (!/^[a-z0-9-]+: [\x20-\x7e\x80-\xff]*$/i.test(line)) return `has the header line ${JSON.stringify(line)}`;
  if (/^x-injected/im.test(head)) return "has an injected header";
  const isHead = bytes.subarray(0, 5).toString("latin1") === "HEAD ";
  if (isHead || status === 304 || status === 204) return undefined;
  if (/^content-type: text\/event-stream/im.test(head)) return faultInStream(body, whole);
  if (wellFormed && !whole) return "was cut off in the middle";
  if (status < 400) return undefined;
  return faultInError(status, body);
}

function faultInStream(body: string, whole: boolean): string | undefined {
  if (!whole) return "was a stream that broke without a word";
  const events = body.split("\n\n").filter((event) => event !== "" && !event.startsWith(":"));
  const last = events.at(-1) ?? "";
  if (last === "data: [DONE]") return undefined;
  // A conversation's end tells by itself whether it came to one.
  if (/^(id: end\n)?event: run\.(finished|stopped)\ndata: \{.*\}$/.test(last)) return undefined;
  if (!last.startsWith("event: error\ndata: ")) return `was a stream that ended with ${last.slice(0, 200)}`;
  return faultInError(undefined, last.slice("event: error\ndata: ".length));
}

/** In OpenAI's shape; from 500 on with a code of the table and its status, and never by a fault of our own. */
function faultInError(status: number | undefined, text: string): string | undefined {
  let body: ErrorBody;
  try {
    body = JSON.parse(Buffer.from(text, "latin1").toString()) as ErrorBody;
  } catch {
    return `answered ${status} with what is no JSON: ${text.slice(0, 200)}`;
  }
  const { error } = body;
  if (typeof error?.message !== "string" || typeof error.type !== "string" || typeof error.code !== "string")
    return `answered ${status} in another shape: ${text.slice(0, 200)}`;
  if (error.code === "internal_error") return `answered with a fault of the gateway's own: ${text.slice(0, 300)}`;
  if (status === undefined || status < 500) return undefined;
  const known = Object.entries(errorTable).find(([code]) => code === error.code)?.[1];
  if (known?.status !== status) return `answered ${status} with the code ${error.code}, which is not in the table so`;
  return undefined;
}

interface LogLine {
  readonly level: string;
  readonly error_code?: string;
  readonly error?: { readonly name: string };
}

/** What is thrown on purpose has a name of ours; a cause may have any. */
const isOwnFault = ({ level, error_code: code, error }: LogLine): boolean =>
  level === "fatal" ||
  code === "internal_error" ||
  /^(Type|Range|Reference|Syntax|Assertion)?Error$/.test(error?.name ?? "");

const FAULTS: readonly Fault[] = [
  ...[400, 401, 402, 403, 404, 408, 409, 413, 422, 429, 500, 503, 529].map(
    (status) => ({ kind: "status", status }) as const,
  ),
  { kind: "status", status: 400, body: "no JSON" },
  { kind: "status", status: 500, body: { error: { message: { deep: [1] }, code: 7, type: null } } },
  { kind: "status", status: 429, retryAfter: 1e12 },
  { kind: "quota" },
  { kind: "no-allowance" },
  { kind: "refuse-content" },
  { kind: "context-length" },
  { kind: "reset" },
  { kind: "reset", afterTokens: 3 },
  { kind: "hang" },
  { kind: "hang-after-headers" },
  { kind: "slow-first-token", ms: 300 },
  { kind: "heartbeat", everyMs: 100 },
  { kind: "trickle", afterTokens: 2, everyMs: 50, ms: 400 },
  { kind: "stall", afterTokens: 3 },
  { kind: "cut", afterTokens: 3 },
  { kind: "goodbye", afterTokens: 3 },
  { kind: "malformed-chunk", afterTokens: 2 },
  { kind: "error-event", afterTokens: 2 },
  { kind: "error-event", afterTokens: 0, body: [null] },
  { kind: "missing-done" },
  { kind: "empty-stream" },
  { kind: "error-body" },
  { kind: "unusable-body", body: "null" },
  { kind: "unusable-body", body: "html" },
  { kind: "split", bytes: 1 },
  { kind: "slow-body", everyMs: 20 },
];

test(
  `whatever is sent for ${seconds} s, and whatever providers do, is answered in the table's terms, and the gateway lives, stays small and its ledger holds`,
  { timeout: seconds * 1_000 + 200_000 },
  async (t) => {
    t.diagnostic(`BRIKK_FUZZ_SEED=${seed}`);
    const url = `sqlite:${join(scratchFolder(t), "brikk.db")}`;
    const database = await openDatabase({ url });
    t.after(() => database.close());
    const keyStore = createKeyStore({ database, clock: systemClock });
    const newKey = async (): Promise<string> => (await keyStore.create({ name: "fuzz" })).secret;
    const secrets = await Promise.all(Array.from({ length: CALLERS }, newKey));
    const routes = await listApiRoutes(ENVIRONMENT);
    const simulator = await startSimulator({ firstTokenMs: 0, tokensPerSecond: 0, seed });
    t.after(() => simulator.close());
    const gateway = await startGatewayProcess(t, { databaseUrl: url, simulator, environment: ENVIRONMENT });

    const endMs = performance.now() + seconds * 1_000;
    const findings: string[] = [];
    const statuses = new Map<string, number>();
    let sent = 0;
    const trouble = async (): Promise<void> => {
      const draw = new Draw(seed ^ 0x5eed);
      while (performance.now() < endMs) {
        simulator.faults.clear();
        for (let left = draw.below(3); left > 0; left -= 1)
          simulator.faults.set({
            vendor: draw.pick(["openai", "mistral", "*"]),
            share: 0.1 + draw.number() * 0.5,
            fault: draw.pick(FAULTS),
          });
        await new Promise((resolve) => setTimeout(resolve, 50 + draw.below(200)));
      }
      simulator.faults.clear();
    };
    const call = async (caller: number): Promise<void> => {
      const draw = new Draw(seed + caller * 7_919);
      while (performance.now() < endMs && findings.length < 20) {
        const request = drawRequest(draw, routes, { secrets: [secrets[caller]!], adminToken: ADMIN_TOKEN });
        const outcome = await exchange(gateway.url, request);
        sent += 1;
        const status =
          typeof outcome === "string" ? outcome : (/^HTTP\/1\.1 (\d+)/.exec(outcome.text)?.[1] ?? "closed");
        statuses.set(status, (statuses.get(status) ?? 0) + 1);
        const fault = faultIn(outcome, request);
        if (fault !== undefined)
          findings.push(`${JSON.stringify(request.bytes.toString("latin1").slice(0, 1_000))}\n    ${fault}`);
        // Some routes rotate or revoke what they are called with.
        if (status === "401" && !(await works(secrets[caller]!))) secrets[caller] = await newKey();
      }
    };
    const works = async (secret: string): Promise<boolean> =>
      (await fetch(`${gateway.url}/keys/me`, { headers: { "x-brikk-api-key": secret } })).status !== 401;
    await Promise.all([trouble(), ...secrets.map((_, caller) => call(caller))]);

    const counts = [...statuses]
      .toSorted(([a], [b]) => a.localeCompare(b))
      .map(([status, count]) => `${status}: ${count}`);
    t.diagnostic(`${sent} requests: ${counts.join(", ")}`);
    const ownFaults = (): string[] =>
      gateway
        .said()
        .split("\n")
        .filter((line) => line.startsWith("{") && isOwnFault(JSON.parse(line) as LogLine));
    assert.deepEqual([findings, ownFaults().slice(0, 5)], [[], []], `BRIKK_FUZZ_SEED=${seed}`);
    assert.ok((statuses.get("200") ?? 0) > sent / 20, "enough of them were good requests");

    assert.equal((await fetch(`${gateway.url}/health/ready`)).status, 200);
    const metrics = await (await fetch(`${gateway.url}/metrics`)).text();
    const memory = Number(/^process_resident_memory_bytes (\S+)$/m.exec(metrics)?.[1]);
    t.diagnostic(`${(memory / 1024 / 1024).toFixed(0)} MB at the end`);
    assert.ok(memory < MOST_MEMORY_BYTES, `${memory} bytes`);
    assert.equal(await gateway.kill("SIGTERM"), 0, gateway.said().slice(-3_000));
    assert.deepEqual(ownFaults().slice(0, 5), [], `while it stopped, BRIKK_FUZZ_SEED=${seed}`);
    const { faults } = await verifyLedger(database);
    assert.deepEqual(faults, [], `BRIKK_FUZZ_SEED=${seed}`);
  },
);
