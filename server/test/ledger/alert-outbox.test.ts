import assert from "node:assert/strict";
import type { ServerResponse } from "node:http";
import { test } from "node:test";
import { parseWebhookSecret } from "../../src/lib/webhook-signature.ts";
import { nanoUsd } from "../../src/lib/money.ts";
import { type Database, StorageUnavailable } from "../../src/storage/database.ts";
import { openDatabase } from "../../src/storage/open-database.ts";
import { createTestClock } from "../lib/test-clock.ts";
import { runChild, onEachDatabase, scratchDatabase, sourceUrl } from "../storage/scratch.ts";
import {
  alertRows,
  dayStanding,
  type Message,
  MIDNIGHT,
  SECRET,
  startAlerts,
  startReceiver,
  until,
  watched,
} from "./alerts-under-test.ts";

const MINUTE_MS = 60_000;
const HOUR_MS = 3_600_000;
const respond =
  (status: number, headers: Record<string, string> = {}) =>
  (response: ServerResponse): void =>
    void response.writeHead(status, headers).end("body");

/** What a receiver does that follows the specification and knows nothing of this code; on the web's own cryptography. */
async function isSigned(message: Message, secret: Buffer): Promise<boolean> {
  const { "webhook-id": id, "webhook-timestamp": timestamp, "webhook-signature": signatures } = message.headers;
  const content = new TextEncoder().encode(`${String(id)}.${String(timestamp)}.${message.body}`);
  const algorithm = { name: "HMAC", hash: "SHA-256" };
  const key = await crypto.subtle.importKey("raw", new Uint8Array(secret), algorithm, false, ["verify"]);
  for (const signature of String(signatures).split(" ")) {
    const [version, base64 = ""] = signature.split(",");
    if (version === "v1" && (await crypto.subtle.verify("HMAC", key, Buffer.from(base64, "base64"), content)))
      return true;
  }
  return false;
}

onEachDatabase(
  "a message says what was reached, of what, until when, and is signed with every secret",
  async (t, dialect) => {
    const { database } = await scratchDatabase(t, dialect);
    const receiver = await startReceiver(t);
    const clock = createTestClock(MIDNIGHT + 90_999);
    const other = parseWebhookSecret("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")!;
    const alerts = startAlerts(t, { database, clock, webhook: { ...receiver.target, secrets: [SECRET, other] } });
    alerts.observe(dayStanding(12_345_678n, { softCap: nanoUsd(12_000_000n), hardCap: nanoUsd(20_000_000n) }));
    await alerts.deliverDue();
    const rows = await alertRows(database);
    const bodies = receiver.messages.map(({ body }) => JSON.parse(body) as Record<string, unknown>);
    const [soft, half] = ["budget.soft_cap_reached", "budget.hard_cap_threshold_reached"].map((type) =>
      bodies.find((body) => body["type"] === type),
    );
    const data = {
      api_key_id: "bk_000000000001",
      budget_id: "bk_000000000001/day",
      window: "day",
      window_start: "2026-11-23T00:00:00.000Z",
      resets_at: "2026-11-24T00:00:00.000Z",
      spent_usd: 0.012345678,
      soft_cap_usd: 0.012,
      hard_cap_usd: 0.02,
    };
    const created_at = "2026-11-23T00:01:30.999Z";
    const idOf = (alert: string): unknown => rows.find((row) => row["alert"] === alert)?.["alert_id"];
    assert.deepEqual(soft, {
      id: idOf("soft_cap"),
      type: "budget.soft_cap_reached",
      created_at,
      data: { ...data, threshold_percent: null },
    });
    assert.deepEqual(half, {
      id: idOf("hard_cap_50"),
      type: "budget.hard_cap_threshold_reached",
      created_at,
      data: { ...data, threshold_percent: 50 },
    });
    for (const message of receiver.messages) {
      assert.equal(message.path, "/hooks/budget");
      assert.equal(message.headers["content-type"], "application/json");
      assert.equal(message.headers["webhook-id"], (JSON.parse(message.body) as { id: string }).id);
      assert.equal(message.headers["webhook-timestamp"], String(MIDNIGHT / 1_000 + 90));
      assert.ok((await isSigned(message, SECRET)) && (await isSigned(message, other)));
      assert.ok(!(await isSigned(message, Buffer.alloc(32, 1))));
      assert.ok(!(await isSigned({ ...message, body: message.body.replace("day", "dax") }, SECRET)));
      assert.ok(!(await isSigned({ ...message, headers: { ...message.headers, "webhook-timestamp": "1" } }, SECRET)));
    }
  },
);

onEachDatabase("a budget without a soft or a hard cap says null for it", async (t, dialect) => {
  const { database } = await scratchDatabase(t, dialect);
  const receiver = await startReceiver(t);
  const alerts = startAlerts(t, { database, clock: createTestClock(), webhook: receiver.target });
  alerts.observe(dayStanding(5, { scopeId: "bk_a", softCap: undefined, hardCap: nanoUsd(5n), window: "week" }));
  alerts.observe(dayStanding(5, { scopeId: "bk_b", softCap: nanoUsd(5n), hardCap: undefined, window: "month" }));
  await alerts.deliverDue();
  const facts = receiver.messages
    .map(({ body }) => JSON.parse(body) as { type: string; data: Record<string, unknown> })
    .map(({ type, data }) =>
      [type, data["window"], data["threshold_percent"], data["soft_cap_usd"], data["hard_cap_usd"]].join(" "),
    );
  assert.deepEqual(facts.sort(), [
    "budget.hard_cap_reached week 100  5e-9",
    "budget.hard_cap_threshold_reached week 50  5e-9",
    "budget.hard_cap_threshold_reached week 80  5e-9",
    "budget.soft_cap_reached month  5e-9 ",
  ]);
});

onEachDatabase("without a webhook nothing is owed, also to one that is set later", async (t, dialect) => {
  const { database } = await scratchDatabase(t, dialect);
  const receiver = await startReceiver(t);
  const clock = createTestClock();
  const silent = startAlerts(t, { database, clock });
  silent.observe(dayStanding(10));
  await silent.deliverDue();
  assert.equal(silent.announced().length, 4);
  const alerts = startAlerts(t, { database, clock, webhook: receiver.target });
  alerts.observe(dayStanding(10));
  await alerts.deliverDue();
  assert.equal(receiver.messages.length, 0);
});

test("credentials in the address are sent as basic authentication, and the query with the path", async (t) => {
  const { database } = await scratchDatabase(t);
  const receiver = await startReceiver(t);
  const url = `${receiver.url.replace("http://", "http://ops:p%40ss%3A@")}?team=a%20b`;
  const alerts = startAlerts(t, { database, clock: createTestClock(), webhook: { ...receiver.target, url } });
  alerts.observe(dayStanding(5));
  await alerts.deliverDue();
  const [message] = receiver.messages;
  assert.equal(message?.path, "/hooks/budget?team=a%20b");
  assert.equal(message?.headers.authorization, `Basic ${Buffer.from("ops:p@ss:").toString("base64")}`);
});

for (const [what, prepare, reason] of [
  ["a server error", respond(500), "status 500"],
  ["a client error", respond(404), "status 404"],
  ["a redirect, which is not followed,", respond(307, { location: "/elsewhere" }), "status 307"],
  ["a broken connection", (response: ServerResponse) => void response.destroy(), "UND_ERR_SOCKET"],
  ["no answer", () => {}, "no answer within 0.2 s"],
  [
    "headers that never end",
    (response: ServerResponse) => void response.socket?.write("HTTP/1.1 200 OK\r\nx: "),
    "no answer within 0.2 s",
  ],
] as const) {
  onEachDatabase(`${what} is tried again when its time has come, and not before`, async (t, dialect) => {
    const { database } = await scratchDatabase(t, dialect);
    const receiver = await startReceiver(t);
    const clock = createTestClock();
    const alerts = startAlerts(t, { database, clock, webhook: { ...receiver.target, timeoutMs: 200 } });
    receiver.answer = prepare;
    alerts.observe(dayStanding(5));
    await alerts.deliverDue();
    const [line] = alerts.linesWith("did not take");
    assert.deepEqual([line?.["level"], line?.["attempt"], line?.["reason"]], ["warn", 1, reason]);
    receiver.answer = respond(200);
    clock.advance(13_000);
    await alerts.deliverDue();
    assert.equal(receiver.messages.length, 1, "not before its time");
    clock.advance(4_000);
    await alerts.deliverDue();
    assert.equal(receiver.messages.length, 2);
    const [first, second] = receiver.messages;
    assert.equal(second!.body, first!.body);
    assert.equal(second!.headers["webhook-id"], first!.headers["webhook-id"]);
    assert.notEqual(second!.headers["webhook-timestamp"], first!.headers["webhook-timestamp"]);
    assert.ok(await isSigned(second!, SECRET));
    const [row] = await alertRows(database);
    assert.deepEqual([row?.["attempts"], row?.["next_attempt_at_ms"]], [2n, null]);
    assert.ok(row?.["delivered_at_ms"] !== null);
    clock.advance(48 * HOUR_MS);
    await alerts.deliverDue();
    assert.equal(receiver.messages.length, 2);
    const metrics = await alerts.metrics.registry.metrics();
    assert.match(metrics, /brikk_budget_webhook_attempts_total\{outcome="failed"\} 1\n/);
    assert.match(metrics, /brikk_budget_webhook_attempts_total\{outcome="delivered"\} 1\n/);
  });
}

onEachDatabase(
  "a receiver that is not there is tried twelve times over about a day, each wait longer, then given up with one error in the log",
  async (t, dialect) => {
    const { database } = await scratchDatabase(t, dialect);
    const receiver = await startReceiver(t);
    await receiver.stop();
    const clock = createTestClock();
    const alerts = startAlerts(t, { database, clock, webhook: receiver.target });
    const begin = clock.now();
    alerts.observe(dayStanding(5));
    await alerts.deliverDue();
    let lastWait = 0;
    for (let attempt = 1; attempt < 12; attempt += 1) {
      const [row] = await alertRows(database);
      assert.equal(row?.["attempts"], BigInt(attempt));
      const wait = Number(row?.["next_attempt_at_ms"]) - clock.now();
      assert.ok(wait > lastWait, `${wait} ms after attempt ${attempt}`);
      lastWait = wait;
      clock.advance(wait);
      await alerts.deliverDue();
    }
    const hours = (clock.now() - begin) / HOUR_MS;
    assert.ok(hours > 20 && hours < 30, `${hours} h`);
    const [row] = await alertRows(database);
    assert.deepEqual([row?.["attempts"], row?.["next_attempt_at_ms"], row?.["delivered_at_ms"]], [12n, null, null]);
    assert.equal(alerts.linesWith("did not take").length, 11);
    const [error, ...more] = alerts.linesWith("given up");
    assert.deepEqual(
      [error?.["level"], error?.["attempt"], error?.["reason"], more.length],
      ["error", 12, "ECONNREFUSED", 0],
    );
    clock.advance(30 * 24 * HOUR_MS);
    await alerts.deliverDue();
    assert.equal(alerts.linesWith("given up").length, 1);
  },
);

onEachDatabase("a restart in the middle of retrying goes on where it was", async (t, dialect) => {
  const { database } = await scratchDatabase(t, dialect);
  const receiver = await startReceiver(t);
  const clock = createTestClock();
  receiver.answer = respond(503);
  const first = startAlerts(t, { database, clock, webhook: receiver.target });
  first.observe(dayStanding(5));
  await first.deliverDue();
  clock.advance(MINUTE_MS);
  await first.deliverDue();
  await first.close();
  receiver.answer = respond(204);
  const second = startAlerts(t, { database, clock, webhook: receiver.target });
  await second.deliverDue();
  assert.equal(receiver.messages.length, 2, "a restart is no reason to hurry");
  clock.advance(MINUTE_MS);
  await second.deliverDue();
  assert.equal(receiver.messages.length, 3);
  assert.equal(new Set(receiver.messages.map(({ body }) => body)).size, 1);
  assert.equal((await alertRows(database))[0]?.["attempts"], 3n);
  assert.deepEqual(second.announced(), []);
});

onEachDatabase("two instances that find the same alerts due send each once", async (t, dialect) => {
  const { database, url } = await scratchDatabase(t, dialect);
  const other = await openDatabase({ url });
  t.after(() => other.close());
  const receiver = await startReceiver(t);
  const clock = createTestClock();
  const instances = [database, other].map((one) => startAlerts(t, { database: one, clock, webhook: receiver.target }));
  receiver.answer = respond(503);
  for (let key = 0; key < 50; key += 1) instances[key % 2]!.observe(dayStanding(5, { scopeId: `bk_${key}` }));
  await Promise.all(instances.map((alerts) => alerts.deliverDue()));
  assert.equal(new Set(receiver.messages.map(({ headers }) => headers["webhook-id"])).size, 50);
  assert.equal(receiver.messages.length, 50);
  receiver.answer = respond(204);
  clock.advance(MINUTE_MS);
  await Promise.all(instances.map((alerts) => alerts.deliverDue()));
  assert.equal(receiver.messages.length, 100);
});

for (const status of [200, 500]) {
  onEachDatabase(
    `an answer of ${status} with a body that never ends is cut off, and its status counts`,
    async (t, dialect) => {
      const { database } = await scratchDatabase(t, dialect);
      const receiver = await startReceiver(t);
      const ended = Promise.withResolvers<number>();
      receiver.answer = (response) => {
        let written = 0;
        const chunk = Buffer.alloc(16_384, "x");
        const write = (): void => {
          do written += chunk.length;
          while (response.write(chunk) && !response.destroyed);
        };
        response.on("drain", write).on("close", () => ended.resolve(written));
        response.writeHead(status);
        write();
      };
      const alerts = startAlerts(t, { database, clock: createTestClock(), webhook: receiver.target });
      alerts.observe(dayStanding(5));
      await alerts.deliverDue();
      assert.ok((await ended.promise) < 16 * 1024 * 1024);
      assert.equal((await alertRows(database))[0]?.["delivered_at_ms"] !== null, status === 200);
    },
  );
}

onEachDatabase("a receiver that says 200 and then falls silent has taken the message", async (t, dialect) => {
  const { database } = await scratchDatabase(t, dialect);
  const receiver = await startReceiver(t);
  receiver.answer = (response) => response.writeHead(200).flushHeaders();
  const alerts = startAlerts(t, {
    database,
    clock: createTestClock(),
    webhook: { ...receiver.target, timeoutMs: 200 },
  });
  alerts.observe(dayStanding(5));
  await alerts.deliverDue();
  assert.ok((await alertRows(database))[0]?.["delivered_at_ms"] !== null);
});

onEachDatabase(
  "a receiver that hangs holds up neither the log nor the closing, and the message is the next process's",
  async (t, dialect) => {
    const { database } = await scratchDatabase(t, dialect);
    const receiver = await startReceiver(t);
    const clock = createTestClock();
    receiver.answer = () => {};
    const hanging = startAlerts(t, { database, clock, webhook: receiver.target });
    hanging.observe(dayStanding(5));
    await until(() => receiver.messages.length === 1);
    hanging.observe(dayStanding(6));
    await until(() => hanging.announced().length === 2);
    const begin = performance.now();
    await hanging.close();
    assert.ok(performance.now() - begin < 8_000, "closed before the receiver's time was over");
    assert.equal(hanging.linesWith("did not take").length, 0);
    receiver.answer = respond(204);
    clock.advance(MINUTE_MS);
    const next = startAlerts(t, { database, clock, webhook: receiver.target });
    await next.deliverDue();
    assert.ok((await alertRows(database)).every((row) => row["delivered_at_ms"] !== null));
  },
);

onEachDatabase("closing sends what the last settlement passed", async (t, dialect) => {
  const { database } = await scratchDatabase(t, dialect);
  const receiver = await startReceiver(t);
  const alerts = startAlerts(t, { database, clock: createTestClock(), webhook: receiver.target });
  alerts.observe(dayStanding(5));
  await alerts.close();
  assert.equal(receiver.messages.length, 1);
});

onEachDatabase(
  "a database that fails between sending and marking makes a repeat under the same id, and no loss",
  async (t, dialect) => {
    const { database } = await scratchDatabase(t, dialect);
    const receiver = await startReceiver(t);
    const clock = createTestClock();
    let fail = true;
    const broken: Database = watched(database, async (go, statements) => {
      if (fail && statements[0]!.sql.includes("delivered_at_ms = ?")) throw new StorageUnavailable("gone");
      return go();
    });
    const alerts = startAlerts(t, { database: broken, clock, webhook: receiver.target });
    alerts.observe(dayStanding(5));
    await alerts.deliverDue();
    fail = false;
    clock.advance(MINUTE_MS);
    await alerts.deliverDue();
    assert.equal(receiver.messages.length, 2);
    assert.equal(new Set(receiver.messages.map(({ headers }) => headers["webhook-id"])).size, 1);
    assert.ok((await alertRows(database))[0]?.["delivered_at_ms"] !== null);
  },
);

onEachDatabase(
  "whatever goes wrong, neither the secret nor anything of the address is in the log or the metrics",
  async (t, dialect) => {
    const { database } = await scratchDatabase(t, dialect);
    const receiver = await startReceiver(t);
    const clock = createTestClock();
    const url = `${receiver.url.replace("http://", "http://ops-user:pass-word@")}/path-token?q=query-token`;
    const alerts = startAlerts(t, { database, clock, webhook: { ...receiver.target, url, timeoutMs: 200 } });
    alerts.observe(dayStanding(5));
    const answers = [
      respond(500),
      respond(302, { location: url }),
      (response: ServerResponse) => void response.destroy(),
      () => {},
    ];
    for (const answer of answers) {
      receiver.answer = answer;
      await alerts.deliverDue();
      clock.advance(HOUR_MS);
    }
    await receiver.stop();
    while ((await alertRows(database))[0]?.["next_attempt_at_ms"] !== null) {
      await alerts.deliverDue();
      clock.advance(24 * HOUR_MS);
    }
    const written = alerts.log.join("") + (await alerts.metrics.registry.metrics());
    assert.ok(alerts.linesWith("given up").length === 1);
    const credentials = Buffer.from("ops-user:pass-word").toString("base64");
    for (const secret of [
      "ops-user",
      "pass-word",
      credentials,
      "path-token",
      "query-token",
      "127.0.0.1",
      SECRET.toString("base64"),
      SECRET.toString("hex"),
      "whsec_",
    ])
      assert.ok(!written.includes(secret), secret);
  },
);

/** A process that passes a threshold, and kills itself before its call number `killBefore` of the database. */
const childSource = (url: string, receiver: string, killBefore: number): string => `
  import { createBudgetAlerts } from ${JSON.stringify(sourceUrl("ledger/budget-alerts.ts"))};
  import { openDatabase } from ${JSON.stringify(sourceUrl("storage/open-database.ts"))};
  import { createLogger } from ${JSON.stringify(sourceUrl("telemetry/log.ts"))};
  import { createMetrics } from ${JSON.stringify(sourceUrl("telemetry/metrics.ts"))};
  const database = await openDatabase({ url: ${JSON.stringify(url)} });
  let calls = 0;
  const step = () => { if (++calls === ${killBefore}) process.kill(process.pid, "SIGKILL"); };
  const alerts = createBudgetAlerts({
    database: {
      dialect: database.dialect,
      query: database.query,
      transact: (statements) => (step(), database.transact(statements)),
      all: (statement) => (step(), database.all(statement)),
      close: () => database.close(),
    },
    clock: { now: () => ${MIDNIGHT}, monotonicMs: () => 0 },
    logger: createLogger({ level: "silent", pretty: false }),
    metrics: createMetrics(),
    webhook: { url: ${JSON.stringify(receiver)}, secrets: [Buffer.alloc(32, 0x5a)], allowPrivateAddresses: true },
  });
  alerts.observe({
    budgetId: "bk_000000000001/day", scopeId: "bk_000000000001", window: "day",
    windowStartMs: ${MIDNIGHT}, windowEndMs: ${MIDNIGHT + 24 * HOUR_MS}, spent: 5n, softCap: 6n, hardCap: 10n,
  });
  await alerts.deliverDue();
  await alerts.close();
  await database.close();
`;

onEachDatabase(
  "a process killed between any two steps loses no alert and tells none under two ids",
  async (t, dialect) => {
    for (let killBefore = 1; ; killBefore += 1) {
      const { database, url } = await scratchDatabase(t, dialect);
      const receiver = await startReceiver(t);
      const { code, stderr } = await runChild(t, childSource(url, receiver.url, killBefore)).ended;
      assert.equal(stderr, "");
      const sentByChild = receiver.messages.length;
      // A later process, in which the window's next settlement is observed.
      const alerts = startAlerts(t, {
        database,
        clock: createTestClock(MIDNIGHT + MINUTE_MS),
        webhook: receiver.target,
      });
      alerts.observe(dayStanding(5));
      await alerts.deliverDue();
      const rows = await alertRows(database);
      assert.equal(rows.length, 1);
      assert.ok(rows[0]!["delivered_at_ms"] !== null, `killed before call ${killBefore}`);
      const ids = receiver.messages.map(({ headers }) => headers["webhook-id"]);
      assert.deepEqual([...new Set(ids)], [rows[0]!["alert_id"]]);
      if (code === 0) {
        assert.deepEqual([sentByChild, receiver.messages.length], [1, 1]);
        assert.ok(killBefore > 4, "writing, looking, claiming and marking were each cut off once");
        return;
      }
    }
  },
);

onEachDatabase("a process killed while the receiver has its message loses nothing", async (t, dialect) => {
  const { database, url } = await scratchDatabase(t, dialect);
  const receiver = await startReceiver(t);
  const child = runChild(t, childSource(url, receiver.url, 0));
  receiver.answer = () => void child.kill();
  await child.ended;
  receiver.answer = respond(204);
  const alerts = startAlerts(t, { database, clock: createTestClock(MIDNIGHT + MINUTE_MS), webhook: receiver.target });
  await alerts.deliverDue();
  assert.equal(receiver.messages.length, 2);
  assert.equal(receiver.messages[0]!.body, receiver.messages[1]!.body);
  assert.ok((await alertRows(database))[0]?.["delivered_at_ms"] !== null);
});
