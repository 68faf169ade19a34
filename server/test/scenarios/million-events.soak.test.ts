import assert from "node:assert/strict";
import { before, after, test } from "node:test";
import { verifyLedger } from "../../src/ledger/verify-ledger.ts";
import { type GatewayUnderTest, startGateway } from "../harness/gateway-under-test.ts";
import { addDayWindows, rollUpEvents, seedEvents } from "../ledger/ledger-rows.ts";
import { createTestClock } from "../lib/test-clock.ts";

/** A million usage events, of which a busy key has the half, over the 23 days of a month up to now. */
const EVENTS = 1_000_000;
const ADMIN_TOKEN = "an-admin-token-of-this-test";
const clock = createTestClock();
const FROM_MS = Date.UTC(2026, 10, 1);

let brikk: GatewayUnderTest;
let secret: string;
let keyId: string;

before(async () => {
  brikk = await startGateway({ clock, environment: { BRIKK_ADMIN_TOKEN: ADMIN_TOKEN } });
  ({ id: keyId, secret } = await brikk.createKey());
  const { database } = brikk.gateway;
  await seedEvents(database, {
    count: EVENTS,
    fromMs: FROM_MS,
    stepMs: Math.floor((clock.now() - FROM_MS) / EVENTS),
    keyIds: [keyId, "bk_other0000001", keyId, "bk_other0000002"],
  });
  await rollUpEvents(database);
  await addDayWindows(database);
});
after(() => brikk.close());

async function get<T>(path: string): Promise<T> {
  const bearer = path.startsWith("/admin") ? ADMIN_TOKEN : secret;
  const response = await fetch(`${brikk.url}${path}`, { headers: { authorization: `Bearer ${bearer}` } });
  assert.equal(response.status, 200);
  return (await response.json()) as T;
}

/** CPU of the whole process per call, the database's thread and the caller included; the first calls warm up. */
async function cpuMsOf(call: () => Promise<unknown>): Promise<number> {
  for (let index = 0; index < 5; index += 1) await call();
  const CALLS = 20;
  const start = process.cpuUsage();
  for (let index = 0; index < CALLS; index += 1) await call();
  const { user, system } = process.cpuUsage(start);
  return (user + system) / 1_000 / CALLS;
}

test("with a million usage events /usage/me takes less than 20 ms of CPU, and is right", async (t) => {
  const cpuMs = await cpuMsOf(() => get("/usage/me"));
  t.diagnostic(`/usage/me: ${cpuMs.toFixed(2)} ms of CPU`);
  assert.ok(cpuMs < 20, `${cpuMs} ms`);
  const usage = await get<{ this_month: { cost_usd: number; requests: number } }>("/usage/me");
  const [sum] = await brikk.all(`select sum(cost_nano_usd) as cost from usage_events where key_id = '${keyId}'`);
  assert.equal(usage.this_month.requests, EVENTS / 2);
  assert.equal(usage.this_month.cost_usd, Number(sum?.["cost"]) / 1e9);
});

test("with a million usage events a month by hour is drawn from the roll-ups", async (t) => {
  const path = "/usage/me/timeseries?from=2026-11-01&to=2026-11-24&group_by=model";
  const cpuMs = await cpuMsOf(() => get(path));
  t.diagnostic(`timeseries of a month by hour and model: ${cpuMs.toFixed(2)} ms of CPU`);
  const { points } = await get<{ points: { requests: number }[] }>(path);
  assert.equal(
    points.reduce((sum, { requests }) => sum + requests, 0),
    EVENTS / 2,
  );
});

test("with a million usage events the sums over all keys are drawn from the roll-ups, by whatever is asked for", async (t) => {
  for (const groupBy of ["key", "provider", "model", "day"]) {
    const path = `/admin/usage?from=2026-11-01&to=2026-11-24&group_by=${groupBy}`;
    const cpuMs = await cpuMsOf(() => get(path));
    t.diagnostic(`/admin/usage by ${groupBy}: ${cpuMs.toFixed(2)} ms of CPU`);
    assert.ok(cpuMs < 200, `${cpuMs} ms`);
    const { total, data } = await get<{ total: { requests: number }; data: { requests: number }[] }>(path);
    assert.equal(total.requests, EVENTS);
    assert.equal(
      data.reduce((sum, { requests }) => sum + requests, 0),
      EVENTS,
    );
  }
  const cpuMs = await cpuMsOf(() => get("/admin/usage/requests?limit=50&outcome=cancelled"));
  t.diagnostic(`a page of /admin/usage/requests: ${cpuMs.toFixed(2)} ms of CPU`);
  assert.ok(cpuMs < 200, `${cpuMs} ms`);
});

interface Page {
  readonly requests: readonly unknown[];
  readonly next_cursor: string | null;
}

test("the last pages of a million requests cost like the first, with a filter or without", async (t) => {
  const deep = Buffer.from(`${FROM_MS + 6 * 3_600_000}.00000000-0000-7000-8000-000000000000`).toString("base64url");
  for (const filter of ["", "&outcome=cancelled", "&model=none"]) {
    const first = await cpuMsOf(() => get(`/usage/me/requests?limit=50${filter}`));
    const last = await cpuMsOf(() => get(`/usage/me/requests?limit=50&cursor=${deep}${filter}`));
    t.diagnostic(`a page${filter}: first ${first.toFixed(2)} ms, deep ${last.toFixed(2)} ms of CPU`);
    assert.ok(last < 5 * first + 5, `first ${first} ms, deep ${last} ms`);
    const page = await get<Page>(`/usage/me/requests?limit=50&cursor=${deep}${filter}`);
    if (filter !== "&model=none") assert.equal(page.requests.length, 50);
    assert.ok(page.next_cursor !== null);
  }
});

test("a million events are verified in one go, and sound", async (t) => {
  const start = performance.now();
  const { checked, faultCount } = await verifyLedger(brikk.gateway.database);
  t.diagnostic(`verified in ${Math.round(performance.now() - start)} ms`);
  assert.deepEqual([faultCount, checked.events], [0, EVENTS]);
});
