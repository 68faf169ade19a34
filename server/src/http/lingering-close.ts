import type { IncomingMessage, Server } from "node:http";
import type { Socket } from "node:net";

/** As long as what is under way takes to arrive; who is slower than that wanted to be. */
const LINGER_MS = 2_000;

/**
 * A connection that ends with its answer is closed in two steps (RFC 9112 §9.6). With a part of the request's body still unread,
 * closing it at once resets it, and a reset takes from the caller what he has not read of the answer: a refusal would explain
 * itself to nobody. So only our side is closed, and what comes is passed over until the body is there, for a bounded time.
 */
export function lingerOnClose(server: Server): void {
  const newest = new WeakMap<Socket, IncomingMessage>();
  server.prependListener("request", (request) => newest.set(request.socket, request));
  server.prependListener("connection", (socket) => {
    const closeAtOnce = socket.destroySoon.bind(socket);
    // What node calls when an answer is written that is the connection's last.
    socket.destroySoon = () => {
      const request = newest.get(socket);
      if (request === undefined || request.complete || socket.destroyed) return closeAtOnce();
      const timer = setTimeout(closeAtOnce, LINGER_MS).unref();
      socket.once("close", () => clearTimeout(timer));
      request.once("end", closeAtOnce).resume();
      socket.end();
    };
  });
}
