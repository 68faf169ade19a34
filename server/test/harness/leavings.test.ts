import assert from "node:assert/strict";
import { once } from "node:events";
import { type AddressInfo, connect, createServer } from "node:net";
import { test } from "node:test";
import { eventually } from "../ledger/ledger-fixture.ts";
import { followLeavings } from "./leavings.ts";

test("what is left behind is seen: timers that nobody waits for too, sockets, and listeners of a signal that is held", async (t) => {
  const server = createServer((other) => other.resume()).listen(0, "127.0.0.1");
  await once(server, "listening");
  t.after(() => server.close());
  const leavings = followLeavings(t);
  const before = leavings.now();
  const controller = new AbortController();
  const listener = (): void => undefined;
  controller.signal.addEventListener("abort", listener);
  const timer = setTimeout(() => undefined, 60_000).unref();
  const interval = setInterval(() => undefined, 60_000);
  const socket = connect((server.address() as AddressInfo).port, "127.0.0.1");
  t.after(() => {
    clearInterval(interval);
    socket.destroy();
  });
  await once(socket, "connect");
  const during = leavings.now();
  assert.deepEqual([during.timers - before.timers, during.listeners - before.listeners], [2, 1]);
  assert.ok(during.sockets > before.sockets);
  clearTimeout(timer);
  clearInterval(interval);
  controller.signal.removeEventListener("abort", listener);
  // What is cleared is told of a moment later; the one timer more is that of waiting.
  await eventually(() => {
    const { timers, listeners } = leavings.now();
    return timers <= before.timers + 1 && listeners === before.listeners;
  }, 5_000);
});
