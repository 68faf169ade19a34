import { type IncomingMessage, request as httpRequest } from "node:http";
import { StringDecoder } from "node:string_decoder";
import type { GatewayUnderTest } from "../harness/gateway-under-test.ts";

export interface WireTurn {
  readonly index: number;
  readonly round: number;
  readonly agent: string;
  readonly lang: string | null;
  readonly dir: string | null;
  readonly provider: string;
  readonly model: string;
  readonly message: string;
  readonly status: string;
  readonly truncated: boolean;
  readonly usage: { readonly prompt_tokens: number; readonly completion_tokens: number };
  readonly cost_usd: number;
  readonly latency_ms: number;
  readonly time_to_first_token_ms: number | null;
  readonly fallback: boolean;
  readonly failed_attempts: readonly {
    readonly provider: string;
    readonly fault: string;
    readonly status: number | null;
  }[];
  readonly route_reason: string | null;
  readonly request_id: string;
  readonly error: { readonly code: string } | null;
}

export interface WireRun {
  readonly id: string;
  readonly status?: string;
  readonly ended: string | null;
  readonly turns: readonly WireTurn[];
  readonly totals: { readonly turns: number; readonly cost_usd: number; readonly fallbacks: number };
  readonly error: {
    readonly code: string;
    readonly message: string;
    readonly details: Readonly<Record<string, unknown>> | null;
  } | null;
}

export interface WireEvent {
  readonly id: string | undefined;
  readonly event: string;
  readonly data: Record<string, unknown>;
}

/** The events of a stream's text; comments say nothing. */
export function eventsIn(text: string): WireEvent[] {
  return text
    .split("\n\n")
    .filter((block) => block !== "" && !block.startsWith(":"))
    .map((block) => {
      const fields = new Map(
        block.split("\n").map((line) => [line.slice(0, line.indexOf(": ")), line.slice(line.indexOf(": ") + 2)]),
      );
      return {
        id: fields.get("id"),
        event: fields.get("event") ?? "message",
        data: JSON.parse(fields.get("data") ?? "null") as Record<string, unknown>,
      };
    });
}

/** Without what the run had come to by then. */
export const turnsIn = (events: readonly WireEvent[]): WireTurn[] =>
  events
    .filter(({ event }) => event === "turn.finished")
    .map(({ data: { totals: _totals, ...turn } }) => turn as unknown as WireTurn);

/** What the deltas of each turn come to. */
export function spokenIn(events: readonly WireEvent[]): ReadonlyMap<number, string> {
  const spoken = new Map<number, string>();
  for (const { event, data } of events) {
    if (event !== "turn.delta") continue;
    const index = data["index"] as number;
    spoken.set(index, (spoken.get(index) ?? "") + (data["text"] as string));
  }
  return spoken;
}

export interface Client {
  post(path: string, body: object, headers?: Record<string, string>): Promise<Response>;
  get(path: string, headers?: Record<string, string>): Promise<Response>;
  delete(path: string): Promise<Response>;
}

export function clientOf(gateway: Pick<GatewayUnderTest, "url">, secret: string): Client {
  const send = (method: string, path: string, headers: Record<string, string>, body?: object): Promise<Response> =>
    fetch(`${gateway.url}${path}`, {
      method,
      headers: { authorization: `Bearer ${secret}`, ...(body && { "content-type": "application/json" }), ...headers },
      ...(body && { body: JSON.stringify(body) }),
    });
  return {
    post: (path, body, headers = {}) => send("POST", path, headers, body),
    get: (path, headers = {}) => send("GET", path, headers),
    delete: (path) => send("DELETE", path, {}),
  };
}

export interface OpenStream {
  readonly status: number;
  /** What came so far. */
  readonly events: readonly WireEvent[];
  /** Resolves with the event that satisfies, as soon as it came; rejects when the stream ends without. */
  until(satisfies: (event: WireEvent) => boolean): Promise<WireEvent>;
  /** Resolves when the stream has ended. */
  readonly ended: Promise<void>;
  /** Closes the socket, as a browser tab does. */
  leave(): void;
}

/** A stream of events on a socket of its own. */
export async function openStream(
  gateway: Pick<GatewayUnderTest, "url">,
  secret: string,
  path: string,
  { body, headers = {} }: { body?: object; headers?: Record<string, string> } = {},
): Promise<OpenStream> {
  const outgoing = httpRequest(`${gateway.url}${path}`, {
    method: body ? "POST" : "GET",
    agent: false,
    headers: {
      authorization: `Bearer ${secret}`,
      accept: "text/event-stream",
      ...(body && { "content-type": "application/json" }),
      ...headers,
    },
  });
  const response = await new Promise<IncomingMessage>((resolve, reject) => {
    outgoing.on("response", resolve).on("error", reject);
    outgoing.end(body && JSON.stringify(body));
  });
  const events: WireEvent[] = [];
  const waiting = new Set<() => void>();
  const decoder = new StringDecoder("utf8");
  let rest = "";
  let over = false;
  const wake = (): void => {
    for (const look of waiting) look();
  };
  const ended = new Promise<void>((resolve) => {
    response
      .on("error", () => undefined)
      .on("close", () => {
        over = true;
        wake();
        resolve();
      });
  });
  response.on("data", (bytes: Buffer) => {
    rest += decoder.write(bytes);
    const end = rest.lastIndexOf("\n\n") + 2;
    if (end < 2) return;
    events.push(...eventsIn(rest.slice(0, end)));
    rest = rest.slice(end);
    wake();
  });
  return {
    status: response.statusCode ?? 0,
    events,
    ended,
    until: (satisfies) =>
      new Promise((resolve, reject) => {
        const look = (): void => {
          const found = events.find(satisfies);
          if (found === undefined && !over) return;
          waiting.delete(look);
          if (found) resolve(found);
          else reject(new Error(`The stream ended without it: ${events.map(({ event }) => event).join(" ")}`));
        };
        waiting.add(look);
        look();
      }),
    leave: () => outgoing.destroy(),
  };
}
