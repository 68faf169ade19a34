import { connect, type Socket } from "node:net";
import { answerText, PLAIN_WORDS, type Workload } from "./workload.ts";

/**
 * The load generator: raw keep-alive connections that send the same request again and again, and check every answer. Its own
 * process; it takes one job after the other from its parent.
 *
 * Without a rate each connection sends as soon as it has its answer. With one, requests are due at fixed moments, and when
 * no connection was free by then latency counts from the moment the request was due, so that a gateway that falls behind
 * cannot hide it.
 */
export interface Job {
  readonly port: number;
  readonly path: string;
  readonly headers: Readonly<Record<string, string>>;
  readonly workload: Workload;
  readonly connections: number;
  readonly maxRequests: number;
  readonly maxMs: number;
  readonly ratePerSecond?: number;
}

export interface JobResult {
  readonly requests: number;
  readonly failures: number;
  readonly firstFailure: string | undefined;
  readonly elapsedMs: number;
  readonly latencyMs: Percentiles;
  /** To the first byte of the body. */
  readonly firstByteMs: Percentiles;
}

export interface Percentiles {
  readonly p50: number;
  readonly p99: number;
}

const HEAD_END = Buffer.from("\r\n\r\n");
const LAST_CHUNK = Buffer.from("\r\n0\r\n\r\n");

function run(job: Job): Promise<JobResult> {
  const body = JSON.stringify(job.workload.body);
  const head = Object.entries({
    host: `127.0.0.1:${job.port}`,
    "content-type": "application/json",
    "content-length": String(Buffer.byteLength(body)),
    ...job.headers,
  });
  const request = Buffer.from(
    `POST ${job.path} HTTP/1.1\r\n${head.map(([name, value]) => `${name}: ${value}\r\n`).join("")}\r\n${body}`,
  );
  const latencies: number[] = [];
  const firstBytes: number[] = [];
  const sockets = new Set<Socket>();
  let sent = 0;
  let done = 0;
  let failures = 0;
  let firstFailure: string | undefined;
  /** An answer that was found right; most others are the same bytes. */
  let right: Buffer | undefined;
  const startedMs = performance.now();

  return new Promise((resolve) => {
    const finish = (): void => {
      for (const socket of sockets) socket.destroy();
      const elapsedMs = performance.now() - startedMs;
      resolve({
        requests: done,
        failures,
        firstFailure,
        elapsedMs,
        latencyMs: percentiles(latencies),
        firstByteMs: percentiles(firstBytes),
      });
    };
    let open = job.connections;
    const retire = (): void => {
      if (--open === 0) finish();
    };

    const work = (): void => {
      const socket = connect({ port: job.port, host: "127.0.0.1", noDelay: true });
      sockets.add(socket);
      let chunks: Buffer[] = [];
      let bytes = 0;
      let bodyStart = -1;
      let length: number | undefined;
      let dueMs = 0;
      let waiting = false;

      const send = (): void => {
        const now = performance.now();
        if (sent >= job.maxRequests || now - startedMs >= job.maxMs) {
          socket.destroy();
          sockets.delete(socket);
          return retire();
        }
        dueMs = job.ratePerSecond === undefined ? now : startedMs + (sent * 1_000) / job.ratePerSecond;
        sent += 1;
        chunks = [];
        bytes = 0;
        bodyStart = -1;
        waiting = true;
        if (dueMs <= now) return void socket.write(request);
        setTimeout(() => {
          // The timer's own delay is not the gateway's.
          dueMs = performance.now();
          socket.write(request);
        }, dueMs - now);
      };
      const settle = (fault: string | undefined): void => {
        waiting = false;
        done += 1;
        latencies.push(performance.now() - dueMs);
        if (fault !== undefined) {
          failures += 1;
          firstFailure ??= fault;
        }
      };

      socket.on("connect", send);
      socket.on("data", (chunk: Buffer) => {
        chunks.push(chunk);
        bytes += chunk.length;
        if (bodyStart === -1) {
          const all = chunks.length === 1 ? chunk : Buffer.concat(chunks);
          const end = all.indexOf(HEAD_END);
          if (end === -1) return;
          bodyStart = end + HEAD_END.length;
          const declared = /\r\ncontent-length: *(\d+)/i.exec(all.toString("latin1", 0, end));
          length = declared ? Number(declared[1]) : undefined;
          chunks = [all];
          firstBytes.push(performance.now() - dueMs);
        }
        const complete = length === undefined ? endsWithLastChunk(chunks) : bytes >= bodyStart + length;
        if (!complete) return;
        const all = chunks.length === 1 ? chunks[0]! : Buffer.concat(chunks);
        const payload = length === undefined ? unchunk(all, bodyStart) : all.subarray(bodyStart);
        const status = all.toString("latin1", 9, 12);
        let fault: string | undefined;
        if (status !== "200") fault = `status ${status}: ${payload.toString("utf8").slice(0, 300)}`;
        else if (!right?.equals(payload)) {
          fault = faultOf(payload.toString("utf8"), job.workload);
          if (fault === undefined) right = payload;
        }
        settle(fault);
        send();
      });
      socket.on("error", () => {});
      socket.on("close", () => {
        sockets.delete(socket);
        if (!waiting) return;
        settle("the connection was closed before the answer was whole");
        work();
      });
    };
    for (let index = 0; index < job.connections; index += 1) work();
  });
}

/** One answer at a time is on its way, so the closing chunk can only be the last bytes. */
function endsWithLastChunk(chunks: readonly Buffer[]): boolean {
  const last = chunks[chunks.length - 1]!;
  if (last.length >= LAST_CHUNK.length) return last.subarray(-LAST_CHUNK.length).equals(LAST_CHUNK);
  return Buffer.concat(chunks.slice(-3)).subarray(-LAST_CHUNK.length).equals(LAST_CHUNK);
}

function unchunk(all: Buffer, bodyStart: number): Buffer {
  const parts: Buffer[] = [];
  for (let at = bodyStart; ;) {
    const lineEnd = all.indexOf("\r\n", at, "latin1");
    const size = Number.parseInt(all.toString("latin1", at, lineEnd), 16);
    if (!(size > 0)) return Buffer.concat(parts);
    parts.push(all.subarray(lineEnd + 2, lineEnd + 2 + size));
    at = lineEnd + 2 + size + 2;
  }
}

/** What is wrong with an answer, if anything is. */
function faultOf(text: string, { chunks }: Workload): string | undefined {
  try {
    if (chunks === undefined) {
      const answer = JSON.parse(text) as {
        choices: { message: { content: string } }[];
        usage: { completion_tokens: number };
      };
      return answer.choices[0]!.message.content === answerText(PLAIN_WORDS) &&
        answer.usage.completion_tokens === PLAIN_WORDS
        ? undefined
        : `a wrong answer: ${text.slice(0, 300)}`;
    }
    const events = text
      .split("\n\n")
      .filter((event) => event.startsWith("data: "))
      .map((event) => event.slice(6));
    if (events.pop() !== "[DONE]") return `a stream without its end: ${text.slice(-200)}`;
    let said = "";
    let counted: number | undefined;
    for (const event of events) {
      const { choices, usage } = JSON.parse(event) as {
        choices: { delta: { content?: string } }[];
        usage?: { completion_tokens: number } | null;
      };
      said += choices[0]?.delta.content ?? "";
      counted = usage?.completion_tokens ?? counted;
    }
    return said === answerText(chunks) && counted === chunks ? undefined : `a wrong stream: ${text.slice(0, 300)}`;
  } catch (error) {
    return `an unreadable answer (${String(error)}): ${text.slice(0, 300)}`;
  }
}

function percentiles(values: number[]): Percentiles {
  values.sort((a, b) => a - b);
  const at = (share: number): number =>
    values[Math.min(values.length - 1, Math.floor(values.length * share))] ?? Number.NaN;
  return { p50: at(0.5), p99: at(0.99) };
}

process.on("message", (job: Job) => void run(job).then((result) => process.send!(result)));
process.on("disconnect", () => process.exit(0));
