import assert from "node:assert/strict";
import { connect } from "node:net";
import { join } from "node:path";
import { test, type TestContext } from "node:test";
import { startSimulator } from "@brikk/simulator";
import { startGatewayProcess } from "../harness/gateway-process.ts";
import { scratchFolder } from "../storage/scratch.ts";

/** In a process of its own, so that the caller is writing while the server answers. */
async function portOfGateway(t: TestContext): Promise<number> {
  const simulator = await startSimulator();
  t.after(() => simulator.close());
  const gateway = await startGatewayProcess(t, {
    databaseUrl: `sqlite:${join(scratchFolder(t), "brikk.db")}`,
    simulator,
  });
  return Number(new URL(gateway.url).port);
}

interface Received {
  readonly text: string;
  readonly error: string | undefined;
}

/**
 * Says that the connection is to end with the answer, and sends so much of the body that it announces. Who owes a part of it sends
 * a byte now and then, and stays until he is told that nobody listens.
 */
const ask = (port: number, path: string, announced: number, sent: number): Promise<Received> =>
  new Promise((resolve) => {
    const socket = connect({ port, host: "127.0.0.1", allowHalfOpen: true });
    let text = "";
    let error: string | undefined;
    socket.on("connect", () =>
      socket.write(
        `GET ${path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nConnection: close\r\nContent-Length: ${announced}\r\n\r\n${"x".repeat(sent)}`,
      ),
    );
    socket.setEncoding("latin1").on("data", (piece: string) => (text += piece));
    socket.on("error", (cause: NodeJS.ErrnoException) => (error = cause.code));
    const dawdling = setInterval(() => sent < announced && socket.write("x"), 100);
    socket.on("end", () => sent === announced && socket.end());
    socket.on("close", () => {
      clearInterval(dawdling);
      resolve({ text, error });
    });
  });

function assertWhole({ text }: Received): void {
  const length = Number(/^content-length: (\d+)/im.exec(text)?.[1]);
  assert.match(text, /^HTTP\/1\.1 200 /);
  assert.equal(text.length, text.indexOf("\r\n\r\n") + 4 + length);
}

test("an answer that ends its connection arrives whole, whatever of the request's body nobody read", async (t) => {
  const port = await portOfGateway(t);
  for (let round = 0; round < 10; round += 1)
    for (const answer of await Promise.all(
      Array.from({ length: 12 }, () => ask(port, "/docs/json", 200_000, 200_000)),
    )) {
      assert.equal(answer.error, undefined);
      assertWhole(answer);
    }
});

test("who never sends the rest of a body has his answer, and his connection ends all the same", async (t) => {
  const port = await portOfGateway(t);
  for (const answer of await Promise.all(Array.from({ length: 20 }, () => ask(port, "/health/live", 200_000, 10))))
    assertWhole(answer);
});
