/** Brikk's stand-in for OpenAI and Mistral: their wire protocols over invented answers, with faults on request. */
import { createServer } from "node:http";
import type { IncomingMessage, Server, ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { Connection } from "./connection.ts";
import { control } from "./control.ts";
import type { ControlParts } from "./control.ts";
import { FaultBoard } from "./faults.ts";
import { ModelAnswers } from "./model-answers.ts";
import { Pace } from "./pacing.ts";
import { ServedLog } from "./served-log.ts";
import { SIMULATED_HEADER, VendorService } from "./vendor-service.ts";
import { mistralProtocol } from "./wire/mistral.ts";
import { openaiProtocol } from "./wire/openai.ts";

export type { ServedEntry } from "./served-log.ts";

export interface SimulatorOptions {
  /** 127.0.0.1 when left out: the control endpoints ask for no key. */
  readonly host?: string;
  /** 0, any free one, when left out. */
  readonly port?: number;
  /** Milliseconds to the first token; 300 when left out. */
  readonly firstTokenMs?: number;
  /** 60 when left out; 0 sends answers at once. */
  readonly tokensPerSecond?: number;
  /** Decides answers and which requests a fault's share strikes; 1 when left out. */
  readonly seed?: number;
}

export interface Simulator {
  readonly url: string;
  readonly openaiBaseUrl: string;
  readonly mistralBaseUrl: string;
  readonly faults: FaultBoard;
  readonly served: ServedLog;
  /** Stops listening and ends what is still being answered, after at most `graceMs` (0) for it to finish. */
  close(graceMs?: number): Promise<void>;
}

/** Starts a simulator; rejects with the listening error, such as EADDRINUSE. */
export async function startSimulator(options: SimulatorOptions = {}): Promise<Simulator> {
  const { host = "127.0.0.1", port = 0, firstTokenMs = 300, tokensPerSecond = 60, seed = 1 } = options;
  const faults = new FaultBoard(seed);
  const served = new ServedLog();
  const pace = new Pace({ firstTokenMs, tokensPerSecond });
  const answers = new ModelAnswers(seed);
  const parts = { answers, faults, served, pace };
  const vendors = new Map([
    ["/openai/v1", new VendorService(openaiProtocol(), parts)],
    ["/mistral/v1", new VendorService(mistralProtocol(), parts)],
  ]);
  const server = createServer({ keepAliveTimeout: 65_000 }, (request, response) => {
    route(request, response, vendors, parts).catch((error: unknown) => {
      console.error(error);
      response.destroy();
    });
  });
  await listen(server, port, host);
  const url = serverUrl(server.address() as AddressInfo);
  return {
    url,
    openaiBaseUrl: `${url}/openai/v1`,
    mistralBaseUrl: `${url}/mistral/v1`,
    faults,
    served,
    close: (graceMs = 0) => closeServer(server, graceMs),
  };
}

async function route(
  request: IncomingMessage,
  response: ServerResponse,
  vendors: ReadonlyMap<string, VendorService>,
  parts: ControlParts,
): Promise<void> {
  const connection = new Connection(response);
  const target = request.url ?? "/";
  for (const [prefix, vendor] of vendors) {
    if (target.startsWith(`${prefix}/`))
      return vendor.serve(request, connection, target.slice(prefix.length).split("?", 1)[0] ?? "");
  }
  const url = URL.parse(target, "http://simulator");
  if (url?.pathname.startsWith("/control/") === true) {
    const reply = await control(request, url, parts);
    return sendJson(connection, reply.status, reply.body);
  }
  return sendJson(connection, 404, {
    error: { message: "The simulator serves /openai/v1, /mistral/v1 and /control." },
  });
}

function sendJson(connection: Connection, status: number, body: unknown): void {
  if (connection.gone) return;
  connection.response.writeHead(status, { "content-type": "application/json", ...SIMULATED_HEADER });
  connection.response.end(`${JSON.stringify(body)}\n`);
}

function listen(server: Server, port: number, host: string): Promise<void> {
  return new Promise((resolve, reject) => {
    server.once("error", reject);
    server.listen(port, host, () => {
      server.off("error", reject);
      resolve();
    });
  });
}

function serverUrl({ address, family, port }: AddressInfo): string {
  return `http://${family === "IPv6" ? `[${address}]` : address}:${port}`;
}

async function closeServer(server: Server, graceMs: number): Promise<void> {
  const closed = new Promise<void>((resolve) => server.close(() => resolve()));
  server.closeIdleConnections();
  if (graceMs === 0) server.closeAllConnections();
  const timer = setTimeout(() => server.closeAllConnections(), graceMs);
  await closed;
  clearTimeout(timer);
}
