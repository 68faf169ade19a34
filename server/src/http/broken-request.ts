import type { Socket } from "node:net";
import { BrikkError, type ErrorCode } from "../errors.ts";
import type { Connections } from "./connections.ts";
import { rawRefusal } from "./raw-refusal.ts";
import type { WireLimits } from "./wire-limits.ts";

/** Who is refused may still be sending, and would lose the refusal to a connection that is reset under it. */
const LINGER_MS = 1_000;

/**
 * What cannot be read as HTTP never becomes a request, so its refusal is written to the socket, once, and nothing is read from
 * there any more. It takes its place in the order of the answers: behind those to earlier requests on the connection, in the
 * place of an answer that has not begun, and not at all within one that has.
 */
export function createBrokenRequestAnswer(
  connections: Connections,
  limits: WireLimits,
): (error: Error & { code?: string }, socket: Socket) => void {
  const refused = new WeakSet<Socket>();

  function refuse(socket: Socket, refusal: BrikkError): void {
    if (!socket.writable) return void socket.destroy();
    socket.end(rawRefusal(refusal));
    const linger = setTimeout(() => socket.destroy(), LINGER_MS).unref();
    socket.once("close", () => clearTimeout(linger));
  }

  return (error, socket) => {
    // Whatever else comes on it is no part of a request either.
    if (refused.has(socket) && !socket.destroyed) return;
    refused.add(socket);
    if (error.code === "ECONNRESET" || !socket.writable) return void socket.destroy();
    const refusal = refusalOf(error.code, limits);
    const newest = connections.newestOn(socket);
    if (newest === undefined || newest.response.closed) {
      // The body of a request that is answered already was not needed for the answer.
      if (newest?.request.complete === false) return void socket.destroy();
      return refuse(socket, refusal);
    }
    if (newest.request.complete) return void newest.response.once("close", () => refuse(socket, refusal));
    // Without a socket of its own it waits for the answer to an earlier request.
    if (newest.response.headersSent || newest.response.socket === null) return void socket.destroy();
    refuse(socket, refusal);
  };
}

function refusalOf(code: string | undefined, { maxHeaderBytes }: WireLimits): BrikkError {
  const messages: Partial<Record<ErrorCode, string>> = {
    headers_too_large: `The request's headers are larger than ${maxHeaderBytes / 1_024} KiB.`,
    request_timeout: "The request did not arrive in full in time.",
  };
  const kind: ErrorCode =
    code === "HPE_HEADER_OVERFLOW"
      ? "headers_too_large"
      : code === "ERR_HTTP_REQUEST_TIMEOUT"
        ? "request_timeout"
        : "invalid_request";
  return new BrikkError(kind, messages[kind] ?? "This is not a well-formed HTTP request.");
}
