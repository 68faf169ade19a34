import assert from "node:assert/strict";
import { once } from "node:events";
import { createServer } from "node:net";
import { test, type TestContext } from "node:test";
import { buildApp } from "../../src/app.ts";
import type { App } from "../../src/http/app-type.ts";
import { listen } from "../../src/http/listen.ts";
import { WIRE_LIMITS } from "../../src/http/wire-limits.ts";
import { startGateway } from "../harness/gateway-under-test.ts";
import { connectRaw, type RawCaller } from "../harness/raw-http.ts";
import { eventually } from "../ledger/ledger-fixture.ts";

/** A name of two addresses, as `localhost` is where there is IPv6. */
const twoAddresses = async () => [{ address: "127.0.0.1" }, { address: "127.0.0.2" }];

async function newApp(t: TestContext, environment: Readonly<Record<string, string>> = {}): Promise<App> {
  const brikk = await startGateway({ environment });
  t.after(() => brikk.close());
  const app = await buildApp(brikk.gateway, { ...WIRE_LIMITS, headersMs: 500, checkEveryMs: 100 });
  t.after(() => app.close());
  return app;
}

const say = async (url: string, address: string, bytes: string): Promise<RawCaller> => {
  const caller = await connectRaw({ host: address, port: Number(new URL(url).port) });
  caller.send(bytes);
  return caller;
};

test("both addresses of localhost are served by one server, with all that protects it", async (t) => {
  const app = await newApp(t, { BRIKK_MAX_CONNECTIONS_PER_ADDRESS: "3" });
  const url = await listen(app, { host: "localhost", port: 0 }, twoAddresses);
  assert.match(url, /^http:\/\/127\.0\.0\.1:\d+$/);
  for (const address of ["127.0.0.1", "127.0.0.2"]) {
    const served = await say(url, address, "GET /health/live HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    assert.equal((await served.closed)[0]?.status, 200);

    const [broken] = await (await say(url, address, "GARBAGE\r\n\r\n")).closed;
    assert.equal(broken?.status, 400);
    assert.equal((JSON.parse(broken.body) as { error: { code: string } }).error.code, "invalid_request");

    const [slow] = await (await say(url, address, "GET / HTTP/1.1\r\nHost: x\r\n")).closed;
    assert.equal(slow?.status, 408);
  }
  const silent = await Promise.all(Array.from({ length: 8 }, (_, index) => say(url, `127.0.0.${(index % 2) + 1}`, "")));
  t.after(() => silent.forEach(({ socket }) => socket.destroy()));
  await eventually(() => silent.filter(({ socket }) => socket.destroyed).length >= 5);
});

test("a stop ends what was accepted on either address", async (t) => {
  const app = await newApp(t);
  const url = await listen(app, { host: "localhost", port: 0 }, twoAddresses);
  const idle = await say(url, "127.0.0.2", "GET /health/live HTTP/1.1\r\nHost: x\r\n\r\n");
  await eventually(() => idle.answers().length === 1);
  await app.close();
  await idle.closed;
  for (const host of ["127.0.0.1", "127.0.0.2"])
    await assert.rejects(connectRaw({ host, port: Number(new URL(url).port) }), /ECONNREFUSED/);
});

test("another program on the second address keeps the server from starting, as it would get those callers' keys", async (t) => {
  const app = await newApp(t);
  const other = createServer().listen(0, "127.0.0.2");
  await once(other, "listening");
  t.after(() => void other.close());
  const { port } = other.address() as { port: number };
  await assert.rejects(listen(app, { host: "localhost", port }, twoAddresses), { code: "EADDRINUSE", port });
});

test("a machine without the second family serves the first", async (t) => {
  const app = await newApp(t);
  const url = await listen(app, { host: "localhost", port: 0 }, async () => [
    { address: "127.0.0.1" },
    // Of the range for documentation, which nobody has.
    { address: "192.0.2.1" },
  ]);
  assert.equal((await fetch(`${url}/health/live`)).status, 200);
});
