import type { IncomingMessage, Server, ServerResponse } from "node:http";
import type { Duplex } from "node:stream";
import { BrikkError } from "../errors.ts";
import { rawRefusal } from "./raw-refusal.ts";

/** Takes over what node would answer by itself, in silence or without a body. */
export function replaceNodeAnswers(server: Server): void {
  server.on("connect", (_request: IncomingMessage, socket: Duplex) => {
    socket.on("error", () => undefined);
    socket.end(
      rawRefusal(new BrikkError("method_not_allowed", "This server is no proxy and opens no tunnels."), {
        allow: "GET, POST",
      }),
      () => socket.destroy(),
    );
  });
  // Whatever else than 100-continue is expected may be left unmet (RFC 9110 §10.1.1).
  server.on("checkExpectation", (request: IncomingMessage, response: ServerResponse) => {
    server.emit("request", request, response);
  });
}
