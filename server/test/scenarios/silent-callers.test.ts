import assert from "node:assert/strict";
import { once } from "node:events";
import { createServer, type ServerResponse } from "node:http";
import { type AddressInfo, connect, type Socket } from "node:net";
import { DatabaseSync } from "node:sqlite";
import { type TestContext, test } from "node:test";
import { setTimeout as wait } from "node:timers/promises";
import type { Row } from "../../src/storage/database.ts";
import { type GatewayUnderTest, startGateway } from "../harness/gateway-under-test.ts";

type Answer = (response: ServerResponse) => unknown;

/** A gateway in front of a provider that answers every request in this way. */
async function startBefore(
  t: TestContext,
  answer: Answer,
  environment: Readonly<Record<string, string>>,
): Promise<GatewayUnderTest> {
  const provider = createServer((request, response) => {
    request.resume().on("end", () => answer(response));
  }).listen(0, "127.0.0.1");
  await once(provider, "listening");
  t.after(() => {
    provider.close();
    provider.closeAllConnections();
  });
  const { port } = provider.address() as AddressInfo;
  const gateway = await startGateway({ providers: { openai: `http://127.0.0.1:${port}/v1` }, environment });
  t.after(() => gateway.close());
  return gateway;
}

const QUESTION = { model: "gpt-4o-mini", stream: true, messages: [{ role: "user", content: "Go on." }] };

/** Asks for a stream and never takes a byte of it. */
async function askAndTakeNothing({ url }: GatewayUnderTest): Promise<Socket> {
  const body = JSON.stringify(QUESTION);
  const socket = connect(Number(new URL(url).port), "127.0.0.1").pause();
  socket.on("error", () => undefined);
  await once(socket, "connect");
  socket.write(
    `POST /v1/chat/completions HTTP/1.1\r\nhost: gateway\r\ncontent-type: application/json\r\ncontent-length: ${Buffer.byteLength(body)}\r\n\r\n${body}`,
  );
  return socket;
}

/** Words without an end, as fast as they are taken. */
const speakForEver: Answer = (response) => {
  const choices = [{ index: 0, delta: { content: "word ".repeat(10_000) }, finish_reason: null }];
  const event = `data: ${JSON.stringify({ id: "c-1", object: "chat.completion.chunk", choices })}\n\n`;
  const speak = (): void => {
    while (!response.destroyed && response.write(event));
  };
  response.writeHead(200, { "content-type": "text/event-stream" }).on("drain", speak);
  speak();
};

/** At the latest after ten seconds. */
async function onlyRow(gateway: GatewayUnderTest): Promise<Row> {
  for (let turn = 0; turn < 500; turn += 1) {
    const [row, another] = await gateway.events();
    assert.equal(another, undefined);
    if (row) return row;
    await wait(20);
  }
  throw new Error("The request has no row.");
}

const ENDS = {
  deadline_exceeded: { environment: { BRIKK_REQUEST_TIMEOUT_SECONDS: "1" }, end: async () => undefined },
  draining: {
    environment: {},
    end: async ({ gateway }: GatewayUnderTest) => {
      await wait(500);
      await gateway.inFlight.drain(1);
    },
  },
} as const;

for (const [code, { environment, end }] of Object.entries(ENDS)) {
  test(`a caller who takes nothing of a stream cannot hold it open: ${code} ends it, with its row`, async (t) => {
    const gateway = await startBefore(t, speakForEver, environment);
    const socket = await askAndTakeNothing(gateway);
    let row: Row;
    try {
      await end(gateway);
      row = await onlyRow(gateway);
    } finally {
      socket.destroy();
    }
    assert.deepEqual([row["outcome"], row["error_code"]], ["truncated", code]);
    assert.equal(gateway.gateway.health.providerReport("openai").inFlight, 0);
    assert.equal(gateway.gateway.inFlight.count, 0);
  });
}

test("no comment goes out any more when a refusal is being written down, so that its status is the row's", async (t) => {
  const refuse: Answer = (response) =>
    response
      .writeHead(400, { "content-type": "application/json" })
      .end(JSON.stringify({ error: { message: "No.", type: "invalid_request_error", param: null, code: null } }));
  const gateway = await startBefore(t, refuse, { BRIKK_KEEP_ALIVE_SECONDS: "0.4" });
  const ask = (): Promise<Response> =>
    fetch(`${gateway.url}/v1/chat/completions`, {
      method: "POST",
      headers: { "content-type": "application/json" },
      body: JSON.stringify(QUESTION),
    });
  // Leases what the next one is reserved from.
  assert.equal((await ask()).status, 400);

  const other = new DatabaseSync(gateway.gateway.config.databaseUrl.replace("sqlite:", ""));
  t.after(() => other.close());
  other.exec("begin immediate");
  const asked = ask();
  await wait(800);
  other.exec("rollback");
  assert.equal((await asked).status, 400);
  assert.deepEqual(
    (await gateway.events()).map(({ status }) => status),
    [400n, 400n],
  );
});
