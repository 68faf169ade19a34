import assert from "node:assert/strict";
import type { LookupAddress, LookupOptions } from "node:dns";
import { once } from "node:events";
import { createServer } from "node:http";
import { type AddressInfo, connect as connectSocket } from "node:net";
import { test, type TestContext } from "node:test";
import { Pool } from "undici";
import { createConnector, PrivateAddressError, publicLookup } from "../../src/lib/connector.ts";

/** A server on loopback that counts who came. */
async function insideServer(t: TestContext): Promise<{ port: number; visits: () => number }> {
  let visits = 0;
  const server = createServer((_request, response) => response.end("inside")).listen(0, "127.0.0.1");
  server.on("connection", () => (visits += 1));
  await once(server, "listening");
  t.after(() => void server.close());
  return { port: (server.address() as AddressInfo).port, visits: () => visits };
}

async function get(t: TestContext, origin: string, allowPrivateAddresses: boolean): Promise<string> {
  const pool = new Pool(origin, {
    allowH2: false,
    connect: createConnector({ timeoutMs: 2_000, allowPrivateAddresses }),
  });
  t.after(() => pool.destroy());
  const { body } = await pool.request({ method: "GET", path: "/" });
  return body.text();
}

test("neither an address inside nor a name that leads there is connected to, unless that is allowed", async (t) => {
  const { port, visits } = await insideServer(t);
  for (const host of ["127.0.0.1", "[::ffff:127.0.0.1]", "localhost", "2130706433"])
    await assert.rejects(get(t, `http://${host}:${port}`, false), PrivateAddressError, host);
  assert.equal(visits(), 0);
  for (const host of ["127.0.0.1", "localhost"]) assert.equal(await get(t, `http://${host}:${port}`, true), "inside");
});

type Answer = (options: LookupOptions) => LookupAddress[];

/** A resolver that answers anew each time, as one that an attacker owns does. */
function resolver(...answers: Answer[]) {
  let asked = 0;
  const lookup = ((_name: string, options: LookupOptions, done: (...found: unknown[]) => void) => {
    const answer = answers[Math.min(asked, answers.length - 1)]!;
    asked += 1;
    setImmediate(() => done(null, answer(options)));
  }) as unknown as Parameters<typeof publicLookup>[0];
  return { lookup, asked: () => asked };
}

const ipv4 = (address: string): LookupAddress => ({ address, family: 4 });

const look = (lookup: Parameters<typeof publicLookup>[0], all: boolean): Promise<unknown> =>
  new Promise((resolve, reject) =>
    publicLookup(lookup)("rebound.example", { all }, (error, found) => (error ? reject(error) : resolve(found))),
  );

test("one address inside among several refuses the name; no address at all does too", async () => {
  for (const found of [
    [ipv4("8.8.8.8"), ipv4("10.0.0.1")],
    [ipv4("8.8.8.8"), { address: "fd00::1", family: 6 }],
    [{ address: "::ffff:169.254.169.254", family: 6 }],
    [],
  ])
    for (const all of [true, false])
      await assert.rejects(look(resolver(() => found).lookup, all), PrivateAddressError, JSON.stringify(found));
});

test("public addresses are handed on as they were found, in the form that was asked for", async () => {
  const found = [ipv4("8.8.8.8"), { address: "2606:4700::1111", family: 6 }];
  assert.deepEqual(await look(resolver(() => found).lookup, true), found);
  assert.equal(await look(resolver(() => found).lookup, false), "8.8.8.8");
});

test("a name is looked up once for each connection, so that one which means another address a moment later gains nothing", async (t) => {
  const { port, visits } = await insideServer(t);
  // Discards what it gets, and no packet leaves for it: a documentation address, whose connection is never waited for.
  const rebound = resolver(
    () => [ipv4("192.0.2.1")],
    () => [ipv4("127.0.0.1")],
  );
  const lookup = publicLookup(rebound.lookup);
  const socket = connectSocket({ host: "rebound.example", port, lookup, autoSelectFamily: false });
  socket.on("error", () => undefined);
  const [, address] = (await once(socket, "lookup")) as [unknown, string];
  assert.equal(address, "192.0.2.1", "the socket goes to the address that was looked at");
  assert.equal(rebound.asked(), 1);
  socket.destroy();
  const second = connectSocket({ host: "rebound.example", port, lookup });
  const [error] = (await once(second, "error")) as [Error];
  assert.ok(error instanceof PrivateAddressError);
  assert.equal(visits(), 0);
});
