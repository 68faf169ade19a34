import { lookup as systemLookup } from "node:dns/promises";
import { once } from "node:events";
import { type AddressInfo, createServer, type Server } from "node:net";
import type { App } from "./app-type.ts";

/** What it means that this machine lacks one of the two families, and no fault. */
const NO_SUCH_FAMILY: ReadonlySet<unknown> = new Set(["EADDRNOTAVAIL", "EAFNOSUPPORT"]);

/**
 * Begins to serve and gives the URL. `localhost` may be two addresses, 127.0.0.1 and ::1, and callers try either first, so both are
 * served: fastify would open a second server for the other one, which has nothing of what is set on the first (connections counted,
 * broken requests answered, time limits looked at). Here all connections come to the one server, wherever they were accepted.
 *
 * Rejects with the system's error, also when another program has the port on the second address: it would get those callers' keys.
 */
export async function listen(
  app: App,
  { host, port }: { readonly host: string; readonly port: number },
  lookup: (host: string, options: { all: true }) => Promise<readonly { address: string }[]> = systemLookup,
): Promise<string> {
  if (host !== "localhost") return app.listen({ host, port });
  const addresses = new Set((await lookup(host, { all: true })).map(({ address }) => address));
  const [first = host, ...others] = addresses;
  const beside: Server[] = [];
  app.addHook("preClose", (done) => {
    for (const server of beside) server.close();
    done();
  });
  const url = await app.listen({ host: first, port });
  const { port: bound } = app.server.address() as AddressInfo;
  try {
    for (const address of others) {
      const server = await listenBeside(app, { host: address, port: bound });
      if (server !== undefined) beside.push(server);
    }
  } catch (error) {
    await app.close();
    throw error;
  }
  return url;
}

/** Undefined where this machine has no such address. */
async function listenBeside(
  app: App,
  place: { readonly host: string; readonly port: number },
): Promise<Server | undefined> {
  // As node's HTTP server accepts them.
  const server = createServer({ allowHalfOpen: true, noDelay: true }, (socket) => {
    app.server.emit("connection", socket);
  });
  server.listen(place);
  try {
    await once(server, "listening");
  } catch (error) {
    if (NO_SUCH_FAMILY.has((error as { code?: unknown }).code)) return undefined;
    throw error;
  }
  return server;
}
