import assert from "node:assert/strict";
import { getEventListeners, once } from "node:events";
import { connect, type AddressInfo, type Socket } from "node:net";
import { type TestContext, test } from "node:test";
import fastify from "fastify";
import { BrikkError } from "../../src/errors.ts";
import { createStreamReply } from "../../src/http/stream-reply.ts";
import { sseEvent } from "../../src/lib/sse-events.ts";
import { createRedactor } from "../../src/telemetry/redactor.ts";
import { eventually } from "../ledger/ledger-fixture.ts";

type StreamReply = ReturnType<typeof createStreamReply>;

/** A caller on a real connection, and the gateway's end of the stream to it. */
async function streamed(t: TestContext, { keepAliveMs = 60_000 } = {}) {
  const controller = new AbortController();
  const app = fastify();
  const opened = new Promise<StreamReply>((resolve) => {
    app.get("/", (_request, reply) => {
      const stream = createStreamReply(reply, {
        requestId: "r",
        keepAliveMs,
        signal: controller.signal,
        redactor: createRedactor(),
        headersOf: (head) => ({ "x-head": head === undefined ? "nobody yet" : "somebody" }),
      });
      t.after(() => stream.close());
      resolve(stream);
      // As a handler that has taken the reply away.
      return new Promise(() => undefined);
    });
  });
  await app.listen({ port: 0, host: "127.0.0.1" });
  const socket: Socket = connect((app.server.address() as AddressInfo).port, "127.0.0.1");
  let received = "";
  socket.setEncoding("utf8").on("data", (text: string) => (received += text));
  socket.write("GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
  t.after(() => {
    socket.destroy();
    app.server.closeAllConnections();
    return app.close();
  });
  return { stream: await opened, socket, controller, received: () => received };
}

/** Lines that are comments to a reader of server-sent events. */
const commentsIn = (text: string): number => text.split(/\r?\n/).filter((line) => line.startsWith(":")).length;
const HEAD = {} as Parameters<StreamReply["start"]>[0];
const BIG = sseEvent("x".repeat(4_000_000));

test("while nothing comes a comment goes out, with a head that names nobody; the head is sent once", async (t) => {
  const { stream, received } = await streamed(t, { keepAliveMs: 40 });
  stream.opened();
  await eventually(() => commentsIn(received()) >= 3);
  assert.equal(stream.started, true);
  stream.start(HEAD);
  void stream.write(sseEvent("hello"));
  stream.end();
  await eventually(() => received().includes("[DONE]"));
  assert.equal(received().split("HTTP/1.1 200 OK").length, 2);
  assert.match(received(), /x-head: nobody yet/);
});

test("a stream that speaks often enough has no comments, and one that is closed sends none any more", async (t) => {
  const { stream, received } = await streamed(t, { keepAliveMs: 200 });
  stream.opened();
  stream.start(HEAD);
  for (let word = 0; word < 20; word += 1) {
    void stream.write(sseEvent(word));
    await new Promise((resolve) => setTimeout(resolve, 15));
  }
  stream.close();
  await new Promise((resolve) => setTimeout(resolve, 300));
  assert.equal(commentsIn(received()), 0);
  assert.match(received(), /x-head: somebody/);
});

test("a stream that fails ends with the error in it and no [DONE]", async (t) => {
  const { stream, received, socket } = await streamed(t);
  stream.start(HEAD);
  void stream.write(sseEvent("hello"));
  stream.fail(new BrikkError("provider_error", "It broke."));
  await once(socket, "close");
  assert.match(received(), /event: error\ndata: \{"error":\{"message":"It broke\."/);
  assert.ok(!received().includes("[DONE]"));
});

for (const [what, release] of [
  ["it has read on", ({ socket }) => void socket.resume()],
  ["it has left", ({ socket }) => void socket.destroy()],
  ["the request is ended", ({ controller }) => controller.abort(new Error("over"))],
] as const satisfies readonly (readonly [string, (parts: Awaited<ReturnType<typeof streamed>>) => void])[]) {
  test(`a reader that does not keep up is waited for until ${what}, and no listener is left`, async (t) => {
    const parts = await streamed(t);
    const { stream, socket, controller } = parts;
    stream.start(HEAD);
    socket.pause();
    let waiting: Promise<void> | undefined;
    for (let times = 0; times < 10 && !waiting; times += 1) waiting = stream.write(BIG);
    assert.ok(waiting);
    let released = false;
    const releasing = waiting.then(() => (released = true));
    await new Promise((resolve) => setTimeout(resolve, 50));
    assert.equal(released, false);
    release(parts);
    await Promise.race([releasing, new Promise((resolve) => setTimeout(resolve, 5_000))]);
    assert.ok(released, "it is still waited for");
    assert.equal(getEventListeners(controller.signal, "abort").length, 0);
    if (controller.signal.aborted) assert.equal(stream.write(BIG), undefined);
  });
}
