import type { IncomingMessage, Server, ServerResponse } from "node:http";
import type { Socket } from "node:net";
import { addressGroup } from "../access/address-group.ts";
import { BrikkError } from "../errors.ts";
import { rawRefusal } from "./raw-refusal.ts";

/**
 * The connections that are open, and how many one address may have of them before it shows a valid key.
 *
 * 1. A connection counts for its address (addressGroup) from the moment it is accepted until `vouch` is called for it or it
 *    closes. Who calls with a key is so never counted for longer than its first request takes to arrive.
 * 2. An address that has more than its number is given GRACE_MS, in which callers who connected all at once show their keys. Then
 *    those of its connections are closed that have been without a request for longest: a silent crowd makes way for who has
 *    something to say, and not the other way round.
 * 3. Where requests are in hand on all of them, `refusal` has a 429 for one more without a key.
 * 4. At CEILING times its number this happens without grace; where requests are in hand on all of those, as of callers who do
 *    not read their answers, a newcomer is refused unheard.
 *
 * 5. Who sends MOST_PIPELINED requests without waiting for an answer, and then another one, loses the connection, whoever he is: node
 *    reads 64 KiB of such requests at once and begins to serve them all, and each may hold a file or an answer until its turn comes.
 *
 * Behind a trusted proxy all connections are the proxy's, which has to limit its own callers; connections are not counted then.
 */
export interface Connections {
  /** To be called once for the server, before it listens. */
  watch(server: Server): void;
  /** A valid key, or the admin token, came on this connection. */
  vouch(socket: Socket): void;
  /** Why a request without a key on this connection cannot be served now; undefined: it can. */
  refusal(socket: Socket): BrikkError | undefined;
  /** The newest request of the connection, whose body may still be on its way, and the answer to it. */
  newestOn(socket: Socket): Exchange | undefined;
}

export interface Exchange {
  readonly request: IncomingMessage;
  readonly response: ServerResponse;
}

const GRACE_MS = 1_000;
const CEILING = 10;
/** No client that is in use sends more than one. */
const MOST_PIPELINED = 8;

/** When a connection was refused: as it came, while it waited without a request, with a request in hand, or with too many of them. */
export type RefusedConnection = "accepting" | "waiting" | "calling" | "pipelining";

interface Connection {
  readonly socket: Socket;
  /** Those of its address that count, longest without a request first; undefined: it does not count. */
  crowd: Crowd | undefined;
  inHand: number;
  newest: Exchange | undefined;
}

interface Crowd {
  readonly connections: Set<Connection>;
  trimming: boolean;
}

export function createConnections(options: {
  /** Undefined: not limited. */
  readonly mostPerAddress: number | undefined;
  readonly onRefused: (when: RefusedConnection) => void;
}): Connections {
  const { mostPerAddress: most = Number.POSITIVE_INFINITY, onRefused } = options;
  const known = new WeakMap<Socket, Connection>();
  const crowds = new Map<string, Crowd>();

  function accept(socket: Socket): boolean {
    const connection: Connection = { socket, crowd: undefined, inHand: 0, newest: undefined };
    known.set(socket, connection);
    // Who is gone already has no address any more.
    if (most === Number.POSITIVE_INFINITY || socket.remoteAddress === undefined) return true;
    const group = addressGroup(socket.remoteAddress);
    const crowd = crowds.get(group) ?? { connections: new Set(), trimming: false };
    if (crowd.connections.size >= most * CEILING) trim(crowd);
    if (crowd.connections.size >= most * CEILING) return false;
    crowds.set(group, crowd);
    connection.crowd = crowd;
    crowd.connections.add(connection);
    socket.once("close", () => {
      leave(connection);
      if (crowd.connections.size === 0 && crowds.get(group) === crowd) crowds.delete(group);
    });
    if (crowd.connections.size > most && !crowd.trimming) {
      crowd.trimming = true;
      // What has arrived by then is read first, however late this process is.
      const trimNow = (): void => {
        crowd.trimming = false;
        trim(crowd);
      };
      setTimeout(() => setImmediate(trimNow), GRACE_MS).unref();
    }
    return true;
  }

  function leave(connection: Connection): void {
    connection.crowd?.connections.delete(connection);
    connection.crowd = undefined;
  }

  function trim({ connections }: Crowd): void {
    for (const connection of connections) {
      if (connections.size <= most) return;
      if (connection.inHand > 0) continue;
      leave(connection);
      onRefused("waiting");
      // Who has had an answer on it would take a second one for that to the next request.
      if (connection.newest === undefined) connection.socket.write(rawRefusal(tooMany(most)));
      connection.socket.destroySoon();
    }
  }

  /** Whether it may be served. */
  function begin(request: IncomingMessage, response: ServerResponse): boolean {
    const connection = known.get(request.socket);
    if (connection === undefined) return true;
    if (connection.inHand >= MOST_PIPELINED) {
      // The others that were read with it are still to come.
      if (!request.socket.destroyed) onRefused("pipelining");
      request.socket.destroy();
      return false;
    }
    connection.newest = { request, response };
    connection.inHand += 1;
    response.once("close", () => {
      connection.inHand -= 1;
      // To the end of the line: it has just had something to say.
      if (connection.crowd?.connections.delete(connection)) connection.crowd.connections.add(connection);
    });
    return true;
  }

  return {
    watch(server) {
      // Node's own listener reads from the socket at once, so it is asked last and not for those who are refused.
      const serve = server.listeners("connection");
      server.removeAllListeners("connection");
      server.on("connection", (socket) => {
        if (accept(socket)) return serve.forEach((listener) => listener.call(server, socket));
        onRefused("accepting");
        socket.on("error", () => undefined);
        socket.resume();
        socket.end(rawRefusal(tooMany(most)), () => socket.destroySoon());
      });
      const answer = server.listeners("request");
      server.removeAllListeners("request");
      server.on("request", (request, response) => {
        if (begin(request, response)) for (const listener of answer) listener.call(server, request, response);
      });
    },
    vouch(socket) {
      const connection = known.get(socket);
      if (connection?.crowd) leave(connection);
    },
    refusal(socket) {
      const crowd = known.get(socket)?.crowd;
      if (crowd === undefined || crowd.connections.size <= most) return undefined;
      trim(crowd);
      if (crowd.connections.size <= most) return undefined;
      onRefused("calling");
      return tooMany(most);
    },
    newestOn: (socket) => known.get(socket)?.newest,
  };
}

const tooMany = (limit: number): BrikkError =>
  new BrikkError(
    "too_many_connections",
    `One address may have ${limit} connections open that have not shown a valid key, and yours has more. Close some, use connections again, or send a key.`,
    { retryAfterMs: 1_000, details: { scope: "ip", rule: "connections", limit } },
  );
