import { once } from "node:events";
import { connect, type Socket } from "node:net";
import { Worker } from "node:worker_threads";

/** A port on loopback where a connection neither comes about nor is refused: its queue is full and nobody takes from it. */
export interface DeafServer {
  readonly port: number;
  close(): Promise<void>;
}

/** Listens, and then never again looks at what comes. */
const LISTENER = `
const { parentPort } = require("node:worker_threads");
const server = require("node:net").createServer().listen({ port: 0, host: "127.0.0.1", backlog: 1 }, () => {
  parentPort.postMessage(server.address().port);
  setImmediate(() => Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0));
});
`;
const CONNECTED_WITHIN_MS = 250;
/** Systems round a backlog up, but not to that. */
const MOST_QUEUED = 64;

/** Undefined where the system takes every connection in, whatever its queue. */
export async function startDeafServer(): Promise<DeafServer | undefined> {
  const worker = new Worker(LISTENER, { eval: true });
  const [port] = (await once(worker, "message")) as [number];
  const sockets: Socket[] = [];
  const close = async (): Promise<void> => {
    for (const socket of sockets) socket.destroy();
    await worker.terminate();
  };
  while (sockets.length < MOST_QUEUED) {
    const socket = connect({ port, host: "127.0.0.1" });
    sockets.push(socket);
    socket.on("error", () => undefined);
    const connected = await Promise.race([
      once(socket, "connect").then(() => true),
      new Promise<false>((resolve) => {
        setTimeout(() => resolve(false), CONNECTED_WITHIN_MS);
      }),
    ]);
    if (!connected) return { port, close };
  }
  await close();
  return undefined;
}
